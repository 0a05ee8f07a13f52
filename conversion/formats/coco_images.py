"""COCO instances on images: a file of masks, boxes and key points, as own clips; and datasets as such files.

{"images": [{id, file_name, height, width}], "categories": [{id, name, keypoints?}],
 "annotations": [{id, image_id, category_id, segmentation, bbox, keypoints?, track_id?}]}

Images in one folder of `file_name` are the frames of one video. `youtube_vis` reads the other layout of COCO's kind, whose
lists hold videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from conversion.export_formats import ExportResult, export_folder, write_frames
from conversion.formats.drawn import XY, DrawnClip, Notes, around, finished, polygon_mask, problem_of
from conversion.formats.json_stream import iterate_json_sections
from conversion.formats.jsonio import JsonSection, OnProblem, write_json_sections
from vng.dataset import Video
from vng.errors import DataError
from vng.frames import as_path, inside
from vng.masks import RLE, area, bounding_box, from_json
from vng.own_clips import WHOLE, OwnClip, corners_of_edges
from vng.points import AMBIGUOUS, POSITIVE
from vng.records import Reader, any_id

OBJECT_KEYS = ("object_id", "track_id", "instance_id")  # of an annotation or of its `attributes`
ABSENT = "absent_objects"  # ours, of an image: object ids
VISIBILITY = {1: AMBIGUOUS, 2: POSITIVE}  # 0: not labelled; 1: hidden, so that the pixel shows something else
NAMELESS = "object"  # the category of objects without a name
FIX = "correct or delete this annotation"


@dataclass(frozen=True)
class _Image:
    """An entry of "images"."""

    clip: DrawnClip
    frame: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Category:
    """An entry of "categories"."""

    name: str
    keypoints: tuple[str, ...]


def read_coco_images(path: Path, on_problem: OnProblem) -> Iterator[OwnClip]:
    """The clips of a file: one for each folder of its images.

    Args:
        path: the JSON file.
        on_problem: receives entries with mistakes, which are left out, and one note of each kind of thing not read.

    Raises:
        DataError: there is no such file, it is broken, is in YouTube-VIS layout, or nothing is drawn in it.
    """
    reader = _Reader(path, on_problem)
    for section, place, value in iterate_json_sections(path, ("videos", "images", "categories")):
        reader.head(section, place, value)
    for _, place, value in iterate_json_sections(path, ("annotations",)):
        reader.annotation(place, value)
    reader.end()
    yield from finished(reader.clips, path, "give the file of instances, with images and annotations")


class _Reader:
    """Gathers the clips of a file."""

    def __init__(self, path: Path, on_problem: OnProblem) -> None:
        self.path, self.on_problem, self.notes = path, on_problem, Notes(path, on_problem)
        self.clips: dict[str, DrawnClip] = {}
        self._images: dict[str, _Image] = {}
        self._categories: dict[str, _Category] = {}
        self._absent: list[tuple[DrawnClip, str, str]] = []  # clip, object, frame

    def head(self, section: str, place: str, value: Any) -> None:
        """Read an image or a category; raises DataError for a video with a list of frames, which COCO's images have not."""
        if section == "videos":
            if isinstance(value, dict) and "file_names" in value:
                reason = "this file is in YouTube-VIS layout: its videos list their frames"
                raise DataError(
                    self.path, record=place, reason=reason, cure="use `vng convert youtube-vis --masks FILE`"
                )
            return
        try:
            reader = Reader(value, self.path, place)
            if section == "images":
                self._image(reader)
            else:
                names = reader.items("keypoints", str) if reader.value.get("keypoints") else []
                self._categories[any_id(reader, "id")] = _Category(reader.get("name", str), tuple(names))
        except DataError as error:
            self.on_problem(error.problem)

    def _image(self, reader: Reader) -> None:
        key = any_id(reader, "id")
        if key in self._images:
            raise reader.error("id", f"another image has the id {key}", "give each image an id of its own")
        name = as_path(reader.get("file_name", str))
        video = name.parent.as_posix()
        video_id = self.path.stem if video == WHOLE else name.parent.name
        clip = self.clips.setdefault(video, DrawnClip(self.path, video, video_id, f"images of {video}"))
        size = reader.side("height"), reader.side("width")
        try:
            clip.sized(size)
        except ValueError as error:
            raise reader.error("height", str(error), "put images of one size into a folder") from error
        self._images[key] = _Image(clip, name.stem, size)
        if ABSENT in reader.value:
            self._absent += [(clip, item, name.stem) for item in reader.items(ABSENT, str)]

    def annotation(self, place: str, value: Any) -> None:
        """Read an annotation."""
        try:
            reader = Reader(value, self.path, place)
            key = any_id(reader, "image_id")
            if key not in self._images:
                raise reader.error("image_id", f"no usable image of this file has the id {key}")
            self._shapes(reader, self._images[key])
        except (ValueError, DataError) as error:
            self.on_problem(problem_of(self.path, place, error, FIX))

    def end(self) -> None:
        """Add what has to wait for the annotations, and report what was not read."""
        for clip, key, frame in self._absent:
            clip.absent(key, "", [frame])
        self.notes.tell()

    def _shapes(self, reader: Reader, image: _Image) -> None:
        key, category = self._object(reader), _Category("", ())
        if reader.value.get("category_id") is not None:
            number = any_id(reader, "category_id")
            if number not in self._categories:
                self.notes.add("a category that is not among the categories is no name")
            category = self._categories.get(number, category)
        if reader.value.get("iscrowd"):
            self.notes.add("a crowd is read as one object: tools mark masks as crowds only to write them as RLE")
        clip, frame = image.clip, image.frame
        try:
            rle = _mask(reader, image.size)
            if rle is not None:
                clip.mask(key, category.name, frame, rle)
            elif (box := reader.optional("bbox", list)) is not None:
                clip.box(key, category.name, frame, _corners(reader, box, image.size))
            for xy, label in _keypoints(reader):
                clip.point(key, category.name, frame, xy, label)
        except (ValueError, DataError):
            clip.spoil(key, category.name, frame)
            raise

    def _object(self, reader: Reader) -> str:
        """The id of an object in all frames: that of its track, else that of the annotation."""
        places = [reader]
        if isinstance(reader.value.get("attributes"), dict):
            places.append(reader.child("attributes"))
            for name in sorted(set(places[1].value) - set(OBJECT_KEYS)):
                self.notes.add(f"the attribute {name[:60]!r} is not read")
        for key in OBJECT_KEYS:
            for place in places:
                if place.value.get(key) is not None:
                    return any_id(place, key)
        return any_id(reader, "id")


