"""Datasets as CVAT's XML 1.1 "for video": one file for each video, which `cvat` reads back.

CVAT keeps masks of single frames only, so each mask is a track of its own frame, as CVAT itself writes it. One track of
boxes for each object says where it is, where it is not (`outside`), and with `annotated` where nobody looked. Points are
tracks of single frames, too. The attribute `object_id` tells which tracks are one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import quoteattr

from conversion.export_formats import ExportResult, export_folder, write_frames
from conversion.formats.cvat import ANNOTATED, OBJECT_ID, POINT
from conversion.formats.cvat_shapes import mask_runs
from conversion.formats.drawn import LABELS
from vng.dataset import Video, VideoObject
from vng.errors import DataError
from vng.frames import inside
from vng.manifest import open_atomic
from vng.masks import RLE, area, bounding_box, decode

NAMELESS = "object"  # the label of objects without a name
LABEL_NAMES = {label: name for name, label in LABELS.items()}
# Attributes of every label: name, kind, default, values.
DECLARED = (
    (OBJECT_ID, "text", "", ""),
    (POINT, "select", "positive", "\n".join(LABELS)),
    (ANNOTATED, "checkbox", "true", "true"),
)


def write_cvat(videos: Iterable[Video], out: Path, with_frames: bool = False) -> ExportResult:
    """Write `VIDEO.xml` for each video; CVAT takes one with a task of the video's frames, in order.

    Args:
        videos: the dataset.
        out: an empty folder.
        with_frames: write the frames too, to `VIDEO/`: frames are numbered as the row has them, from 0.
    """
    with export_folder(out) as export:
        for video in videos:
            try:
                problem = _unwritable(video)
                if problem:
                    raise DataError(video.dataset, record=video.video_id, reason=problem, cure="rename it")
                if with_frames:
                    write_frames(video.opened_frames(), video.frame_names, inside(out, video.video_id))
            except DataError as error:
                export.problems.append(error.problem)
                continue
            path = inside(out, f"{video.video_id}.xml")
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_atomic(path) as file:
                _Writer(file).write(video)
            export.count(video, holds=("points",))
            for item in video.objects:
                if not item.points and not any(item.segmentations):
                    export.report(video, item.object_id, "an object without masks and points is not written")
    return export


def _unwritable(video: Video) -> str:
    texts = [video.video_id, *(text for item in video.objects for text in (item.object_id, item.name))]
    for text in texts:
        if any(ord(character) < 32 or character in "\ufffe\uffff" for character in text):
            return f"XML cannot hold all characters of {text[:40]!r}"
    return ""


class _Writer:
    """Writes the document of a video."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._tracks = 0

    def write(self, video: Video) -> None:
        """Write it."""
        self._file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        self._meta(video)
        for item in video.objects:
            self._object(item, len(video.frame_names))
        self._file.write("</annotations>\n")

    def _meta(self, video: Video) -> None:
        count = len(video.frame_names)
        values = {"name": video.video_id, "size": count, "mode": "interpolation"}
        values |= {"start_frame": 0, "stop_frame": count - 1, "frame_filter": ""}
        self._file.write("  <meta>\n    <task>\n")
        for key, value in values.items():
            self._file.write(f"      <{key}>{_text(value)}</{key}>\n")
        self._file.write("      <labels>\n")
        for label in dict.fromkeys(item.name or NAMELESS for item in video.objects):
            self._file.write(f"        <label><name>{_text(label)}</name><attributes>\n")
            for name, kind, default, values_of in DECLARED:
                parts = {"name": name, "mutable": "True", "input_type": kind}
                parts |= {"default_value": default, "values": values_of}
                inner = "".join(f"<{key}>{_text(value)}</{key}>" for key, value in parts.items())
                self._file.write(f"          <attribute>{inner}</attribute>\n")
            self._file.write("        </attributes></label>\n")
        size = f"<width>{video.width}</width><height>{video.height}</height>"
        self._file.write(f"      </labels>\n      <original_size>{size}</original_size>\n    </task>\n  </meta>\n")

    def _object(self, item: VideoObject, count: int) -> None:
        self._track(item, _boxes(item.segmentations))
        for frame, rle in enumerate(item.segmentations):
            if rle is not None and area(rle):
                self._single(item, "mask", frame, count, _mask(rle), {})
        points = zip(item.points.frame.tolist(), item.points.xy.tolist(), item.points.label.tolist(), strict=True)
        grouped: dict[tuple[int, int], list[str]] = {}
        for frame, (x, y), label in points:
            grouped.setdefault((frame, label), []).append(f"{_coordinate(x)},{_coordinate(y)}")
        for (frame, label), places in grouped.items():
            self._single(item, "points", frame, count, {"points": ";".join(places)}, {POINT: LABEL_NAMES[label]})

    def _single(
        self,
        item: VideoObject,
        kind: str,
        frame: int,
        count: int,
        given: Mapping[str, str],
        attributes: Mapping[str, str],
    ) -> None:
        """A shape of one frame: a track that ends in the next."""
        shapes = [(kind, frame, False, given, attributes)]
        if frame + 1 < count:
            shapes.append((kind, frame + 1, True, given, attributes))
        self._track(item, shapes)

    def _track(
        self, item: VideoObject, shapes: Iterable[tuple[str, int, bool, Mapping[str, str], Mapping[str, str]]]
    ) -> None:
        lines = [self._shape(item, *shape) for shape in shapes]
        if lines:
            label = quoteattr(item.name or NAMELESS)
            self._file.write(f'  <track id="{self._tracks}" label={label} source="file">\n{"".join(lines)}  </track>\n')
            self._tracks += 1

    @staticmethod
    def _shape(
        item: VideoObject,
        kind: str,
        frame: int,
        outside: bool,
        given: Mapping[str, str],
        attributes: Mapping[str, str],
    ) -> str:
        first = {"frame": str(frame), "keyframe": "1", "outside": str(int(outside)), "occluded": "0"}
        head = " ".join(f"{key}={quoteattr(value)}" for key, value in {**first, **given, "z_order": "0"}.items())
        inner = "".join(
            f"      <attribute name={quoteattr(name)}>{_text(value)}</attribute>\n"
            for name, value in {OBJECT_ID: item.object_id, **attributes}.items()
        )
        return f"    <{kind} {head}>\n{inner}    </{kind}>\n"


