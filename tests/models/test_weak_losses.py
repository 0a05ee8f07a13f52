"""Losses of points and of noisy masks: maps read at points, the grounder's terms and matching under weaker evidence."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models.referformer.losses_points import DRAWN, NOISY, POINTS, Evidence, weak_mask_terms
from vng.models.referformer.losses_referformer import Prediction, Targets, losses, make_targets, match
from vng.models.weak_losses import UNKNOWN, huberised, read_at

M, T, Q, P, h, w = 2, 3, 4, 5, 6, 9  # nouns, frames, queries, points, mask pixels
SIZE = (4 * h, 4 * w)
WEIGHTS = {"class": 2.0, "box": 5.0, "giou": 2.0, "mask": 2.0, "dice": 5.0}


def test_reading_is_that_of_the_enlarged_map() -> None:
    maps = torch.randn(2, h, w, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(maps[:, None], scale_factor=4, mode="bilinear", align_corners=False)[:, 0]
    xy = torch.tensor([[(0, 0), (35, 23), (7, 11)], [(2, 1), (17, 0), (35, 0)]]).float()
    wanted = torch.stack([large[r, xy[r, :, 1].long(), xy[r, :, 0].long()] for r in range(2)])
    assert torch.allclose(read_at(maps, xy, SIZE), wanted, atol=1e-5)
    assert read_at(maps, xy[:, :0], SIZE).shape == (2, 0)
    between = read_at(torch.arange(w).float().expand(1, h, w), torch.tensor([[(5.5, 3.0)]]), SIZE)
    assert between.item() == pytest.approx(1.0)  # column 1 of the map has its centre at 5.5 of the frame


def test_huberised_cross_entropy_pulls_no_harder_than_its_threshold() -> None:
    logarithm = torch.tensor([0.5, 0.1, 0.01, 1e-30]).log().requires_grad_()
    values = huberised(logarithm, 10.0)
    assert values.tolist() == pytest.approx([math.log(2), math.log(10), 3.2026, 3.3026], abs=1e-4)
    values.sum().backward()
    assert logarithm.grad is not None and logarithm.grad.tolist() == pytest.approx([-1, -1, -0.1, 0], abs=1e-4)


def evidence(kinds: list[int], verdicts: Tensor | None = None, xy: Tensor | None = None) -> Evidence:
    m = len(kinds)
    verdicts = torch.full((m, T, P), UNKNOWN) if verdicts is None else verdicts
    xy = torch.zeros(m, T, verdicts.shape[2], 2) if xy is None else xy
    return Evidence(torch.tensor(kinds), xy, verdicts, SIZE)


def prediction(seed: int = 0) -> Prediction:
    g = torch.Generator().manual_seed(seed)
    logits, boxes = torch.randn(M, T, Q, generator=g), torch.rand(M, T, Q, 4, generator=g)
    return Prediction(
        logits.requires_grad_(), boxes.requires_grad_(), torch.randn(M, T, Q, h, w, generator=g).requires_grad_()
    )


def targets(told: Evidence | None) -> Targets:
    masks = torch.zeros(M, T, *SIZE, dtype=torch.bool)
    masks[:, :2, 4:15, 8:30] = True  # absent from the last frame
    if told is not None:
        masks[told.by_points] = False
    annotated = torch.ones(M, T, dtype=torch.bool)
    return make_targets(masks, annotated, torch.tensor([SIZE] * M).float(), torch.tensor([1.0, 0.5]), told)


def points() -> tuple[Tensor, Tensor]:
    """Two positives and a negative of each noun's first frame, a negative of the last, nothing in the second."""
    verdicts = torch.full((M, T, P), UNKNOWN)
    xy = torch.zeros(M, T, P, 2)
    verdicts[:, 0, :3] = torch.tensor([1, 1, 0])
    xy[:, 0, :3] = torch.tensor([(9.5, 5.5), (21.5, 9.5), (33.5, 21.5)])
    verdicts[:, 2, 0] = 0
    return xy, verdicts


