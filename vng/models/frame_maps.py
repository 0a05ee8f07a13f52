"""A backbone's maps of a video's frames, kept for a second network that reads the same frames with the same backbone.

They are kept in a temporary file, so that memory does not grow with the video. Shapes: C channels, h x w cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor


class FrameMaps:
    """Maps by frame; the maps of a frame are written once.

    Args:
        rows, columns: size of a frame in the backbone's input, before padding below and to the right (mean colour).
        limit: most bytes kept; later frames have no maps.
    """

    def __init__(self, rows: int, columns: int, limit: int) -> None:
        self.rows, self.columns, self.limit = rows, columns, limit
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this object, and has no name
        self._places: dict[int, int] = {}
        self._like: list[Tensor] = []  # shapes and types of one frame's maps, without content

    def __len__(self) -> int:
        return len(self._places)

    def add(self, frame: int, maps: Sequence[Tensor]) -> None:
        """Keep a frame's maps, each [C, h, w], unless that exceeds `limit`; maps of all frames have the same shapes."""
        begin = self._file.seek(0, 2)
        if begin + sum(m.numel() * m.element_size() for m in maps) > self.limit:
            return
        self._like = [torch.empty_like(m, device="meta") for m in maps]
        for m in maps:
            self._file.write(m.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        self._places[frame] = begin

    def get(self, frame: int, like: Tensor) -> list[Tensor] | None:
        """Maps [1, C, h, w] on the device and in the precision of `like`; None for a frame without maps."""
        if frame not in self._places:
            return None
        self._file.seek(self._places[frame])
        maps = []
        for m in self._like:
            data = bytearray(self._file.read(m.numel() * m.element_size()))
            maps.append(torch.frombuffer(data, dtype=m.dtype).view(1, *m.shape).to(like))
        return maps

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()
