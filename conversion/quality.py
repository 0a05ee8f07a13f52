"""Quality of pseudo-masks, measured on held-out points and on the masks themselves.

No published set has such figures; `--min-agreement`, `data.min_agreement` and `vng inspect` use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vng.masks import RLE, area, covered, decode, union
from vng.points import Points, agreement

Row = Sequence[RLE | None]


def point_agreement(row: Row, held: Points) -> tuple[float | None, int]:
    """Share of held-out points that the masks put on the right side, and their number; None where there are none.

    Args:
        row: one mask per frame; None where unannotated: points there do not count.
        held: the held-out points, `frame` an index into `row`.
    """
    right, total = 0, 0
    for t in np.unique(held.frame):
        rle = row[int(t)]
        if rle is not None:
            points = held.in_frame(int(t))
            hits, count = agreement(decode(rle), points.xy, points.label)
            right, total = right + hits, total + count
    return (right / total if total else None), total


def mask_area(row: Row) -> float | None:
    """Mean share of the frame that the masks cover where the object is present; None where it never is."""
    shares = [size / (rle.size[0] * rle.size[1]) for rle in row if rle is not None and (size := area(rle))]
    return float(np.mean(shares)) if shares else None


def stability(row: Row) -> float | None:
    """Stability of the masks' size: mean ratio of smaller to larger area of successive masks, in (0, 1].

    Pairs are successive annotated frames in both of which the object is present; None where there is no such pair.
    """
    areas = [area(rle) for rle in row if rle is not None]
    ratios = [min(a, b) / max(a, b) for a, b in pairwise(areas) if a and b]
    return float(np.mean(ratios)) if ratios else None


def conflicts(rows: Sequence[Row]) -> list[float | None]:
    """Per object, the share of its masks that other objects' masks cover too, mean over its frames; None for no mask.

    Objects of narratives may overlap (a man, his costume): a conflict is a hint, not an error.
    """
    shares: list[list[float]] = [[] for _ in rows]
    for frame in zip(*rows, strict=True):
        present = [(k, rle) for k, rle in enumerate(frame) if rle is not None and area(rle)]
        for k, rle in present:
            others = [other for j, other in present if j != k]
            shares[k].append(covered(rle, union(others)) if others else 0.0)
    return [float(np.mean(values)) if values else None for values in shares]
