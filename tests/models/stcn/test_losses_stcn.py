"""Losses of STCN: known numbers, the reference's golden values, what counts for nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.shared_clip import textured_labels
from vng.models.stcn.losses_stcn import (
    IGNORED,
    UNKNOWN,
    Bootstrapping,
    bootstrapped_cross_entropy,
    huberised_cross_entropy,
    point_cross_entropy,
)


def logits_of(*probabilities: float, height: int = 2, width: int = 3) -> torch.Tensor:
    """[1, classes, H, W] whose softmax is the same everywhere."""
    return torch.tensor(probabilities).log().view(1, -1, 1, 1).expand(1, len(probabilities), height, width)


class TestBootstrapped:
    def test_share_follows_the_released_program(self) -> None:
        shares = [Bootstrapping().share(step) for step in (0, 19_999, 20_000, 45_000, 70_000, 70_001)]
        assert shares == pytest.approx([1.0, 1.0, 1.0, 0.575, 0.15, 0.15])

    def test_only_the_hardest_count(self) -> None:
        logits = torch.zeros(1, 2, 1, 4)
        logits[0, 1] = torch.tensor([0.0, 1.0, 2.0, 3.0])
        target = torch.zeros(1, 1, 4, dtype=torch.long)
        hardest = bootstrapped_cross_entropy(logits, target, 0.5)
        assert hardest.item() == pytest.approx((math.log1p(math.exp(2)) + math.log1p(math.exp(3))) / 2)
        assert bootstrapped_cross_entropy(logits, target, 1.0).item() == F.cross_entropy(logits, target).item()

    def test_ignored_pixels_and_clips_without_any(self) -> None:
        logits, target = torch.randn(2, 3, 4, 5, requires_grad=True), torch.full((2, 4, 5), IGNORED)
        target[1, 2, 3] = 2
        for share in (1.0, 0.3):
            loss = bootstrapped_cross_entropy(logits, target, share)
            assert loss[0] == 0
        assert bootstrapped_cross_entropy(logits, target, 1.0)[1].item() == pytest.approx(
            F.cross_entropy(logits[1:, :, 2:3, 3], torch.tensor([[2]])).item()
        )
        loss.sum().backward()
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]

    def test_reference_values(self, shared: Path) -> None:
        """The released program's own, on the labels of the clip the goldens were made from."""
        folder = shared / "goldens" / "stcn"
        logits = torch.from_numpy(np.load(folder / "golden_stcn.npz")["train/logits_both"])
        target = torch.from_numpy(textured_labels(shared, frame=1)).long()[None]
        for step, (loss, share) in json.loads((folder / "golden_stcn.json").read_text())["bootstrapped_ce"].items():
            found = Bootstrapping().share(int(step))
            assert found == pytest.approx(share)
            assert bootstrapped_cross_entropy(logits, target, found).item() == pytest.approx(loss, abs=1e-5)


class TestHuberised:
    def test_cross_entropy_where_the_class_is_likely(self) -> None:
        loss = huberised_cross_entropy(logits_of(0.6, 0.4), torch.zeros(1, 2, 3, dtype=torch.long), threshold=5.0)
        assert loss.item() == pytest.approx(-math.log(0.6), abs=1e-6)

    def test_linear_where_it_is_not_and_continuous_between(self) -> None:
        target = torch.zeros(1, 2, 3, dtype=torch.long)
        loss = huberised_cross_entropy(logits_of(0.05, 0.95), target, threshold=5.0)
        assert loss.item() == pytest.approx(-5 * 0.05 + math.log(5) + 1, abs=1e-6)
        just = [huberised_cross_entropy(logits_of(p, 1 - p), target, 5.0).item() for p in (0.2 - 1e-5, 0.2 + 1e-5)]
        assert just[0] == pytest.approx(just[1], abs=2e-4)

    def test_the_gradient_is_bounded(self) -> None:
        """Of the probability, by the threshold; plain cross-entropy pulls with 1 / p."""
        p = torch.tensor(1e-4, requires_grad=True)
        logits = torch.stack([p.log(), (1 - p).log()]).view(1, 2, 1, 1)
        huberised_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.long), threshold=7.0).sum().backward()
        assert p.grad is not None and p.grad.item() == pytest.approx(-7.0, rel=1e-3)


class TestPoints:
    def test_reads_between_pixels(self) -> None:
        """Half way between two pixels of probability 0.2 and 0.6 lies 0.4."""
        inside = torch.tensor([0.2, 0.6, 0.9])
        logits = torch.stack([1 - inside, inside]).log().view(1, 2, 1, 3)
        xy = torch.tensor([[[[0.5, 0.0], [2.0, 0.0]]]])
        for labels, wanted in (([1, UNKNOWN], -math.log(0.4)), ([0, 1], -(math.log(0.6) + math.log(0.9)) / 2)):
            assert point_cross_entropy(logits, xy, torch.tensor([[labels]])).item() == pytest.approx(wanted, abs=1e-5)

    def test_negative_says_what_a_pixel_is_not(self) -> None:
        logits = logits_of(0.1, 0.7, 0.2)
        xy = torch.tensor([[[[1.0, 1.0]], [[2.0, 0.0]]]])
        loss = point_cross_entropy(logits, xy, torch.tensor([[[0], [1]]]))
        assert loss.item() == pytest.approx(-(math.log(0.3) + math.log(0.2)) / 2, abs=1e-5)

    def test_no_points(self) -> None:
        logits = torch.randn(2, 3, 4, 5, requires_grad=True)
        loss = point_cross_entropy(logits, torch.zeros(2, 2, 0, 2), torch.zeros(2, 2, 0, dtype=torch.long))
        assert loss.tolist() == [0.0, 0.0]
        padded = point_cross_entropy(logits, torch.zeros(2, 2, 3, 2), torch.full((2, 2, 3), UNKNOWN))
        assert padded.tolist() == [0.0, 0.0]
