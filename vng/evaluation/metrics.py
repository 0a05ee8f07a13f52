"""Region and boundary measures of video object segmentation (Perazzi et al., CVPR 2016), equal to the DAVIS program.

Masks are [T, H, W], any non-zero pixel is foreground. Empty masks are treated explicitly, without epsilons:

* both empty: J = 1, F = 1; one empty: J = 0.
* F compares boundary maps. A mask without boundary (an empty one, but also one that fills the frame) has an empty map,
  and two empty maps score 1: a full frame against an empty mask has J = 0 and F = 1, as in the official program.

All values are counts: masks and boundaries are packed bits (`shapes`), so an array and its RLE give the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vng.evaluation.shapes import Shapes, of_arrays, of_labels, of_rles
from vng.masks import RLE, decode

Mask = np.ndarray | RLE  # one mask of a frame: [H, W], any non-zero pixel is foreground, or its RLE

BOUND_TH = 0.008  # tolerance as a share of the frame's diagonal; a value >= 1 is in pixels


def jaccard(gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """Region similarity J, intersection over union.

    Args:
        gt, pred: [T, H, W].
        void: [T, H, W], pixels to exclude, or None.

    Returns:
        float64 [T] in [0, 1].

    Raises:
        ValueError: shapes differ.
    """
    return np.array([_jaccard(a, b, [(0, 0)])[0] for a, b in _each(gt, pred, void, BOUND_TH)])


def boundary_f(
    gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None = None, bound_th: float = BOUND_TH
) -> np.ndarray:
    """Contour accuracy F: precision and recall of boundary pixels within a tolerance, as their harmonic mean.

    Args, returns and errors as `jaccard`; `bound_th` is the tolerance.
    """
    return np.array([_boundary_f(a, b, [(0, 0)])[0] for a, b in _each(gt, pred, void, bound_th)])


def frame_scores(
    gt: Sequence[Mask], pred: Sequence[Mask], void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of K pairs of masks, as `jaccard` and `boundary_f` give them.

    Args:
        gt, pred: K masks each, all of one size, of one frame or several; a mask may occur in both, or several times.
        void: [H, W], pixels to exclude from all of them, or None.

    Returns:
        J and F, float64 [K] each, in [0, 1].

    Raises:
        ValueError: numbers or sizes differ.
    """
    if len(gt) != len(pred):
        raise ValueError(f"expected as many predicted as true masks, got {len(pred)} and {len(gt)}")
    if not len(gt):
        return np.zeros(0), np.zeros(0)
    return _scores(gt, pred, void, [(k, k) for k in range(len(gt))])


