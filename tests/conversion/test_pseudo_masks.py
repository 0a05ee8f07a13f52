"""Pseudo-masks from points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conversion.pseudo_masks import PointedObject, PseudoMaskSettings, make_pseudo_masks
from tests.helpers import Cli, H, T, W, box
from tests.training.stcn.test_clips import moving_boxes, two_boxes
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError
from vng.frames import ArrayFrames, Frames
from vng.masks import area, decode, encode
from vng.points import NEGATIVE, POSITIVE, Points
from vng.propagators import FramePrompts, Propagator


class TestPseudoMasks:
    def test_held_out_points_are_never_seen(self) -> None:
        seen: list[np.ndarray] = []

        def segmenter(image: np.ndarray, prompts: list) -> np.ndarray:
            seen.extend(p.positive for p in prompts)
            return np.stack([box(0, 0, 10, 15).astype(np.float32) for _ in prompts])

        xy = [(x, y) for x in range(2, 12, 2) for y in (2, 5)] + [(20, 15), (25, 15), (3, 3), (22, 3), (28, 3)]
        label = [POSITIVE] * 10 + [NEGATIVE] * 5
        item = PointedObject("id", "ball", Points([1] * 15, xy, label))
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))
        (made,) = make_pseudo_masks(frames, [item], segmenter, PseudoMaskSettings(held_out=0.4), "toy")
        assert len(seen[0]) == 6 and made.quality.n_held_out == 6 and made.quality.n_points == 15
        assert made.segmentations[0] is None and made.segmentations[2] is None
        # all positives and four of the five negatives lie on the right side of the toy's box
        held_negatives = {0.8333333, 1.0}
        assert round(made.quality.point_agreement or 0, 7) in {round(v, 7) for v in held_negatives}
        assert made.source == "points/toy"

    def test_negatives_only_is_absence_ambiguous_is_null(self) -> None:
        points = Points(
            [0, 1, 2, 3, 3], [(5, 5), (6, 6), (7, 7), (8, 8), (9, 9)], [POSITIVE, NEGATIVE, -1, -1, NEGATIVE]
        )
        frames = ArrayFrames(np.zeros((4, H, W, 3), np.uint8))
        toy = lambda image, prompts: np.ones((len(prompts), H, W), np.float32)  # noqa: E731
        (made,) = make_pseudo_masks(frames, [PointedObject("i", "b", points)], toy, PseudoMaskSettings(), "toy")
        first, second, third, fourth = made.segmentations
        assert first is not None and area(first) == H * W
        assert second is not None and area(second) == 0 and third is fourth is None

    def test_point_outside_is_named(self) -> None:
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))
        item = PointedObject("obj", "b", Points([1], [(W, 3)], [POSITIVE]))
        with pytest.raises(DataError, match=r"obj: annotated_points \(000001\): point \(30, 3\) is outside"):
            make_pseudo_masks(frames, [item], lambda i, p: np.zeros((1, H, W)), PseudoMaskSettings(), "toy")


def convert(cli: Callable[..., Cli], points: Path, out: Path, *more: str) -> Cli:
    return cli("convert", "points", "--source", points, "--segmenter", "classical", "--out", out, "--quiet", *more)


def test_masks_are_made_where_points_are(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    write_dataset(tmp_path / "points", [moving_boxes(masks=False)], "test")
    ended = convert(cli, tmp_path / "points", tmp_path / "pseudo", "--held-out", "0")
    assert ended.status == 0, ended.err
    (video,) = VngDataset(tmp_path / "pseudo")
    assert [item.source for item in video.objects] == ["points/classical"] * 2
    assert [item.segmentations[1] is None for item in video.objects] == [False, True]
    for item in video.objects:
        truth, rle = two_boxes(2)[item.object_id], item.segmentations[2]
        assert rle is not None
        found = decode(rle)
        assert (found & truth).sum() / (found | truth).sum() > 0.6
        assert len(item.points) and np.isfinite(item.points.xy).all()


def test_an_object_without_points_is_noted(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    video = moving_boxes(masks=False)
    bare = replace(video, objects=(video.objects[0], replace(video.objects[1], points=Points.none())))
    write_dataset(tmp_path / "points", [bare], "test")
    ended = convert(cli, tmp_path / "points", tmp_path / "pseudo")
    assert ended.status == 0 and "1 notes" in ended.err and "no points" in ended.err
    assert [item.object_id for item in VngDataset(tmp_path / "pseudo")[0].objects] == ["left"]


def test_no_dataset_here(tmp_path: Path, cli: Callable[..., Cli]) -> None:
    ended = convert(cli, tmp_path / "nowhere", tmp_path / "pseudo")
    assert ended.status == 1 and "no such dataset folder" in ended.err and not (tmp_path / "pseudo").exists()


class TestEnginesThatReadPoints:
    """Propagators that get points instead of masks made of them."""

    class Reader(Propagator):
        reads_points = True

        def __init__(self) -> None:
            self.prompts: dict[int, FramePrompts] = {}

        def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
            self.prompts = dict(prompts)
            for t in range(len(frames)):
                yield t, np.ones((len(next(iter(prompts.values()))), *frames.size), np.float32)

    def test_points_reach_the_engine_and_drawn_masks_stay(self) -> None:
        engine = self.Reader()
        drawn = encode(box(0, 0, 5, 5))
        objects = [
            PointedObject("a", "ball", Points([0, 0, 1], [(3, 3), (20, 9), (9, 9)], [POSITIVE, NEGATIVE, -1])),
            PointedObject("b", "box", Points.none(), masks={0: drawn}),
            PointedObject("c", "cup", Points.none()),
        ]
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))

        def never(image: np.ndarray, prompts: list) -> np.ndarray:
            raise AssertionError("the segmenter was asked")

        settings = PseudoMaskSettings(held_out=0.0)
        a, b, c = make_pseudo_masks(frames, objects, never, settings, "toy", propagator=engine)  # type: ignore[arg-type]
        assert sorted(engine.prompts) == [0]  # an ambiguous point is no prompt
        asked = engine.prompts[0]
        assert asked.points[0] is not None and asked.points[0].negative.tolist() == [[20, 9]]
        assert asked.masks[1] is not None and asked.points[1] is None
        assert b.segmentations[0] == drawn and b.segmentations[1] is not None and a.segmentations[2] is not None
        assert c.segmentations == (None,) * T

    def test_from_the_command(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_dataset(tmp_path / "points", [moving_boxes(masks=False)], "test")
        words = ["--propagator", "proposals", "--held-out", "0"]
        ended = convert(cli, tmp_path / "points", tmp_path / "pseudo", *words)
        assert ended.status == 0, ended.err
        (video,) = VngDataset(tmp_path / "pseudo")
        assert all(rle is not None for item in video.objects for rle in item.segmentations)
