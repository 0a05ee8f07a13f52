"""Label Studio's JSON export, as own clips.

[{"data": {"image"|"video": URL}, "annotations": [{"was_cancelled", "ground_truth", "result": [region, ...]}]}, ...]

A region is {id, type, value, original_width, original_height}; what it is, its value tells: `sequence` (boxes of a video),
`rle` (brush), `points` (polygon), `radiusX` (ellipse), `width` and `height` (rectangle), `x` and `y` alone (key point).
Numbers are percent of the frame's sides. docs/formats.md says what becomes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from conversion.formats.drawn import (
    MOST_FRAMES,
    XY,
    DrawnClip,
    Notes,
    around,
    ellipse_mask,
    finished,
    labelled,
    polygon_mask,
    problem_of,
    turned,
)
from conversion.formats.jsonio import OnProblem
from vng.errors import DataError
from vng.masks import RLE, encode, is_size
from vng.own_clips import PERCENT, Frame, OwnClip
from vng.points import NEGATIVE
from vng.records import Reader
from vng.text_files import load_json

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".ogg")
WHOLE_FRAME = (100.0, 100.0)
Corners = tuple[float, float, float, float]
WORD = 8  # bits of a brush's values
CHANNELS = 4  # of a brush: red, green, blue, opacity
EXPORT = "export the project as JSON (not JSON-MIN)"
FIX = "correct or delete this region in Label Studio"


def read_label_studio(path: Path, on_problem: OnProblem) -> Iterator[OwnClip]:
    """The clips of an export: one for each video, each folder of images, and each image without a folder.

    Args:
        path: the JSON file.
        on_problem: receives regions with mistakes, which are left out, and one note of each kind of thing not read.

    Raises:
        DataError: there is no such file, it is broken, has another layout, or nothing is drawn in it.
    """
    tree = load_json(path)
    clips: dict[str, DrawnClip] = {}
    notes = Notes(path, on_problem)
    for index, task in enumerate(tree if isinstance(tree, list) else [tree]):
        try:
            reader = Reader(task, path, f"task {index}")
            _Task(reader, clips, notes, on_problem).read()
        except DataError as error:
            on_problem(error.problem)
    notes.tell()
    yield from finished(clips, path, EXPORT)


class _Task:
    """One task: a video or an image, and what was drawn in it."""

    def __init__(self, reader: Reader, clips: dict[str, DrawnClip], notes: Notes, on_problem: OnProblem) -> None:
        self.reader, self.clips, self.notes, self.on_problem = reader, clips, notes, on_problem
        self.file, self.record = Path(reader.file), reader.record
        if isinstance(reader.value.get("id"), int):
            self.record = f"task {str(reader.value['id'])[:20]}"
        self.frame: Frame = 0
        self.clip = DrawnClip(self.file, "", "", "")
        self.frames = 0  # told of without a keyframe

    def read(self) -> None:
        """Add all regions to the clip of the task's medium; raises DataError where the task cannot be used."""
        regions = self._regions()
        if not regions:
            self.notes.add("a task without annotation is not read")
            return
        self._open(_medium(self.reader))
        names = {str(r.value.get("id")): name for r in regions if (name := _label(r))}
        seen: set[str] = set()
        for region in regions:
            key = str(region.value.get("id"))
            if "id" in region.value and key in seen:
                continue  # the same shape again, with another kind of label
            try:
                if self._region(region, names.get(key, "")):
                    seen.add(key)
            except (ValueError, DataError) as error:
                self.on_problem(problem_of(self.file, region.record, error, FIX))

    def _regions(self) -> list[Reader]:
        """The regions of the annotation that counts: the ground truth, else the first that was not cancelled."""
        if "annotations" not in self.reader.value:
            raise self.reader.error("annotations", "this key is missing", EXPORT)
        given = [item for item in self.reader.children("annotations") if not item.value.get("was_cancelled")]
        if len(given) > 1:
            self.notes.add("a second annotation of a task is not read: the ground truth counts, else the first")
        if self.reader.value.get("predictions"):
            self.notes.add("predictions are not read")
        chosen = next((item for item in given if item.value.get("ground_truth")), given[0] if given else None)
        if chosen is None:
            return []
        values = chosen.get("result", list)
        return [Reader(value, self.file, f"{self.record}: region {i}") for i, value in enumerate(values)]

    def _open(self, name: str) -> None:
        path = PurePosixPath(name)
        video = name
        if path.suffix.lower() in IMAGES and str(path.parent) != ".":
            video, self.frame = str(path.parent), path.stem
        made = DrawnClip(self.file, video, PurePosixPath(video).stem, self.record, PERCENT)
        self.clip = self.clips.setdefault(video, made)

    def _region(self, region: Reader, name: str) -> bool:
        """Add a region; returns False for one without a place, such as a choice."""
        if not isinstance(region.value.get("value"), dict):
            self.notes.add(f"a {str(region.value.get('type'))[:40]} is not read")
            return False
        value = region.child("value")
        has = value.value.keys()
        sign = None
        if "sequence" in has:
            self._sequence(region, value, name)
            return True
        if {"x", "y"} <= has and not {"height", "radiusX"} & has:  # its width is that of the drawn dot
            name, sign = labelled(name)
        key = name or str(region.value.get("id", region.record))
        if isinstance(region.value.get("meta"), dict) and (text := region.value["meta"].get("text")):
            key = f"{key}-{''.join(map(str, text)) if isinstance(text, list) else text}"
        if {"x", "y", "rle", "points"} & has and _number(region, "image_rotation", 0):
            self.clip.spoil(key, name, self.frame)
            raise region.error("image_rotation", "the image was turned in Label Studio", "turn the image itself")
        try:
            return self._shape(region, value, key, name, sign)
        except (ValueError, DataError):
            self.clip.spoil(key, name, self.frame)
            raise

    def _shape(self, region: Reader, value: Reader, key: str, name: str, sign: int | None) -> bool:
        """Add the shape of an image."""
        has = value.value.keys()
        if sign is not None:
            if region.value.get("is_positive") in (0, False):
                sign = NEGATIVE
            self.clip.point(key, name, self.frame, (_number(value, "x"), _number(value, "y")), sign)
        elif "rle" in has:
            self.clip.mask(key, name, self.frame, brush_mask(value.items("rle", int), self._size(region)))
        elif "points" in has:
            outline = [_pair(value, point, self._size(region)) for point in value.get("points", list)]
            self.clip.mask(key, name, self.frame, polygon_mask([outline], self._size(region)))
        elif "radiusX" in has:
            self.clip.mask(key, name, self.frame, self._ellipse(value, self._size(region)))
        elif {"x", "y", "width", "height"} <= has:
            size = self._size(region) if _number(value, "rotation", 0) else (100, 100)
            self.clip.box(key, name, self.frame, _box(value, size))
        else:
            self.notes.add(f"a {str(region.value.get('type'))[:40]} is not read")
            return False
        return True

    def _size(self, region: Reader) -> tuple[int, int]:
        size = region.side("original_height"), region.side("original_width")
        self.clip.sized(size)
        return size

    def _ellipse(self, value: Reader, size: tuple[int, int]) -> RLE:
        x, y, across, along = (_number(value, key) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        middle, radii = (x * size[1], y * size[0]), (across * size[1], along * size[0])
        return ellipse_mask(middle, radii, _number(value, "rotation", 0), size)

    def _sequence(self, region: Reader, value: Reader, name: str) -> None:
        """The boxes of an object of a video: key frames, the frames between them, and those in which it is gone."""
        key = str(region.value.get("id", region.record))
        stop = value.get("framesCount", int, 0)
        if stop:
            self.clip.count = min(stop, 1 << 26) if stop > 0 else None
        # A key frame without `enabled` ends the object's life there, until the next one.
        boxes, absent = dict[int, Corners](), list[int]()
        frames = sorted(value.children("sequence"), key=lambda item: item.get("frame", int))
        for item, after in zip(frames, [*frames[1:], None], strict=True):
            first = item.get("frame", int)
            last = after.get("frame", int) if after is not None else max(first, stop) + 1
            self.frames += last - first
            if not 1 <= first < last or self.frames > MOST_FRAMES:
                reason = (
                    f"key frames {first} and {last}: expected frames from 1, each once, at most {MOST_FRAMES} of all"
                )
                raise item.error("frame", reason, FIX)
            boxes[first - 1] = _box(item, self._turned_size(region, item))
            between = range(first + 1, last)
            if not item.get("enabled", bool, True):
                absent += [frame - 1 for frame in between]
                continue
            for frame in between:
                share = 0.0 if after is None else (frame - first) / (last - first)
                boxes[frame - 1] = _box(_blend(item, after, share), self._turned_size(region, item))
        for number, corners in boxes.items():  # all of a region, or nothing
            self.clip.box(key, name, number, corners)
        self.clip.absent(key, name, absent)

    def _turned_size(self, region: Reader, item: Reader) -> tuple[int, int]:
        return self._size(region) if _number(item, "rotation", 0) else (100, 100)


def _blend(first: Reader, second: Reader | None, share: float) -> Reader:
    """The box between two key frames."""
    if second is None or not share:
        return first
    values = {}
    for key in ("x", "y", "width", "height", "rotation"):
        a, b = (_number(item, key, 0 if key == "rotation" else None) for item in (first, second))
        values[key] = a + share * (b - a)
    return Reader(values, first.file, first.record, first.path)


def _number(reader: Reader, key: str, default: float | None = None) -> float:
    value = reader.optional(key, float)
    if value is None:
        if default is None:
            raise reader.error(key, "this key is missing")
        return default
    return float(value)


def _pair(value: Reader, point: Any, size: tuple[int, int]) -> XY:
    if not isinstance(point, list) or len(point) != 2:
        raise value.error("points", f"expected pairs [x, y], got {str(point)[:40]}")
    pair = Reader(dict(zip("xy", point, strict=True)), value.file, value.record, f"{value.path}.points")
    return _number(pair, "x") / 100 * size[1], _number(pair, "y") / 100 * size[0]


def _box(value: Reader, size: tuple[int, int]) -> Corners:
    """The edges of an upright box in percent; one that was turned about its corner, in pixels of `size`, is enclosed."""
    x, y, width, height = (_number(value, key) for key in ("x", "y", "width", "height"))
    if not (width > 0 and height > 0):
        raise value.error("width", f"a box of {width:g}x{height:g} percent", FIX)
    scale = np.array([size[1], size[0]]) / 100
    corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]) * scale
    if angle := _number(value, "rotation", 0):
        corners = np.array(turned([tuple(corner) for corner in corners], angle, tuple(corners[0])))
    return around([tuple(corner) for corner in corners / scale], WHOLE_FRAME)


