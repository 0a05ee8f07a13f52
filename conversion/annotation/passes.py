"""Which objects of a video are propagated together: those that begin in the same frame, on different pixels.

A propagator gives every pixel to one object at most, and carries an object backwards only from the first prompt of all.
Objects of candidates are nouns: two of them may mean one thing, in one frame or in two, and would take it from each
other; and one that begins later would be unknown in the frames before. In passes of their own they are neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MOST_SHARED = 0.3  # of the smaller of two masks, in one pass


def passes_of(starts: Mapping[int, int], masks: Mapping[int, np.ndarray]) -> list[list[int]]:
    """Objects of each pass, in order.

    Args:
        starts: object -> frame where it begins.
        masks: object -> bool [H, W], its mask there.
    """
    passes: list[list[int]] = []
    for k, start in starts.items():
        fitting = (
            own for own in passes if starts[own[0]] == start and not any(_shared(masks[k], masks[i]) for i in own)
        )
        if (own := next(fitting, None)) is None:
            passes.append([k])
        else:
            own.append(k)
    return passes


def _shared(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a & b).sum() > MOST_SHARED * min(a.sum(), b.sum()))
