"""Region and boundary measures of video object segmentation (Perazzi et al., CVPR 2016), equal to the DAVIS program.

Masks are [T, H, W], any non-zero pixel is foreground. Empty cases are decisions, not epsilons:

* both empty: J = 1, F = 1; one empty: J = 0.
* F compares boundary maps. A mask without boundary (an empty one, but also one that fills the frame) has an empty map,
  and two empty maps score 1: a full frame against nothing has J = 0 and F = 1, as in the official program.

J and F work on the cropped region in which either mask has pixels; nothing outside can change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vng.masks import RLE, decode

Mask = np.ndarray | RLE  # one mask of a frame: [H, W], any non-zero pixel is foreground, or its RLE

BOUND_TH = 0.008  # tolerance as a share of the frame's diagonal; a value >= 1 is in pixels


def jaccard(gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """Region similarity J, intersection over union.

    Args:
        gt, pred: [T, H, W].
        void: [T, H, W], pixels to leave out, or None.

    Returns:
        float64 [T] in [0, 1].

    Raises:
        ValueError: shapes differ.
    """
    gt, pred, void = _checked(gt, pred, void)
    return np.array([_jaccard(a, b) for a, b in _each(gt, pred, void)])


def boundary_f(
    gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> np.ndarray:
    """Contour accuracy F: precision and recall of boundary pixels within a tolerance, as their harmonic mean.

    Args, returns and errors as `jaccard`; `bound_th` is the tolerance.
    """
    gt, pred, void = _checked(gt, pred, void)
    radius = tolerance(gt.shape[1], gt.shape[2], bound_th)
    return np.array([_boundary_f(a, b, radius) for a, b in _each(gt, pred, void)])


def frame_scores(
    gt: Sequence[Mask], pred: Sequence[Mask], void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of K pairs of masks of one frame, as `jaccard` and `boundary_f` give them.

    Args:
        gt, pred: K masks each, all of one size; a mask may stand in both, or many times.
        void: [H, W], pixels to leave out of all of them, or None.

    Returns:
        J and F, float64 [K] each, in [0, 1].

    Raises:
        ValueError: numbers or sizes differ.
    """
    if len(gt) != len(pred):
        raise ValueError(f"as many true as predicted masks are scored, got {len(gt)} and {len(pred)}")
    if not len(gt):
        return np.zeros(0), np.zeros(0)
    truth, predicted = (np.stack([_decoded(mask) for mask in masks]) for masks in (gt, pred))
    voids = None if void is None else np.broadcast_to(void, truth.shape)
    return jaccard(truth, predicted, voids), boundary_f(truth, predicted, voids)


