"""Points followed by the features of a Point-STCN's key encoder; the package ships one.

A point's features are compared with those around its last place: first at the stride of the keys, then at stride 4,
each to a part of a cell by a softmax over the best cell's surroundings. A point is visible while the way back, from the
place found to the query's frame, ends where the query is (cycle consistency).
Shapes: P points, C channels, h x w cells, n x n places of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vng.errors import UsageError
from vng.frames import Frames
from vng.models.loading import device_named, fingerprint, load_strictly, shipped_weights
from vng.models.stcn.modeling_stcn import Stcn
from vng.models.stcn.processing_stcn import View
from vng.trackers import PointTracker, check_queries

SHARPNESS = 20.0  # of the softmax over cosines


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Settings of the tracker; raises UsageError for values out of range."""

    reach: int = 5  # cells of the keys around a point's last place in which it is looked for
    newest: float = 0.2  # share of the last visible frame's features beside the query's
    tolerance: float = 1.0  # most distance, in cells of the keys, between a query and the end of the way back
    likeness: float = 0.62  # least cosine of a visible point's features with its query's
    short_side: int | None = None  # pixels of the network's input; None: as in training, 0: as the video
    device: str | None = None  # None: a GPU if there is one

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise UsageError(f"reach={self.reach}: expected 1 or more")
        if not 0 <= self.newest < 1:
            raise UsageError(f"newest={self.newest}: expected a share from 0 to below 1")


class FeatureTracker(PointTracker):
    """The tracker; see `vng.trackers.PointTracker` for the call.

    Args:
        checkpoint: a folder of `vng train` with a recipe of the task "stcn", or a hub id; None: the shipped weights.
        settings: None: the defaults.
    """

    threshold = 0.5

    def __init__(self, checkpoint: str | None = None, settings: FeatureSettings | None = None) -> None:
        self.settings = settings or FeatureSettings()
        model = load_strictly(Stcn, shipped_weights("stcn") if checkpoint is None else checkpoint)
        self.fingerprint = fingerprint(model)
        nn.Module.to(model.float(), device_named(self.settings.device))
        self.model: Stcn = model.fused(torch.float32)

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """See `PointTracker`."""
        queries = check_queries(frames, queries)
        if not len(queries):
            return
        side = self.settings.short_side
        view = View.of(*frames.size, self.model.config.short_side if side is None else side)
        own = queries[:, 0].astype(int)
        state = _State(len(queries), self.settings.reach)
        xy, visible = queries[:, 1:].copy(), np.zeros(len(queries), np.float32)
        for t in range(int(own.min()), len(frames)):
            with torch.inference_mode():
                maps = self._maps(frames[t], view)
                if (followed := np.flatnonzero(own < t)).size:
                    places, seen = state.follow(maps, followed, self.settings)
                    xy[followed], visible[followed] = _to_image(places, view), seen
                if (starting := np.flatnonzero(own == t)).size:
                    state.start(maps, starting, view.points(queries[starting, 1:]))
                    visible[starting] = 1.0
            height, width = frames.size
            outside = (xy < -0.5).any(1) | (xy[:, 0] > width - 0.5) | (xy[:, 1] > height - 0.5)
            yield t, xy.copy(), np.where(outside & (own < t), 0, visible).astype(np.float32)

    def _maps(self, image: np.ndarray, view: View) -> _Maps:
        pixels = self.model.normalise(view.image(image, self.model.device), self.model.dtype)
        features = self.model.encode_key(pixels)
        columns = view.padded[1]
        coarse = torch.cat([F.normalize(features.deep, dim=1), F.normalize(features.key, dim=1)], 1) * 0.5**0.5
        fine = F.normalize(features.skips[0], dim=1)
        return _Maps(coarse, columns / coarse.shape[-1], fine, columns / fine.shape[-1])


@dataclass(frozen=True)
class _Maps:
    """Feature maps of a frame, each cell of length 1."""

    coarse: Tensor  # [1, C, h, w]
    coarse_stride: float
    fine: Tensor
    fine_stride: float