def pairwise_frame_scores(
    gt: Sequence[Mask], pred: Sequence[Mask], void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every true mask with every predicted mask of a frame; args and errors as `frame_scores`.

    Returns:
        J and F, float64 [G, P] each, in [0, 1].
    """
    if not len(gt) or not len(pred):
        return np.zeros((len(gt), len(pred))), np.zeros((len(gt), len(pred)))
    j, f = _scores(gt, pred, void, [(a, b) for a in range(len(gt)) for b in range(len(pred))])
    return j.reshape(len(gt), len(pred)), f.reshape(len(gt), len(pred))


def label_scores(
    gt: np.ndarray, pred: np.ndarray, pairs: Sequence[tuple[int, int]], void: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of pairs of numbers in two label maps of one frame, as `frame_scores` of their masks.

    Args:
        gt, pred: uint8 [H, W].
        pairs: (number in gt, number in pred), 0..255.
        void: [H, W], pixels to exclude, or None.
    """
    if gt.ndim != 2 or gt.shape != pred.shape or gt.dtype != np.uint8 or pred.dtype != np.uint8:
        raise ValueError(
            f"expected label maps uint8 [H, W] of one size, got {gt.dtype} {gt.shape}, {pred.dtype} {pred.shape}"
        )
    masks = list(dict.fromkeys([(0, a) for a, _ in pairs] + [(1, b) for _, b in pairs]))
    both = of_labels([gt, pred], masks, tolerance(*gt.shape), void)
    return paired_scores(both, both, [(masks.index((0, a)), masks.index((1, b))) for a, b in pairs])


def _scores(
    gt: Sequence[Mask], pred: Sequence[Mask], void: np.ndarray | None, pairs: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    size = frame_size(gt[0])
    # packing both in one call costs half as much
    if isinstance(gt[0], RLE) == isinstance(pred[0], RLE):
        both = shapes_of([*gt, *pred], size, void)
        return paired_scores(both, both, [(a, len(gt) + b) for a, b in pairs])
    return paired_scores(shapes_of(gt, size, void), shapes_of(pred, size, void), pairs)


def frame_size(mask: Mask) -> tuple[int, int]:
    """Height and width; raises ValueError for an array that is not [H, W]."""
    size = mask.size if isinstance(mask, RLE) else mask.shape
    if len(size) != 2:
        raise ValueError(f"expected a mask [H, W], got {list(size)}")
    return int(size[0]), int(size[1])


def shapes_of(masks: Sequence[Mask], size: tuple[int, int], void: np.ndarray | None = None) -> Shapes:
    """Masks of one frame packed for `paired_scores`; raises ValueError where a mask or `void` has another size."""
    for mask in masks if void is None else [*masks, void]:
        if frame_size(mask) != size:
            raise ValueError(
                f"masks of one frame must all be of one size, got {list(frame_size(mask))} and {list(size)}"
            )
    radius = tolerance(*size)
    if masks and all(isinstance(mask, RLE) for mask in masks):
        return of_rles([mask for mask in masks if isinstance(mask, RLE)], size, radius, void)
    return of_arrays([decode(mask) if isinstance(mask, RLE) else mask for mask in masks], size, radius, void)


def paired_scores(gt: Shapes, pred: Shapes, pairs: Iterable[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """J and F, float64 [K] each, of pairs (index of a true mask, of a predicted mask) of one frame."""
    pairs = list(pairs)
    if not pairs:
        return np.zeros(0), np.zeros(0)
    return _jaccard(gt, pred, pairs), _boundary_f(gt, pred, pairs)


def tolerance(height: int, width: int, bound_th: float = BOUND_TH) -> int:
    """Radius in pixels within which boundary pixels match."""
    return int(bound_th) if bound_th >= 1 else int(np.ceil(bound_th * np.linalg.norm((height, width))))


def _each(
    gt: np.ndarray, pred: np.ndarray, void: np.ndarray | None, bound_th: float
) -> Iterable[tuple[Shapes, Shapes]]:
    if gt.ndim != 3 or gt.shape != pred.shape or (void is not None and void.shape != gt.shape):
        shapes = [list(gt.shape), list(pred.shape)] + ([] if void is None else [list(void.shape)])
        raise ValueError(f"ground truth, prediction and void must all be [T, H, W] of one shape, got {shapes}")
    size = (gt.shape[1], gt.shape[2])
    radius = tolerance(*size, bound_th)
    for t in range(len(gt)):
        excluded = None if void is None else void[t]
        yield of_arrays([gt[t]], size, radius, excluded), of_arrays([pred[t]], size, radius, excluded)


Pairs = Sequence[tuple[int, int]]


def _jaccard(gt: Shapes, pred: Shapes, pairs: Pairs) -> np.ndarray:
    both = _sizes(gt.areas, pred.areas, pairs).sum(0)
    common = _common(gt, gt.bits, 0, pred, pred.bits, 0, pairs)
    return np.where(both > 0, common / np.maximum(both - common, 1), 1.0)


def _boundary_f(gt: Shapes, pred: Shapes, pairs: Pairs) -> np.ndarray:
    n_gt, n_pred = _sizes(gt.edge_counts, pred.edge_counts, pairs)
    reach = gt.radius
    precision = _common(gt, gt.grown, reach, pred, pred.edges, 0, pairs) / np.maximum(n_pred, 1)
    recall = _common(gt, gt.edges, 0, pred, pred.grown, reach, pairs) / np.maximum(n_gt, 1)
    total = precision + recall
    f = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)
    return np.where((n_gt > 0) & (n_pred > 0), f, n_gt == n_pred)


def _sizes(gt: Sequence[int], pred: Sequence[int], pairs: Pairs) -> np.ndarray:
    return np.array([(gt[a], pred[b]) for a, b in pairs], np.int64).T


def _common(
    gt: Shapes, gt_bits: np.ndarray, gt_reach: int, pred: Shapes, pred_bits: np.ndarray, reach: int, pairs: Pairs
) -> np.ndarray:
    """Pixels that maps of the masks of each pair share, int64 [K].

    Each map extends its reach, in columns, beyond its mask, and one more column to the left.
    """
    result = np.zeros(len(pairs), np.int64)
    places, ours, theirs, begins, length = [], [], [], [], 0
    for k, (a, b) in enumerate(pairs):
        first = max(gt.columns[a][0] - gt_reach, pred.columns[b][0] - reach) - 1
        last = min(gt.columns[a][1] + gt_reach, pred.columns[b][1] + reach)
        if first < last:
            places.append(k)
            ours.append(gt_bits[gt.rows(a, first, last)])
            theirs.append(pred_bits[pred.rows(b, first, last)])
            begins.append(length)
            length += len(ours[-1])
    if places:
        shared = np.bitwise_count(np.concatenate(ours) & np.concatenate(theirs))
        result[places] = np.add.reduceat(shared, begins, dtype=np.int64)
    return result


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
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else float("nan")