class TestTerms:
    def test_drawn_evidence_is_none(self) -> None:
        drawn = losses(prediction(), targets(evidence([DRAWN, DRAWN])), WEIGHTS)
        assert all(
            torch.equal(value, drawn[name]) for name, value in losses(prediction(), targets(None), WEIGHTS).items()
        )

    def test_points_known_number(self) -> None:
        xy, verdicts = points()
        told = evidence([POINTS, DRAWN], verdicts, xy)
        masks = torch.full((M, 2, T, h, w), -3.0)
        masks[:, 1, 0, :4] = 3.0  # the second mask holds the positives, and neither negative
        truth, shares = torch.zeros(M, T, h, w), torch.full((M, T), 1 / T)
        old = torch.full((M, 2), 7.0)
        entropy, dice = weak_mask_terms(masks, truth, shares, told, old, old)
        right, wrong = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
        assert entropy[0].tolist() == pytest.approx([(2 * wrong + 2 * right) / 4, right], abs=1e-5)
        p = 1 / (1 + math.exp(3))
        assert dice[0].tolist() == pytest.approx(
            [1 - (4 * p + 1) / (4 * p + 3), 1 - (4 * (1 - p) + 1) / (2 + 3)], abs=1e-5
        )
        assert torch.equal(entropy[1], old[1]) and torch.equal(dice[1], old[1])

    def test_nothing_told_costs_nothing(self) -> None:
        told = evidence([POINTS, POINTS])
        zeros, shares = torch.zeros(M, T, h, w), torch.full((M, T), 1 / T)
        entropy, dice = weak_mask_terms(torch.randn(M, Q, T, h, w), zeros, shares, told, *torch.ones(2, M, Q))
        assert not entropy.any() and not dice.any()

    def test_noisy_known_number(self) -> None:
        masks = torch.zeros(M, 1, T, h, w)
        masks[0, 0, 0] = -20.0  # of a frame that is all object: as wrong as can be
        truth = torch.zeros(M, T, h, w)
        truth[0, 0] = 1
        shares = torch.full((M, T), 1 / T)
        entropy, dice = weak_mask_terms(masks, truth, shares, evidence([NOISY, DRAWN]), *torch.full((2, M, 1), 7.0))
        assert entropy[:, 0].tolist() == pytest.approx([(math.log(10) + 1 + 2 * math.log(2)) / 3, 7.0], abs=1e-5)
        assert (dice == 7).all()

    def test_shapes_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"evidence: kinds and points of shapes .* for verdicts \[2, 3, 5\]"):
            evidence([DRAWN, DRAWN], torch.zeros(M, T, P), torch.zeros(M, T, P - 1, 2))


class TestLosses:
    def test_points_say_what_is_there_and_nothing_of_boxes(self) -> None:
        xy, verdicts = points()
        told = targets(evidence([POINTS, POINTS], verdicts, xy))
        assert told.present.tolist() == [[True, False, False]] * M and not told.boxed.any()
        output = prediction()
        terms = losses(output, told, WEIGHTS)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        assert terms["box"] == terms["giou"] == 0 and not output.boxes.grad.any()  # type: ignore[union-attr]
        assert output.logits.grad.any() and output.masks.grad.any()  # type: ignore[union-attr]

    def test_a_mixed_batch_is_its_parts(self) -> None:
        """The first noun by points, the second by a noisy mask: class, box and mask terms of each as when alone."""
        xy, verdicts = points()
        verdicts[1] = UNKNOWN
        both = losses(prediction(), targets(evidence([POINTS, NOISY], verdicts, xy)), WEIGHTS)
        whole, parts = prediction(), []
        for noun, kind in ((0, POINTS), (1, NOISY)):
            one = slice(noun, noun + 1)
            told = evidence([kind], verdicts[one], xy[one])
            full = targets(evidence([POINTS, NOISY], verdicts, xy))
            alone = Targets(
                full.masks[one], full.boxes[one], full.present[one], full.annotated[one], full.weight[one], told
            )
            output = Prediction(whole.logits[one], whole.boxes[one], whole.masks[one])
            count = float((alone.present.float() * alone.weight[:, None]).sum().clamp(min=1))
            parts.append({name: value * count for name, value in losses(output, alone, WEIGHTS).items()})
        count = 2.0  # one frame seen of the first, two of weight 0.5 of the second
        for name, value in both.items():
            assert value.item() == pytest.approx((parts[0][name] + parts[1][name]).item() / count, rel=1e-5), name

    def test_the_query_that_holds_the_points_is_matched(self) -> None:
        xy, verdicts = points()
        output = prediction()
        masks = torch.full((M, T, Q, h, w), -4.0)
        masks[0, 0, 2, 1:3, 2:6] = masks[1, 0, 1, 1:3, 2:6] = 4.0
        output = Prediction(torch.zeros(M, T, Q), output.boxes, masks)
        assert match(output, targets(evidence([POINTS, POINTS], verdicts, xy)), WEIGHTS).tolist() == [2, 1]

    def test_unannotated_frames_show_nothing(self) -> None:
        xy, verdicts = points()
        annotated = torch.tensor([[False, True, True], [True, True, True]])
        masks, size = torch.zeros(M, T, *SIZE, dtype=torch.bool), torch.tensor([SIZE] * M).float()
        made = make_targets(masks, annotated, size, torch.ones(M), evidence([POINTS, POINTS], verdicts, xy))
        assert made.present.tolist() == [[False] * 3, [True, False, False]]
