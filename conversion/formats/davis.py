"""Folders of frames and label images -> videos with true masks; DAVIS's layout (YouTube-VOS: `youtube_vos`).

ROOT/JPEGImages/<resolution>/<clip>/00000.jpg
ROOT/Annotations/<resolution>/<clip>/00000.png   object ids; 0 is background, 255 is void
ROOT/ImageSets/<year>/<set>.txt                  one clip per line
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conversion.build import NARRATIVES, Conversion
from conversion.export_formats import ExportResult, export_folder, write_frames
from conversion.formats.label_images import Void, object_ids, object_masks, read_labels, void_masks
from conversion.options import BuildOptions
from conversion.simulated_points import SimulationSettings, simulate_points, simulation_settings
from conversion.spool import Item, Spool, SpoolWriter
from conversion.wanted import Wanted
from vng.dataset import Video, VideoObject
from vng.errors import DataError, Problem, UsageError
from vng.frames import ImageFolder, inside, same_form
from vng.label_maps import VOID, object_numbers, write_label_map, write_numbers
from vng.manifest import write_atomic
from vng.masks import RLE, decode_many
from vng.text_files import read_text

FPS = 24.0
_FRAME_LINE = re.compile(r"/?JPEGImages/[^/]+/(?P<clip>[^/]+)/[^/]+\.jpg(\s|$)")
NAME, SPLIT, ANNOTATIONS = "DAVIS", "train", "Annotations"


@dataclass(frozen=True)
class DavisSettings:
    """Clips of a DAVIS folder to convert, and how their objects are read."""

    image_set: str = ""  # below ImageSets/, such as "2017/val"; "" takes every clip
    merge_objects: bool = False  # merge all objects into one, as in DAVIS 2016

    @property
    def split(self) -> str:
        """The split of the rows, named after the image set."""
        return re.sub(r"\W", "_", Path(self.image_set).stem) if self.image_set else SPLIT

    @property
    def first_only(self) -> bool:
        """Whether only the first frame's annotations are published (test-dev, test-challenge)."""
        return self.split.startswith("test")


def davis_clips(root: Path) -> dict[str, Path]:
    """Clip -> its folder of frames, sorted by name; raises DataError for no clips, or a clip in several resolutions."""
    folders = sorted((root / "JPEGImages").glob("*/*/"))
    if not folders:
        raise DataError(
            root, reason="no DAVIS clips in this folder", cure="give the folder that holds JPEGImages/ and Annotations/"
        )
    clips: dict[str, Path] = {}
    for folder in folders:
        if folder.name in clips:
            reason = f"this clip exists twice: in {clips[folder.name].parent.name} and in {folder.parent.name}"
            raise DataError(root, record=folder.name, reason=reason, cure="keep one resolution below JPEGImages/")
        clips[folder.name] = folder
    return dict(sorted(clips.items()))


def image_set_file(root: Path, image_set: str) -> Path:
    """The list file of an image set; raises UsageError for a missing one, naming those available."""
    sets = root / "ImageSets"
    file = sets / (image_set if image_set.endswith(".txt") else f"{image_set}.txt")
    if not file.is_file():
        available = sorted(str(path.relative_to(sets).with_suffix("")) for path in sets.glob("*/*.txt"))
        raise UsageError(f"--image-set {image_set}: not in {sets}; available: {', '.join(available) or 'none'}")
    return file


def listed_clips(file: Path, clips: dict[str, Path], on_problem: Callable[[Problem], None]) -> list[str]:
    """The clips named in an image set's list, in its order; names that are not among `clips` go to `on_problem`.

    A line is a clip, or as in DAVIS 2016 a frame and its annotation: "/JPEGImages/480p/CLIP/00000.jpg /Annotations/...".
    """
    names = []
    forms = {same_form(name): name for name in clips}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not (name := line.strip()):
            continue
        if pair := _FRAME_LINE.match(name):
            name = pair["clip"]
        try:
            inside(file.parent, name)
            if same_form(name) not in forms:
                reason = f"clip {name!r} is not below JPEGImages/"
                raise DataError(file, record=f"line {number}", reason=reason, cure="fetch the clip, or fix the list")
            names.append(forms[same_form(name)])
        except DataError as error:
            on_problem(error.problem)
    return list(dict.fromkeys(names))


def read_davis_clip(
    root: Path,
    folder: Path,
    name: str = NAME,
    split: str = SPLIT,
    settings: DavisSettings | None = None,
    annotations_folder: str = ANNOTATIONS,
) -> tuple[Video, Void]:
    """The record of one clip, and its void; raises DataError for a missing, broken or wrongly sized annotation."""
    settings = settings or DavisSettings()
    frames = ImageFolder(folder, FPS)
    annotations = root / annotations_folder / folder.parent.name / folder.name
    labels: list[np.ndarray | None] = []
    for index, frame in enumerate(frames.names):
        path = annotations / f"{frame}.png"
        left_out = settings.first_only and index > 0 and not path.exists()
        labels.append(None if left_out else read_labels(path, frames.size))
    ids = object_ids(labels)
    # DAVIS 2016 has only the values 0 and 255.
    if not ids and any(VOID in label for label in labels if label is not None):
        labels, ids = [None if label is None else (label == VOID).astype(np.uint8) for label in labels], [1]
    if not ids:
        raise DataError(annotations, reason="no object in any annotation of this clip", cure="fetch the clip again")
    if settings.merge_objects:
        labels, ids = [None if label is None else _merged(label) for label in labels], [1]
    objects = tuple(VideoObject(str(i), "", "davis", object_masks(labels, i, settings.first_only)) for i in ids)
    height, width = frames.size
    video = Video(
        video_id=folder.name,
        dataset=name,
        split=split,
        height=height,
        width=width,
        fps=FPS,
        frame_names=tuple(frames.names),
        narratives=(),
        expressions=(),
        objects=objects,
        frames=frames,
    )
    return video, void_masks(labels)