def _boxes(
    segmentations: Iterable[RLE | None],
) -> Iterator[tuple[str, int, bool, Mapping[str, str], Mapping[str, str]]]:
    """The boxes of an object's masks; outside where it is absent, and from where it is not annotated."""
    last = {"xtl": "0", "ytl": "0", "xbr": "1", "ybr": "1"}
    known = False
    for frame, rle in enumerate(segmentations):
        if rle is None:
            if known:
                yield "box", frame, True, last, {ANNOTATED: "false"}
            known = False
            continue
        known = True
        if area(rle):
            x, y, width, height = bounding_box(rle)
            last = {"xtl": f"{x:g}", "ytl": f"{y:g}", "xbr": f"{x + width:g}", "ybr": f"{y + height:g}"}
        yield "box", frame, not area(rle), last, {ANNOTATED: "true"}


def _mask(rle: RLE) -> dict[str, str]:
    x, y, width, height = (int(side) for side in bounding_box(rle))
    patch = decode(rle)[y : y + height, x : x + width]
    sides = {"left": str(x), "top": str(y), "width": str(width), "height": str(height)}
    return {"rle": ", ".join(map(str, mask_runs(patch)))} | sides


def _coordinate(value: float) -> str:
    """A coordinate from the edge of the frame, of which no digit is lost (float32)."""
    return f"{value + 0.5:.9g}"


def _text(value: object) -> str:
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
