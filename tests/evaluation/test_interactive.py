"""Interactive evaluation: simulated clicks and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vng.errors import UsageError
from vng.evaluation.interactive import first_clicks, interact, next_click, score
from vng.points import BACKGROUND


class TestInteractiveEvaluation:
    def truth(self) -> np.ndarray:
        masks = np.zeros((2, 40, 60), bool)
        masks[0, 5:26, 5:26] = True
        masks[1, 10:31, 35:56] = True
        return masks

    def test_known_clicks(self) -> None:
        truth = self.truth()
        clicks = first_clicks(truth)
        assert [(c.y, c.x, c.time, c.owner) for c in clicks] == [(15, 15, 0, 0), (20, 45, 1, 1)]
        predicted = truth.copy()
        predicted[0, 5:26, 5:14] = False  # nine columns missed
        found = next_click(predicted, truth, 0, clicks)
        assert (found.x, found.time, found.owner) == (9, 2, 0) and 9 <= found.y <= 21
        predicted[0] |= truth[1]
        taken = next_click(predicted, truth, 0, clicks[:1])
        assert (taken.y, taken.x, taken.owner) == (20, 45, 1)  # deeper than what was missed, and the other object's
        predicted = truth.copy()
        predicted[0, 33:40, 20:35] = True
        assert next_click(predicted, truth, 0, clicks).owner == BACKGROUND
        assert next_click(truth, truth, 0, clicks) is None
        assert next_click(~truth, truth, 0, clicks, radius=99) is None

    @pytest.mark.parametrize("strategy", ["worst", "best", "random"])
    def test_a_segmenter_that_learns(self, strategy: str) -> None:
        """Each object becomes right at its third click."""
        truth = self.truth()
        asked = []

        def predict(clicks: Any) -> np.ndarray:
            asked.append([c.owner for c in clicks])
            counts = [asked[-1].count(k) for k in range(2)]
            rows = np.arange(40)[:, None]
            return np.stack(
                [
                    t & ((n >= 3) | (rows < 8 + 6 * n + 3 * k))
                    for k, (t, n) in enumerate(zip(truth, counts, strict=True))
                ]
            )

        found = interact(predict, truth, strategy)
        assert (
            len(found.clicks) == 6 and found.iou.tolist() == [1, 1] and [c.time for c in found.clicks] == list(range(6))
        )
        owners = [c.owner for c in found.clicks]
        assert sorted(owners) == [0, 0, 0, 1, 1, 1]
        assert owners[2:] == {"worst": owners[2:], "best": owners[2:3] * 2 + owners[4:]}.get(strategy, owners[2:])
        scores = score([found])
        assert (scores.nci, scores.nfo, scores.nfi, scores.mean_iou) == (3, 0, 0, 1)

    def test_a_segmenter_that_does_not(self) -> None:
        truth = self.truth()
        found = interact(lambda clicks: truth & (np.arange(60) < 45), truth, most=4)
        assert len(found.clicks) == 8 and found.iou[0] == 1 and 0.4 < found.iou[1] < 0.5
        perfect = interact(lambda clicks: truth, truth)
        scores = score([found, perfect])
        assert (scores.nci, scores.nfo, scores.nfi) == (2.5, 1, 1)
        assert scores.mean_iou == pytest.approx(((1 + found.iou[1]) / 2 + 1) / 2)

    def test_wrong_calls(self) -> None:
        truth = self.truth()
        with pytest.raises(UsageError, match="unknown strategy 'x'; choose one of: best, random, worst"):
            interact(lambda clicks: truth, truth, "x")
        with pytest.raises(ValueError, match="without overlaps"):
            interact(lambda clicks: truth, truth | True)
        with pytest.raises(ValueError, match=r"has shape \[1, 40, 60\], the truth \[2, 40, 60\]"):
            interact(lambda clicks: truth[:1], truth)
        with pytest.raises(ValueError, match="at least one image"):
            score([])
