"""STCN against the authors' program in every checkout: a small clip made here, weights from names, what their program found.

The fixture is written by `python -m benchmarks.stcn --reference DIR --fixture tests/fixtures/stcn_reference.npz`.
"""

from __future__ import annotations

import json

import numpy as np

from tests.golden_weights import STCN_GAINS, STCN_SMALL, drawn
from tests.helpers import ROOT
from vng.frames import ArrayFrames
from vng.models.stcn.import_checkpoint import from_reference
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnPropagator, StcnSettings

FIXTURE = ROOT / "tests" / "fixtures" / "stcn_reference.npz"
COUNT, HEIGHT, WIDTH, EVERY, THINNED = 7, 72, 120, 2, 3


def clip() -> np.ndarray:
    """uint8 [T, H, W, 3]: waves of whole numbers that move, and a square of another pattern across them."""
    t, y, x, c = np.meshgrid(*(np.arange(n) for n in (COUNT, HEIGHT, WIDTH, 3)), indexing="ij")
    frames = ((x + 3 * t) * (y + 11) // (5 + c) + 40 * c) % 256
    inside = (abs(y - 40) < 16) & (abs(x - 40 - 6 * t) < 20)
    return np.where(inside, (7 * y + 13 * (x - 6 * t) + 60 * c) % 256, frames).astype(np.uint8)


def first_labels() -> np.ndarray:
    """int [H, W]: the square is object 1, a bar beside it object 2."""
    y, x = np.indices((HEIGHT, WIDTH))
    labels = np.where((abs(y - 40) < 16) & (abs(x - 40) < 20), 1, 0)
    return np.where((y > 10) & (y < 60) & (x > 80) & (x < 95), 2, labels)


def test_equals_the_authors_program() -> None:
    stored = np.load(FIXTURE)
    keys, wanted = json.loads(str(stored["keys"])), stored["probabilities"]
    engine = object.__new__(StcnPropagator)
    engine.settings = StcnSettings(every=EVERY, last=True, top_k=20, budget=None)
    engine.model = from_reference({k: drawn(k, shape, STCN_GAINS, STCN_SMALL) for k, shape in keys.items()}).fused()
    labels = first_labels()
    found = dict(engine(ArrayFrames(clip()), {0: FramePrompts(masks=(labels == 1, labels == 2))}))
    assert sorted(found) == list(range(COUNT)) and wanted.std() > 0.1
    top, left = -HEIGHT % 16 // 2, -WIDTH % 16 // 2  # their probabilities are those of the padded frames
    for t in range(COUNT):
        rows, columns = (np.arange(-start % THINNED, size, THINNED) for start, size in ((top, HEIGHT), (left, WIDTH)))
        place = np.ix_(range(2), (rows + top) // THINNED, (columns + left) // THINNED)
        np.testing.assert_allclose(found[t][:, rows][:, :, columns], wanted[:, t][place], atol=1e-5)
