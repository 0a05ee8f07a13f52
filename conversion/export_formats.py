"""Export of a VNG dataset to other formats: the table of formats, and the code that all exports share.

A format writes what it can hold. The rest is left out and reported, also in `problems.jsonl` beside the export.
A new format is a function `write_...(videos, out, ...) -> ExportResult` in `conversion/formats/`, and one line in
`FORMATS`. Results of predictions have two layouts, `RESULT_FORMATS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from vng.dataset import Video, VngDataset
from vng.errors import PROBLEMS_FILE, DataError, Problem, UsageError, as_lines, one_of
from vng.frames import Frames, encode_jpeg
from vng.manifest import check_folder, write_atomic

# name -> "module:function"
FORMATS = {
    "official": "conversion.formats.official_export:export_trio",
    "davis": "conversion.formats.davis:write_davis",
    "coco": "conversion.formats.youtube_vis:write_youtube_vis",
    "point-png": "conversion.formats.point_pngs:write_point_pngs",
    "own": "conversion.formats.own_clips:write_own_clips",
    "cvat": "conversion.formats.cvat_export:write_cvat",
    "coco-images": "conversion.formats.coco_images:write_coco_images",
}
# Of results instead of datasets: name -> "module:function"
RESULT_FORMATS = {
    "png": "conversion.result_layouts:compact_to_png",
    "compact": "conversion.result_layouts:png_to_compact",
}
WITH_FRAMES = ("coco", "own", "cvat", "coco-images")  # formats that write frames on demand
UNFINISHED = ".unfinished"  # a file that exists while an export is being written
_JPEG = b"\xff\xd8"


@dataclass
class ExportResult:
    """Totals, problems and files of an export.

    Attributes:
        totals: counts by name.
        problems: data that was left out ("error") or lost ("note").
        files: the files written, where they are few.
    """

    totals: Counter[str] = field(default_factory=lambda: Counter(videos=0, objects=0, masks=0))
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def report(self, video: Video, where: str, reason: str, kind: str = "note") -> None:
        """Add a problem with a video."""
        self.problems.append(Problem(video.dataset, record=video.video_id, field=where, reason=reason, kind=kind))

    def count(self, video: Video, holds: Iterable[str] = ()) -> None:
        """Count a written video, and report its narratives and points as lost unless `holds` names them."""
        masks = sum(rle is not None for item in video.objects for rle in item.segmentations)
        self.totals.update(videos=1, objects=len(video.objects), masks=masks)
        lost = {"narratives": len(video.narratives), "points": sum(len(item.points) for item in video.objects)}
        dropped = [f"{number} {name}" for name, number in lost.items() if number and name not in holds]
        if dropped:
            self.report(video, "", f"{' and '.join(dropped)} are not written: this format does not support them")


def export_dataset(
    dataset: VngDataset | str | Path,
    format: str,
    out: str | Path,
    *,
    split: str | None = None,
    with_frames: bool = False,
    progress: bool = True,
) -> ExportResult:
    """Write a dataset in another format; see `conversion.export`."""
    from tqdm import tqdm

    formats = FORMATS | RESULT_FORMATS
    module, _, function = formats[one_of(format, formats, "export format")].partition(":")
    if format in RESULT_FORMATS:
        if split is not None or with_frames or isinstance(dataset, VngDataset):
            raise UsageError(f"--format {format} takes a folder of results, and neither --split nor --with-frames")
        return getattr(import_module(module), function)(Path(dataset), Path(out), progress)
    if with_frames and format not in WITH_FRAMES:
        raise UsageError(
            f"--with-frames requires --format {', '.join(WITH_FRAMES)}; davis always writes frames, the others never"
        )
    source = dataset if isinstance(dataset, VngDataset) else VngDataset(dataset, split)
    videos = tqdm(source, total=len(source), desc="export", unit="video", disable=not progress)
    more: dict[str, Any] = {"with_frames": True} if with_frames else {}
    return getattr(import_module(module), function)(videos, Path(out), **more)


@contextmanager
def export_folder(out: Path) -> Iterator[ExportResult]:
    """An empty folder for an export, marked as unfinished until it is complete; an interrupted export starts again."""
    check_folder(out)
    if out.exists() and any(out.iterdir()) and not (out / UNFINISHED).exists():
        raise DataError(out, reason="this folder holds something else", cure="choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / UNFINISHED).touch()
    yield (export := ExportResult())
    (out / PROBLEMS_FILE).unlink(missing_ok=True)
    if export.problems:
        write_atomic(out / PROBLEMS_FILE, as_lines(export.problems))
    (out / UNFINISHED).unlink()


def write_frames(frames: Frames, names: Iterable[str], folder: Path) -> None:
    """Write frames as JPEGs; frames that are already JPEGs are copied byte by byte."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        data = frames.encoded(index)
        (folder / f"{name}.jpg").write_bytes(data if data.startswith(_JPEG) else encode_jpeg(frames[index]))
