"""Videos of any length through a network that reads clips: windows of frames, and what is kept of each.

ReferFormer takes a whole video at once. Here its frames go through in windows; a query is followed from window to window
by its number, or, where windows overlap, by its masks. What every query says is kept until the whole video has been seen,
because only then it is known which query is meant: class scores in memory, masks in a temporary file.

Shapes: N nouns, T frames, t frames of a window, Q queries, h x w mask pixels at stride 4.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vng.errors import UsageError


@dataclass(frozen=True)
class WindowSettings:
    """How a video is cut; raises UsageError for a value that cannot be."""

    frames: int = 24  # that go through the network together: memory grows with it, never with the video
    overlap: int = (
        0  # frames a window sees again of the one before, to match queries by their masks; 0: by their number
    )

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UsageError(f"window={self.frames}: 1 frame or more")
        if not 0 <= self.overlap < self.frames:
            raise UsageError(f"overlap={self.overlap}: 0 or more, and fewer than the {self.frames} frames of a window")

    def of(self, length: int) -> Iterator[Window]:
        """The windows of a video of `length` frames, in order."""
        stop = 0
        while stop < length:
            start = max(0, stop - self.overlap)
            yield Window(start, stop, min(length, start + self.frames))
            stop = min(length, start + self.frames)


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of a video, those before `fresh` seen already."""

    start: int
    fresh: int
    stop: int


class QueryRecord:
    """What all queries say of a video, window by window; memory holds no masks but those windows overlap in."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this record, and has no name
        self._logits: list[np.ndarray] = []  # [N, t, Q] a window
        self._places: list[tuple[int, tuple[int, ...]]] = []  # where a window's masks begin, their shape
        self._tail: np.ndarray | None = None  # bool [N, t, Q, h, w], masks of the last frames

    def __len__(self) -> int:
        return len(self._logits)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def add(self, window: Window, logits: np.ndarray, masks: np.ndarray, overlap: int) -> None:
        """Keep a window.

        Args:
            logits: float [N, t, Q]. masks: float16 [N, t, Q, h, w], logits.
            overlap: of the next window with this one.
        """
        again = window.fresh - window.start
        if again and self._tail is not None:
            order = same_queries(self._tail[:, -again:], masks[:, :again] > 0)
            logits = np.take_along_axis(logits, order[:, None], 2)
            masks = np.take_along_axis(masks, order[:, None, :, None, None], 2)
        self._tail = masks[:, -overlap:] > 0 if overlap else None
        self._logits.append(logits[:, again:])
        kept = np.ascontiguousarray(masks[:, again:].transpose(0, 2, 1, 3, 4))  # what is read together lies together
        self._places.append((self._file.seek(0, 2), kept.shape))
        self._file.write(kept.tobytes())

    def scores(self) -> np.ndarray:
        """Float64 [N, T, Q] in [0, 1] of all frames so far."""
        return 1 / (1 + np.exp(-np.concatenate(self._logits, 1).astype(np.float64)))

    def chosen(self) -> np.ndarray:
        """Int64 [N]: one query a noun for all frames so far, by its mean class score (ReferFormer's inference)."""
        return self.scores().mean(1).argmax(-1)

    def masks(self, number: int, noun: int, query: int) -> np.ndarray:
        """Mask logits float16 [t, h, w] of a noun's query in a window."""
        begin, (_, queries, *shape) = self._places[number]
        size = int(np.prod(shape)) * np.dtype(np.float16).itemsize
        self._file.seek(begin + (noun * queries + query) * size)
        return np.frombuffer(bytearray(self._file.read(size)), np.float16).reshape(shape)


def same_queries(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which query of a window is which of the window before, noun by noun: the assignment of the largest mask IoU.

    Args:
        before, after: bool [N, t, Q, h, w], masks of the same frames.

    Returns:
        int64 [N, Q]: entry q is the number that query q of before has in after. Where masks tell nothing, its own.
    """
    n, _, q = before.shape[:3]
    first, second = (m.transpose(0, 2, 1, 3, 4).reshape(n, q, -1).astype(np.float32) for m in (before, after))
    common = first @ second.transpose(0, 2, 1)
    total = first.sum(-1)[:, :, None] + second.sum(-1)[:, None] - common
    likeness = common / np.maximum(total, 1) + 1e-3 * np.eye(q)
    return np.stack([linear_sum_assignment(row, maximize=True)[1] for row in likeness]).astype(np.int64).reshape(n, q)
