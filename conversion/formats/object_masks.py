"""Masks of single objects on single frames: the true masks of a point benchmark's evaluation frames.

FOLDER/<object>/<frame>.png     8 bits, grey or palette; every value but 0 is the object
FILE.json                       {object: {frame: RLE}}, RLE as in COCO: {"size": [height, width], "counts": text or list}

Objects are named by their ids in the points (Point-VOS: the keys of the records), frames as in the points ("000021").
A frame without an entry is not annotated; an empty mask says that the object is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vng.errors import DataError
from vng.frames import Frames, existing, visible_files
from vng.label_maps import check_smoothed, read_label_map
from vng.masks import RLE, encode, from_json
from vng.records import Reader
from vng.text_files import load_json


@dataclass(frozen=True)
class ObjectMasks:
    """Masks by object and frame, from a folder or a JSON file."""

    path: Path

    def of(self, object_id: str, frames: Frames) -> tuple[RLE | None, ...]:
        """The masks of an object over the frames of a video: None where it is not annotated.

        Raises DataError for a broken mask, one of another size, and one of a frame that the video does not have.
        """
        masks: list[RLE | None] = [None] * len(frames)
        by_frame = self._of_file(object_id) if self.path.is_file() else self._of_folder(object_id, frames)
        for name, rle in by_frame.items():
            place = frames.index_of(name)
            if place is None:
                raise DataError(self.path, record=object_id, field=name, reason=f"{frames.source} has no such frame")
            if rle.size != frames.size:
                reason = "a mask of {}x{}, the frames have {}x{}".format(*rle.size, *frames.size)
                raise DataError(self.path, record=object_id, field=name, reason=reason)
            masks[place] = rle
        return tuple(masks)

    @cached_property
    def _table(self) -> Mapping[str, Any]:
        table = load_json(self.path)
        return Reader(table, self.path, "").value

    def _of_file(self, object_id: str) -> dict[str, RLE]:
        if object_id not in self._table:
            return {}
        reader = Reader(self._table[object_id], self.path, object_id)
        masks = {}
        for name, value in reader.value.items():
            try:
                rle = from_json(value)
            except ValueError as error:
                raise reader.error(name, str(error)) from error
            if rle is not None:
                masks[name] = rle
        return masks

    def _of_folder(self, object_id: str, frames: Frames) -> dict[str, RLE]:
        folder = existing(self.path, object_id)
        if not folder.is_dir():
            return {}
        masks = {}
        for file in visible_files(folder, (".png",)):
            labels = read_label_map(file, frames.size, noun="mask", cure="save it as PNG again")
            check_smoothed(file, labels)
            masks[file.stem] = encode(labels > 0)
        return masks