def _merged(label: np.ndarray) -> np.ndarray:
    return np.where((label > 0) & (label != VOID), np.uint8(1), label)


def davis_conversion(
    options: BuildOptions,
    *,
    root: Path,
    image_set: str = "",
    merge_objects: bool = False,
    simulation: SimulationSettings | None = None,
) -> Conversion:
    """DAVIS folders -> a VNG dataset with true masks, or points simulated from them; no narratives."""
    davis = DavisSettings(image_set, merge_objects)
    name, split = options.dataset or "DAVIS", options.split or davis.split
    clips = davis_clips(root)
    listed = image_set_file(root, image_set) if image_set else None

    def read(spool: SpoolWriter) -> None:
        wanted = Wanted(options)
        for clip in clips if listed is None else listed_clips(listed, clips, spool.problem):
            if wanted.video(clip) and wanted.listed_video(clip):
                spool.add(NARRATIVES, clip, Item(clip, "", None))
        wanted.report_missing(spool, {NARRATIVES: root})

    def make(spool: Spool, clip: str, problems: list[Problem]) -> list[Video]:
        video, void = read_davis_clip(root, clips[clip], name, split, davis)
        return [video if simulation is None else simulate_points(video, void, simulation)]

    more = simulation_settings(simulation, asdict(davis))
    return Conversion(kind="davis", title=name, inputs={"root": root}, options=options, read=read, make=make, more=more)


RESOLUTION, YEAR = "480p", "2017"  # folders that DAVIS's own programs read, for frames of any size


def write_davis(videos: Iterable[Video], out: Path) -> ExportResult:
    """Write DAVIS folders: frames, one label image per frame, one list of videos per split.

    A pixel of several objects is assigned to the first of them. A frame without any mask has no label image; where only
    some objects are annotated, the others appear absent. All three are reported. Raises DataError where `out` holds
    other files.
    """
    sets: dict[str, list[str]] = {}
    with export_folder(out) as export:
        for video in videos:
            try:
                _check_clip(video)
                _write_clip(video, object_numbers(video), out, export)
            except DataError as error:
                export.problems.append(error.problem)
                continue
            sets.setdefault(video.split, []).append(video.video_id)
            export.count(video)
        for split, names in sets.items():
            write_atomic(out / "ImageSets" / YEAR / f"{split}.txt", "".join(f"{name}\n" for name in names))
    return export


def _check_clip(video: Video) -> None:
    inside(Path(video.dataset), video.video_id)
    if len(Path(video.video_id).parts) > 1 or "\n" in video.video_id:
        raise DataError(
            video.dataset,
            record=video.video_id,
            field="video_id",
            reason="this is not a valid folder name of a clip",
            cure="rename it",
        )
    if not video.objects:
        raise DataError(video.dataset, record=video.video_id, field="objects", reason="no object: nothing to write")


def _write_clip(video: Video, numbers: dict[str, int], out: Path, export: ExportResult) -> None:
    if video.frames is None:
        export.report(video, "frames", "this video has no frames: only its label images are written")
    else:
        write_frames(video.frames, video.frame_names, out / "JPEGImages" / RESOLUTION / video.video_id)
    folder = out / "Annotations" / RESOLUTION / video.video_id
    folder.mkdir(parents=True, exist_ok=True)
    unlabelled, partial, shared = 0, 0, 0
    for index, name in enumerate(video.frame_names):
        annotated = {item.object_id: rle for item in video.objects if (rle := item.segmentations[index]) is not None}
        unlabelled += not annotated
        partial += 0 < len(annotated) < len(video.objects)
        if annotated:
            masks, doubled = _exclusive(list(annotated.values()))
            shared += doubled
            write_label_map(folder / f"{name}.png", masks, [numbers[key] for key in annotated])
    write_numbers(folder, numbers)
    for number, reason in (
        (unlabelled, "frames without any mask have no label image"),
        (partial, "frames annotate only some of the objects: the others appear absent there"),
        (shared, "pixels of several objects are assigned to the first of them"),
    ):
        if number:
            export.report(video, "objects", f"{number} {reason}")


def _exclusive(rles: list[RLE]) -> tuple[np.ndarray, int]:
    """Masks bool [K, H, W] in which pixels of several objects belong to the first, and the number of such pixels."""
    masks = decode_many(rles)
    before = np.cumsum(masks, 0) - masks
    return masks & (before == 0), int((masks.sum(0) > 1).sum())