class _State:
    """The places of points in the network's input, and the features that they are known by."""

    def __init__(self, count: int, reach: int) -> None:
        self._reach = reach
        self._xy = np.zeros((count, 2))
        self._before = np.zeros((count, 2))  # the place in the frame before
        self._query = np.zeros((count, 2))
        self._coarse: dict[int, Tensor] = {}  # [C] of the query
        self._fine: dict[int, Tensor] = {}
        self._newest: dict[int, Tensor] = {}
        self._around: dict[int, Tensor] = {}  # [C, n, n] around the query

    def start(self, maps: _Maps, which: np.ndarray, xy: np.ndarray) -> None:
        """Begin some points at places [len(which), 2]."""
        self._xy[which], self._query[which], self._before[which] = xy, xy, xy
        coarse, fine = (_read(m, xy, s) for m, s in ((maps.coarse, maps.coarse_stride), (maps.fine, maps.fine_stride)))
        around = _windows(maps.coarse, xy, maps.coarse_stride, self._reach, 1.0)
        for i, p in enumerate(which):
            self._coarse[p], self._fine[p], self._newest[p], self._around[p] = coarse[i], fine[i], coarse[i], around[i]

    def follow(self, maps: _Maps, which: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray]:
        """The new places [len(which), 2] of some points, and their visibility [len(which)]."""
        stride, reach = maps.coarse_stride, self._reach
        query, newest = (torch.stack([kept[p] for p in which]) for kept in (self._coarse, self._newest))
        sought = F.normalize((1 - settings.newest) * query + settings.newest * newest, dim=1)
        expected = self._xy[which]
        windows = _windows(maps.coarse, expected, stride, reach, 1.0)
        found = expected + stride * _peak(torch.einsum("pcij,pc->pij", windows, sought), 1.0)
        fine = torch.stack([self._fine[p] for p in which])
        near = _windows(maps.fine, found, maps.fine_stride, 3, 0.5)
        found = found + maps.fine_stride * _peak(torch.einsum("pcij,pc->pij", near, fine), 0.5)
        there = F.normalize(_read(maps.coarse, found, stride), dim=1)
        likeness = (there * query).sum(1).cpu().numpy()
        around = torch.stack([self._around[p] for p in which])
        back = np.linalg.norm(_peak(torch.einsum("pcij,pc->pij", around, there), 1.0), axis=1)
        seen = (back <= settings.tolerance) & (likeness >= settings.likeness)
        # A hidden point stays where it was seen last.
        self._xy[which[seen]] = found[seen]
        for i in np.flatnonzero(seen):
            self._newest[which[i]] = there[i]
        return self._xy[which], seen.astype(np.float32)


def _grid(xy: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """Pixels of the input [..., 2] -> positions of `grid_sample` in a map of this size (rows, columns)."""
    cells = (xy + 0.5) / stride
    return torch.stack([2 * cells[..., 0] / size[1] - 1, 2 * cells[..., 1] / size[0] - 1], -1)


def _read(features: Tensor, xy: np.ndarray, stride: float) -> Tensor:
    """Features [P, C] at pixels [P, 2], bilinear."""
    places = torch.as_tensor(xy, dtype=features.dtype, device=features.device)
    grid = _grid(places, (features.shape[-2], features.shape[-1]), stride)[None, None]
    return F.grid_sample(features, grid, padding_mode="border", align_corners=False)[0, :, 0].T


def _windows(features: Tensor, xy: np.ndarray, stride: float, reach: int, step: float) -> Tensor:
    """Features [P, C, n, n] around pixels [P, 2], n = 2 * reach + 1, `step` cells apart; zeros beyond the map."""
    places = torch.as_tensor(xy, dtype=features.dtype, device=features.device)
    steps = torch.arange(-reach, reach + 1, device=features.device) * (step * stride)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij")[::-1], -1)
    grid = _grid(places[:, None, None] + offsets, (features.shape[-2], features.shape[-1]), stride)
    n = len(steps)
    read = F.grid_sample(features, grid.reshape(1, -1, n, 2), padding_mode="zeros", align_corners=False)
    return read[0].unflatten(1, (-1, n)).transpose(0, 1)


def _peak(likeness: Tensor, step: float) -> np.ndarray:
    """Offsets (x, y) [P, 2] in cells from the middle of windows [P, n, n] to their best place, by soft-argmax near it."""
    n = likeness.shape[-1]
    best = likeness.flatten(1).argmax(1)
    steps = torch.arange(n, device=likeness.device)
    near = ((steps - best[:, None] // n).abs() <= 1)[:, :, None] & ((steps - best[:, None] % n).abs() <= 1)[:, None]
    weight = (SHARPNESS * likeness).masked_fill(~near, -torch.inf).flatten(1).softmax(1).view_as(likeness)
    offsets = (steps - n // 2).to(weight.dtype) * step
    return torch.stack([(weight.sum(1) * offsets).sum(1), (weight.sum(2) * offsets).sum(1)], 1).cpu().numpy()


def _to_image(xy: np.ndarray, view: View) -> np.ndarray:
    """Pixels of the network's input -> pixels of the image."""
    corner = view.points(np.zeros((1, 2)))[0]
    factor = np.array([view.columns / view.width, view.rows / view.height])
    return ((xy - corner) / factor).astype(np.float32)