def _mask(reader: Reader, size: tuple[int, int]) -> RLE | None:
    """The mask of an annotation: polygons, or RLE as a list or as text; None where it has none."""
    value = reader.value.get("segmentation")
    if not value:
        return None
    if isinstance(value, dict):
        rle = from_json(value)
        if rle is not None and rle.size != size:
            raise ValueError("a mask of {}x{}, ".format(*rle.size) + "the image has {}x{}".format(*size))
        return rle
    outlines = []
    for index, numbers in enumerate(reader.items("segmentation", list)):
        sides = Reader({"": numbers}, reader.file, reader.record, f"segmentation[{index}]").items("", float)
        if len(sides) % 2:
            raise reader.error(f"segmentation[{index}]", "an odd number of coordinates", FIX)
        outlines.append(list(zip(sides[::2], sides[1::2], strict=True)))
    return polygon_mask(outlines, size)


def _corners(reader: Reader, box: list[Any], size: tuple[int, int]) -> tuple[float, float, float, float]:
    if len(box) != 4:
        raise reader.error("bbox", f"expected [x, y, width, height], got {len(box)} numbers")
    x, y, width, height = reader.items("bbox", float)
    if not (width > 0 and height > 0):
        raise reader.error("bbox", f"a box of {width:g}x{height:g} pixels", FIX)
    return corners_of_edges(*around([(x, y), (x + width, y + height)], size))


def _keypoints(reader: Reader) -> Iterator[tuple[XY, int]]:
    """Labelled key points, in centres of pixels as COCO counts them."""
    if not reader.value.get("keypoints"):
        return
    numbers = reader.items("keypoints", float)
    if len(numbers) % 3:
        raise reader.error("keypoints", f"{len(numbers)} numbers: three for each key point", FIX)
    for x, y, seen in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if seen in VISIBILITY:
            yield (x, y), VISIBILITY[int(seen)]
        elif seen != 0:
            raise reader.error("keypoints", f"v is 0, 1 or 2, got {seen:g}", FIX)


def write_coco_images(videos: Iterable[Video], out: Path, with_frames: bool = False) -> ExportResult:
    """Write one JSON file per split: each frame an image, each mask of an object an annotation with RLE and `track_id`.

    A frame in which an object is not annotated has no annotation of it. One in which it is absent has neither, but names it
    in `absent_objects`, which is ours. Memory holds one video.

    Args:
        videos: the dataset.
        out: an empty folder.
        with_frames: write the frames too, to images/, which `file_name` is relative to.
    """
    with export_folder(out) as export:
        files: dict[str, _Writer] = {}
        for video in videos:
            try:
                if with_frames:
                    write_frames(video.opened_frames(), video.frame_names, inside(out / "images", video.video_id))
            except DataError as error:
                export.problems.append(error.problem)
                continue
            if video.split not in files:
                files[video.split] = _Writer(out)
            files[video.split].add(video)
            export.count(video)
        for split, writer in files.items():
            writer.finish(inside(out, f"{split}.json"))
    return export


class _Writer:
    """Writer of one file."""

    def __init__(self, folder: Path) -> None:
        self._images, self._annotations = JsonSection(folder), JsonSection(folder)
        self._categories: dict[str, int] = {}
        self._image_ids, self._ids, self._tracks = count(1), count(1), count(1)

    def add(self, video: Video) -> None:
        """Write one video."""
        tracks = [next(self._tracks) for _ in video.objects]
        for index, name in enumerate(video.frame_names):
            image_id = next(self._image_ids)
            image = {"id": image_id, "file_name": f"{video.video_id}/{name}.jpg"}
            image |= {"height": video.height, "width": video.width}
            absent = []
            for item, track in zip(video.objects, tracks, strict=True):
                rle = item.segmentations[index]
                if rle is not None and not area(rle):
                    absent.append(item.object_id)
                elif rle is not None:
                    category = self._categories.setdefault(item.name or NAMELESS, len(self._categories) + 1)
                    names = {"track_id": track, "object_id": item.object_id}
                    entry = {"id": next(self._ids), "image_id": image_id, "category_id": category} | names
                    self._annotations.add(
                        entry | _measured(rle) | {"attributes": names}
                    )  # CVAT and Datumaro keep these
            self._images.add(image | ({ABSENT: absent} if absent else {}))

    def finish(self, path: Path) -> None:
        """Write the file."""
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        sections = {"images": self._images, "annotations": self._annotations, "categories": categories}
        write_json_sections(sections, path)


def _measured(rle: RLE) -> dict[str, Any]:
    return {"segmentation": rle.as_dict(), "area": area(rle), "bbox": bounding_box(rle), "iscrowd": 0}
