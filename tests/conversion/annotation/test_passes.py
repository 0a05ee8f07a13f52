"""Objects that begin in different frames, or mean the same thing, do not hide each other."""

from __future__ import annotations

import numpy as np
import pytest

from conversion.annotation.candidates import FOREGROUND, CandidateSettings
from conversion.annotation.passes import passes_of
from conversion.annotation.proposals import propose
from conversion.options import Engines
from conversion.pseudo_masks import PointedObject
from tests.helpers import box
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.points import Points
from vng.propagators import load
from vng.segmenters import load as load_segmenter

H, W, T = 96, 160, 5
LEFT, RIGHT = box(20, 20, 60, 60, H, W), box(30, 100, 70, 140, H, W)


def test_together_are_those_of_one_frame_on_different_pixels() -> None:
    starts = {0: 3, 1: 3, 4: 1, 5: 3, 6: 3}
    masks = {0: LEFT, 1: RIGHT, 4: LEFT, 5: LEFT, 6: box(59, 20, 80, 60, H, W)}  # the last one touches the first
    assert passes_of(starts, masks) == [[0, 1, 6], [4], [5]]
    inner = {0: LEFT, 1: box(30, 30, 40, 40, H, W)}
    assert passes_of({0: 2, 1: 2}, inner) == [[0], [1]]
    assert passes_of({}, {}) == []


@pytest.mark.parametrize("name", ["stcn", "flow"])
def test_every_noun_has_candidates_in_every_frame(name: str) -> None:
    """Two boxes stand still. One is meant by three nouns, twice in the first frame and once in the last."""
    image = np.full((H, W, 3), 90, np.uint8)
    image[LEFT], image[RIGHT] = (220, 40, 40), (40, 60, 220)
    frames = ArrayFrames(np.stack([image] * T))
    drawn = {"a": (0, LEFT), "again": (0, LEFT), "late": (T - 1, LEFT), "other": (T - 1, RIGHT)}
    objects = [PointedObject(key, "box", Points.none(), masks={t: encode(mask)}) for key, (t, mask) in drawn.items()]
    engines = Engines(load_segmenter("classical"), load(name))
    proposed = propose(frames, objects, engines, CandidateSettings())
    assert [(item.object_id, item.rough_frame) for item in proposed] == [(key, t) for key, (t, _) in drawn.items()]
    for item in proposed:
        likely = [c for c in item.candidates if c.kind == FOREGROUND]
        assert {c.frame for c in likely} == set(range(T)), item.object_id
        on = [drawn[item.object_id][1][int(c.y), int(c.x)] for c in likely]
        assert np.mean(on) > 0.9, item.object_id
