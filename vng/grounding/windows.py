"""Videos of any length through a network for clips: windows of frames, and the predictions kept of each.

ReferFormer processes a whole video at once. Here frames are processed in windows; queries are matched between windows
by number or, if windows overlap, by masks. Predictions of all queries are kept until the end of the video, when the
best query is known: class scores in memory, masks in a temporary file.

Shapes: N nouns, T frames, t frames of a window, Q queries, h x w mask pixels at stride 4.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vng.errors import UsageError

ON_DEVICE = 2 << 30  # bytes of masks that stay on a GPU for a video and a narrative


@dataclass(frozen=True)
class WindowSettings:
    """How a video is split; raises UsageError for an invalid value."""

    frames: int = 24  # processed together; memory grows with this, not with the video; 0: all, as ReferFormer does
    overlap: int = 0  # frames shared with the previous window, to match queries by masks; 0: match by number

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise UsageError(f"window={self.frames}: expected 0 (all frames) or more")
        if not 0 <= self.overlap < max(1, self.frames):
            raise UsageError(
                f"overlap={self.overlap}: expected 0 or more, and fewer than the {self.frames} frames of a window"
            )

    def of(self, length: int) -> Iterator[Window]:
        """The windows of a video of `length` frames, in order."""
        stop, frames = 0, self.frames or length
        while stop < length:
            start = max(0, stop - self.overlap)
            yield Window(start, stop, min(length, start + frames))
            stop = min(length, start + frames)


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of a video; those before `fresh` were in the previous window."""

    start: int
    fresh: int
    stop: int


class QueryRecord:
    """Predictions of all queries for a video, window by window.

    Masks of a CPU are kept in a file, so that memory holds those of overlapping frames only. Masks of another device
    stay there up to `on_device` bytes, so that only those of the chosen query ever leave it; the rest go to the file.
    """

    def __init__(self, on_device: int = ON_DEVICE) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this record
        self._logits: list[np.ndarray] = []  # [N, t, Q] per window
        self._left = on_device
        self._places: list[tuple[Tensor | int, tuple[int, ...]]] = []  # a window's masks, or their offset; their shape
        self._device = torch.device("cpu")
        self._tail: np.ndarray | None = None  # bool [N, t, Q, h, w], masks of the last frames

    def __len__(self) -> int:
        return len(self._logits)

    def close(self) -> None:
        """Close and delete the temporary file."""
        self._file.close()
        self._places = []

    def add(self, window: Window, logits: np.ndarray, masks: Tensor, overlap: int) -> None:
        """Add the predictions of a window.

        Args:
            logits: float [N, t, Q]. masks: float16 [N, t, Q, h, w], logits.
            overlap: number of frames shared with the next window.
        """
        again = window.fresh - window.start
        if again and self._tail is not None:
            order = same_queries(self._tail[:, -again:], (masks[:, :again] > 0).cpu().numpy())
            logits = np.take_along_axis(logits, order[:, None], 2)
            index = torch.from_numpy(order).to(masks.device)[:, None, :, None, None]
            masks = torch.take_along_dim(masks, index, 2)
        self._tail = (masks[:, -overlap:] > 0).cpu().numpy() if overlap else None
        self._logits.append(logits[:, again:])
        kept = masks[:, again:].transpose(1, 2).contiguous()  # contiguous in the order of reading
        self._device, size = kept.device, kept.numel() * kept.element_size()
        if self._device.type != "cpu" and size <= self._left:
            self._left -= size
            self._places.append((kept, tuple(kept.shape)))
            return
        self._places.append((self._file.seek(0, 2), tuple(kept.shape)))
        self._file.write(kept.cpu().numpy().tobytes())

    def scores(self) -> np.ndarray:
        """Float64 [N, T, Q] in [0, 1] of all frames so far."""
        return 1 / (1 + np.exp(-np.concatenate(self._logits, 1).astype(np.float64)))

    def chosen(self) -> np.ndarray:
        """The query of each noun with the best mean class score so far, int64 [N] (ReferFormer's inference)."""
        return self.scores().mean(1).argmax(-1)

    def masks(self, number: int, noun: int, query: int) -> Tensor:
        """Mask logits float16 [t, h, w] of a noun's query in a window, on the device that they came from."""
        begin, (_, queries, *shape) = self._places[number]
        if isinstance(begin, Tensor):
            return begin[noun, query]
        size = int(np.prod(shape)) * np.dtype(np.float16).itemsize
        self._file.seek(begin + (noun * queries + query) * size)
        values = torch.frombuffer(bytearray(self._file.read(size)), dtype=torch.float16)
        return values.view(shape).to(self._device)


def same_queries(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The matching of queries between two windows, per noun: the assignment with the largest mask IoU.

    Args:
        before, after: bool [N, t, Q, h, w], masks of the same frames.

    Returns:
        int64 [N, Q]: entry q is the query of `after` that matches query q of `before`; q itself if masks do not decide.
    """
    n, _, q = before.shape[:3]
    first, second = (m.transpose(0, 2, 1, 3, 4).reshape(n, q, -1).astype(np.float32) for m in (before, after))
    common = first @ second.transpose(0, 2, 1)
    total = first.sum(-1)[:, :, None] + second.sum(-1)[:, None] - common
    likeness = common / np.maximum(total, 1) + 1e-3 * np.eye(q)
    return np.stack([linear_sum_assignment(row, maximize=True)[1] for row in likeness]).astype(np.int64).reshape(n, q)
