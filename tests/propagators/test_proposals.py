"""PointVIS as a propagator: proposals linked over the procedural world, chosen by points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from conversion.synthetic.scene import PRESETS, make_scene, render
from vng.errors import DataError, UsageError
from vng.frames import ArrayFrames
from vng.points import PointPrompts, sample_in_mask
from vng.propagators import FramePrompts, load
from vng.propagators.proposal_sources import ColourProposals, GridProposals, Proposals, load_source, without_repeats
from vng.propagators.proposals import ProposalPropagator, ProposalSettings, disjoint, point_table


class NearPerfect:
    """True masks a little eroded, with distractors: unions of neighbours, halves, and patches of the ground."""

    def __init__(self, frames: np.ndarray, masks: np.ndarray, seed: int) -> None:
        self._keys = {frame.tobytes(): t for t, frame in enumerate(frames)}
        self._masks, self._rng = masks, np.random.default_rng(seed)

    def __call__(self, image: np.ndarray) -> Proposals:
        own = self._masks[:, self._keys[image.tobytes()]]
        unions = [own[i] | own[j] for i in range(len(own)) for j in range(i)]
        halves = [mask & (np.arange(mask.shape[1]) > np.median(np.nonzero(mask)[1])) for mask in own if mask.any()]
        ground = []
        for _ in range(5):
            y, x = (int(self._rng.integers(0, n - 20)) for n in image.shape[:2])
            patch = np.zeros(image.shape[:2], bool)
            patch[y : y + 20, x : x + 20] = True
            ground.append(patch)
        masks = np.array([m for m in (*own, *unions, *halves, *ground) if m.any()])
        masks = masks[self._rng.permutation(len(masks))]
        return Proposals(
            masks=masks, scores=np.ones(len(masks), np.float32), maskness=masks.mean((1, 2)).astype(np.float32)
        )


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([41, seed])
    frames, masks = render(make_scene(PRESETS["easy"], rng), rng)
    return frames, masks[masks.any((1, 2, 3))]


def one_point_everywhere(masks: np.ndarray, seed: int) -> dict[int, FramePrompts]:
    rng, prompts = np.random.default_rng(seed), {}
    for t in range(masks.shape[1]):
        points = tuple(
            PointPrompts(sample_in_mask(m, 1, 0, rng), np.empty((0, 2))) if m.any() else None for m in masks[:, t]
        )
        if any(p is not None for p in points):
            prompts[t] = FramePrompts(points=points)
    return prompts


def share_found(settings: ProposalSettings, worlds: range) -> float:
    """Share of objects and frames whose mask has an IoU above 0.8 with the truth."""
    right: list[bool] = []
    for seed in worlds:
        frames, masks = world(seed)
        engine = ProposalPropagator(settings=settings, source=NearPerfect(frames, masks, seed))
        found = dict(engine(ArrayFrames(frames), one_point_everywhere(masks, seed)))
        for t in range(len(frames)):
            for k, mask in enumerate(masks[:, t]):
                if mask.sum() > 30:
                    own = found[t][k] > 0.5
                    right.append((own & mask).sum() > 0.8 * (own | mask).sum())
    return float(np.mean(right))


def test_one_positive_point_finds_its_proposal_and_cross_instance_negatives_matter() -> None:
    frame = {"matching": "frame"}
    whole = share_found(ProposalSettings(**frame), range(6))
    alone = share_found(ProposalSettings(**frame, others=0.0), range(6))
    print(f"\nright proposal: all costs {100 * whole:.1f} %, without cross-instance negatives {100 * alone:.1f} %")
    assert whole >= 0.95 and alone < whole - 0.1


def test_linked_proposals_carry_one_prompted_frame_through_the_video() -> None:
    frames, masks = world(3)
    prompts = one_point_everywhere(masks, 0)
    first = {0: prompts[0]}
    found = dict(ProposalPropagator(source=NearPerfect(frames, masks, 1))(ArrayFrames(frames), first))
    assert sorted(found) == list(range(len(frames)))
    assert all(p.shape == (len(masks), *frames.shape[1:3]) and p.dtype == np.float32 for p in found.values())
    assert ((found[2] > 0.5).sum(0) <= 1).all()


def test_an_object_lives_where_it_has_points() -> None:
    frames, masks = world(0)
    prompts = {t: p for t, p in one_point_everywhere(masks, 0).items() if t < 5}
    settings = ProposalSettings(lifetime="prompted")
    found = dict(
        ProposalPropagator(settings=settings, source=NearPerfect(frames, masks, 1))(ArrayFrames(frames), prompts)
    )
    assert (found[3] > 0.5).any() and not (found[8] > 0.5).any()


class TestUntidyPrompts:
    FRAMES = np.zeros((3, 40, 60, 3), np.uint8)

    def source(self, *boxes: tuple[int, int, int, int]) -> Any:
        masks = np.zeros((len(boxes), 40, 60), bool)
        for mask, (y0, x0, y1, x1) in zip(masks, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        size = masks.mean((1, 2)).astype(np.float32)
        return lambda image: Proposals(masks=masks, scores=np.ones(len(masks), np.float32), maskness=size)

    def run(self, source: Any, *points: Any) -> np.ndarray:
        prompts = {0: FramePrompts(points=tuple(None if p is None else PointPrompts(p, []) for p in points))}
        found = dict(ProposalPropagator(source=source)(ArrayFrames(self.FRAMES), prompts))
        return found[0] > 0.5

    def test_proposals_that_cover_nothing(self) -> None:
        assert not self.run(self.source((0, 0, 5, 5)), [(50, 30)]).any()

    def test_no_proposals(self) -> None:
        assert not self.run(self.source(), [(50, 30)]).any()

    def test_two_objects_with_the_same_points_share_nothing(self) -> None:
        both = self.run(self.source((10, 10, 30, 30), (12, 12, 28, 28)), [(20, 20)], [(20, 20)])
        assert both.any((1, 2)).all() and not both.all(0).any()

    def test_an_object_that_never_appears(self) -> None:
        both = self.run(self.source((10, 10, 30, 30)), [(20, 20)], None)
        assert both[0].any() and not both[1].any()

    def test_a_point_on_the_border(self) -> None:
        assert self.run(self.source((0, 0, 10, 10)), [(0, 0)]).sum() == 100

    def test_masks_stand_as_points_and_stay_exact(self) -> None:
        mask = np.zeros((40, 60), bool)
        mask[11:29, 11:29] = True
        source = self.source((10, 10, 30, 30), (0, 0, 40, 60))
        found = dict(ProposalPropagator(source=source)(ArrayFrames(self.FRAMES), {1: FramePrompts(masks=(mask,))}))
        assert (found[1][0] == mask).all() and (found[0][0] > 0.5).sum() == 400
        assert len(point_table({1: FramePrompts(masks=(mask,))}).frame) == 16

    def test_masks_of_another_size(self) -> None:
        def wrong(image: np.ndarray) -> Proposals:
            return Proposals(masks=np.ones((1, 4, 4), bool), scores=np.ones(1), maskness=np.ones(1))

        with pytest.raises(DataError, match=r"masks of shape \[1, 4, 4\]"):
            self.run(wrong, [(20, 20)])


class TestSettings:
    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"source": "magic"}, "source of proposals"),
            ({"matching": "none"}, "matching"),
            ({"others": -1.0}, "weight of others"),
            ({"overlap": 0.0}, "overlap=0"),
            ({"source_options": "[1]"}, "JSON object"),
            ({"source_options": "{"}, "no JSON"),
            ({"source_options": '{"size": 3}'}, "takes no 'size'"),
        ],
    )
    def test_wrong_ones(self, changed: dict[str, Any], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            ProposalPropagator(settings=ProposalSettings(**changed))

    def test_by_name_as_on_a_command_line(self) -> None:
        engine = load("proposals", settings={"source": "colours", "matching": "frame", "points": "4"})
        assert engine.settings.points == 4.0  # type: ignore[attr-defined]


class TestSources:
    IMAGE = np.full((48, 64, 3), 40, np.uint8)
    IMAGE[10:30, 20:50] = (200, 60, 40)

    def test_colours_find_a_rectangle(self) -> None:
        proposals = ColourProposals(colours=(2, 4))(self.IMAGE)
        truth = (self.IMAGE[..., 0] == 200).ravel()
        iou = [(m.ravel() & truth).sum() / (m.ravel() | truth).sum() for m in proposals.masks]
        assert max(iou) > 0.9

    def test_grid_of_the_shipped_segmenter(self) -> None:
        proposals = GridProposals(side=6, most=9)(self.IMAGE)
        assert 0 < len(proposals) <= 9 and proposals.masks.shape[1:] == (48, 64)
        assert (np.diff(proposals.scores) <= 0).all()

    def test_repeats_go(self) -> None:
        masks = np.zeros((3, 10, 40), bool)
        masks[0, :5], masks[1, :6], masks[2, 8:] = True, True, True
        whole = Proposals(masks=masks, scores=np.arange(3, dtype=np.float32), maskness=masks.mean((1, 2)))
        assert without_repeats(whole, 0.7, np.array([0, 1, 2])).scores.tolist() == [0, 2]

    def test_a_detector_needs_a_segmenter_that_takes_boxes(self) -> None:
        with pytest.raises(UsageError, match=r"takes no boxes|no weights|checkpoint"):
            load_source("detector", segmenter="embedded")

    def test_mask2former_needs_a_checkpoint(self) -> None:
        with pytest.raises(UsageError, match="name a checkpoint"):
            load_source("mask2former")

    def test_a_tiny_mask2former_links_by_its_queries(self, tmp_path: Any) -> None:
        torch.manual_seed(0)
        swin = SwinConfig(
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        config = Mask2FormerConfig(
            backbone_config=swin,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            num_queries=7,
            num_labels=3,
        )
        Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path / "m")
        source = load_source("mask2former", checkpoint=str(tmp_path / "m"), short_side=64, device="cpu")
        proposals = source(self.IMAGE)
        assert proposals.masks.shape == (7, 48, 64) and proposals.embeddings is not None
        assert np.allclose(np.linalg.norm(proposals.embeddings, axis=1), 1, atol=1e-5)
        engine = ProposalPropagator(source=source)
        frames = ArrayFrames(np.stack([self.IMAGE] * 3))
        found = dict(engine(frames, {0: FramePrompts(points=(PointPrompts([(30, 20)], []),))}))
        assert sorted(found) == [0, 1, 2]


def test_the_smaller_of_two_lies_in_front() -> None:
    masks = np.zeros((2, 4, 5))
    masks[0], masks[1, 1:3, 1:3] = 1, 1
    assert disjoint(masks)[0].sum() == 16 and disjoint(masks)[1].sum() == 4