def pairwise_frame_scores(
    gt: Sequence[Mask], pred: Sequence[Mask], void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every true with every predicted mask of a frame; args and errors as `frame_scores`.

    Returns:
        J and F, float64 [G, P] each, in [0, 1].
    """
    pairs = [(a, b) for a in gt for b in pred]
    j, f = frame_scores([a for a, _ in pairs], [b for _, b in pairs], void)
    return j.reshape(len(gt), len(pred)), f.reshape(len(gt), len(pred))


def _decoded(mask: Mask) -> np.ndarray:
    return decode(mask) if isinstance(mask, RLE) else mask


def tolerance(height: int, width: int, bound_th: float = BOUND_TH) -> int:
    """Radius in pixels within which a boundary counts as found."""
    return int(bound_th) if bound_th >= 1 else int(np.ceil(bound_th * np.linalg.norm((height, width))))


def _checked(
    gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    if gt.ndim != 3 or gt.shape != pred.shape or (void is not None and void.shape != gt.shape):
        shapes = [list(gt.shape), list(pred.shape)] + ([] if void is None else [list(void.shape)])
        raise ValueError(f"ground truth, prediction and void must all be [T, H, W] of one shape, got {shapes}")
    return gt != 0, pred != 0, None if void is None else void != 0


def _each(gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for t in range(len(gt)):
        if void is None:
            yield gt[t], pred[t]
        else:
            yield gt[t] & ~void[t], pred[t] & ~void[t]


def _crop(gt: np.ndarray, pred: np.ndarray, margin: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Both masks cut to the box of their union plus a margin; also where the cut begins."""
    both = gt | pred
    rows = np.flatnonzero(both.any(1))
    if not len(rows):
        return gt[:0, :0], pred[:0, :0], (0, 0)
    columns = np.flatnonzero(both.any(0))
    y0, y1 = max(0, rows[0] - margin), rows[-1] + 1 + margin
    x0, x1 = max(0, columns[0] - margin), columns[-1] + 1 + margin
    return gt[y0:y1, x0:x1], pred[y0:y1, x0:x1], (int(y0), int(x0))


def _jaccard(gt: np.ndarray, pred: np.ndarray) -> float:
    gt, pred, _ = _crop(gt, pred)
    union = np.count_nonzero(gt | pred)
    return np.count_nonzero(gt & pred) / union if union else 1.0


def _boundary_f(gt: np.ndarray, pred: np.ndarray, radius: int) -> float:
    size = gt.shape
    gt, pred, origin = _crop(gt, pred, margin=1)
    at_end = (origin[0] + gt.shape[0] == size[0], origin[1] + gt.shape[1] == size[1])
    gt_edge, pred_edge = _boundary(gt, at_end), _boundary(pred, at_end)
    n_gt, n_pred = np.count_nonzero(gt_edge), np.count_nonzero(pred_edge)
    if not n_gt or not n_pred:
        return 1.0 if n_gt == n_pred else 0.0
    precision = np.count_nonzero(pred_edge & _grow(gt_edge, radius)) / n_pred
    recall = np.count_nonzero(gt_edge & _grow(pred_edge, radius)) / n_gt
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: np.ndarray, at_end: tuple[bool, bool]) -> np.ndarray:
    """Boundary map: pixels that differ from their right, lower or diagonal neighbour.

    The contour sits half a pixel up and left, and the frame's last row and column are compared with themselves
    (`at_end`: whether the cut reaches them). Beyond a cut that ends inside the frame there is only background.
    """
    if not mask.size:
        return mask
    height, width = mask.shape
    padded = np.zeros((height + 1, width + 1), bool)
    padded[:height, :width] = mask
    if at_end[0]:
        padded[height, :width] = mask[-1]
    if at_end[1]:
        padded[:height, width] = mask[:, -1]
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:].copy()
    if at_end[0]:  # in the last row only the right neighbour counts, in the last column only the lower one
        diagonal[-1] = right[-1]
    if at_end[1]:
        diagonal[:, -1] = below[:, -1]
    edge = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    if at_end[0] and at_end[1]:
        edge[-1, -1] = False
    return edge


def _grow(edge: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(edge.view(np.uint8), _disk(radius)) > 0


@lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of one sequence's scores."""

    mean: float
    recall: float  # share of frames above 0.5; NaN counts as a miss
    decay: float  # first quarter's mean minus the last quarter's


def statistics(values: np.ndarray, official: bool = False) -> Statistics:
    """DAVIS statistics of per-frame scores float [T].

    The official program numbers the quarters' frames in uint8, which wraps from 256 frames on and makes the decay NaN
    or wrong; `official=True` reproduces it.
    """
    values = np.asarray(values, float)
    if not len(values):
        return Statistics(float("nan"), float("nan"), float("nan"))
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10) - 1
    edges = edges.astype(np.uint8) if official else edges.astype(int)
    with np.errstate(over="ignore"):
        ends = edges + edges.dtype.type(1)  # in uint8 this wraps to 0 from 256 frames on
        quarters = [values[int(edges[i]) : int(ends[i + 1])] for i in range(4)]
        first, last = (_nanmean(quarters[i]) for i in (0, 3))
        return Statistics(_nanmean(values), float(np.mean(values > 0.5)), first - last)


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