def _label(region: Reader) -> str:
    """The label of a region: the first text of the list that is called as its type, or of `labels`."""
    value = region.value.get("value")
    if not isinstance(value, dict):
        return ""
    for key in (str(region.value.get("type", "")), "labels"):
        names = value.get(key)
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return ""


def _medium(reader: Reader) -> str:
    """The path, below the folder of frames, of the image or video of a task."""
    urls = [value for value in reader.child("data").value.values() if isinstance(value, str)]
    paths = [path for url in urls if (path := local_path(url)).lower().endswith(IMAGES + VIDEOS)]
    if not paths:
        raise reader.error(
            "data", "no image and no video of a kind that is known", f"have {', '.join(IMAGES + VIDEOS)}"
        )
    return paths[0]


def local_path(url: str) -> str:
    """Where the file of a URL lies: below the document root, the bucket or the host; of an upload, its own name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.path.endswith("/local-files/"):
        return parse_qs(parts.query).get("d", [""])[0].lstrip("/")
    path = unquote(parts.path).lstrip("/")
    if upload := re.fullmatch(r"(?:data/)?upload/\d+/(?:[0-9a-f]{8}-)?(.+)", path):
        return upload[1]
    return path


def brush_mask(rle: list[int], size: tuple[int, int]) -> RLE:
    """The mask of a brush, whose opacity is above 0.

    The bytes hold, bit by bit: 32 bits number of values, 5 bits of a value less one, four times 4 bits of a length less
    one; then groups: 1 bit whether one value repeats, 2 bits which of the four lengths, the number of values less one, the
    value or values. Values are red, green, blue, opacity of each pixel, row by row (thi.ng/rle-pack).

    Raises:
        ValueError: bytes that are none, end too early, or hold another number of values than the image.
    """
    if not is_size(size):
        raise ValueError(f"frames of {size[1]}x{size[0]}")
    if not all(0 <= byte < 256 for byte in rle):
        raise ValueError("rle: expected bytes from 0 to 255")
    bits = _Bits(bytes(rle))
    count, word = bits.read(32), bits.read(5) + 1
    lengths = [bits.read(4) + 1 for _ in range(4)]
    height, width = size
    if count != height * width * CHANNELS or word != WORD:
        expected = height * width * CHANNELS
        raise ValueError(f"rle: {count} values of {word} bits, an image of {width}x{height} has {expected} of {WORD}")
    values, at = np.zeros(count, np.uint8), 0
    while at < count:
        repeats, length = bits.read(1), bits.read(lengths[bits.read(2)]) + 1
        if at + length > count:
            raise ValueError("rle: more values than the image has")
        values[at : at + length] = bits.read(word) if repeats else bits.octets(length)
        at += length
    return encode(values[CHANNELS - 1 :: CHANNELS].reshape(height, width) > 0)


class _Bits:
    """Reads numbers of some bits from bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _taken(self, bits: int) -> bytes:
        start, stop = self._at // 8, (self._at + bits + 7) // 8
        if stop > len(self._data):
            raise ValueError("rle: it ends too early")
        return self._data[start:stop]

    def read(self, bits: int) -> int:
        """The next number."""
        taken = self._taken(bits)
        end = self._at + bits
        self._at = end
        return int.from_bytes(taken, "big") >> (-end % 8) & ((1 << bits) - 1)

    def octets(self, count: int) -> np.ndarray:
        """The next numbers of eight bits, uint8 [count]."""
        taken, shift = np.frombuffer(self._taken(8 * count), np.uint8), self._at % 8
        self._at += 8 * count
        if not shift:
            return taken
        return (taken[:-1] << shift) | (taken[1:] >> (8 - shift))
