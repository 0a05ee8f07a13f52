"""Points simulated from masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conversion.simulated_points import SimulationSettings, clicks_in_mask, farthest_in_mask, simulate_points
from tests.conversion.formats.test_davis import H, W, labels, write_clip
from tests.helpers import Cli
from vng.dataset import Video, VideoObject, VngDataset
from vng.errors import UsageError
from vng.masks import RLE, decode, depth, encode
from vng.points import NEGATIVE, POSITIVE, read_at

HIGH, WIDE = 48, 64  # a tenth of 480 rows: distances are a tenth of those given
EVERY = SimulationSettings(positives=3, negatives=2, frames=None)


def block(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A mask bool [HIGH, WIDE]."""
    mask = np.zeros((HIGH, WIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


def a_video(*objects: tuple[np.ndarray | None, ...]) -> Video:
    """A video without pixels; of each object its masks, None where not annotated. Ids count from 1."""
    names = tuple(f"{t:05d}" for t in range(len(objects[0])))
    made = tuple(
        VideoObject(str(i), "", "davis", tuple(None if m is None else encode(m) for m in masks))
        for i, masks in enumerate(objects, 1)
    )
    return Video(
        video_id="clip",
        dataset="DAVIS",
        split="train",
        height=HIGH,
        width=WIDE,
        fps=24.0,
        frame_names=names,
        narratives=(),
        expressions=(),
        objects=made,
    )


def no_void(video: Video) -> tuple[RLE | None, ...]:
    return (None,) * len(video.frame_names)


class TestSimulation:
    def test_points_lie_where_their_label_says(self) -> None:
        left, right, void = block(4, 2, 40, 24), block(8, 30, 30, 60), block(0, 0, 3, 64)
        video = a_video((left, left), (right, right))
        made = simulate_points(
            video, (encode(void), None), SimulationSettings(positives=9, negatives=40, frames=None, distance=30)
        )
        for item, mask in zip(made.objects, (left, right), strict=True):
            assert item.segmentations == (None, None) and item.quality.n_points == len(item.points)
            for t in range(2):
                points = item.points.in_frame(t)
                on, off = points.of(POSITIVE).xy, points.of(NEGATIVE).xy
                assert len(on) == 9 and len(off) > 20
                assert read_at(mask, on).all() and not read_at(mask, off).any()
                assert t == 1 or not read_at(void, off).any()
                for xy in (on, off):  # 30 pixels at 480 rows are 3 at 48
                    apart = np.hypot(*(xy[:, None] - xy).transpose(2, 0, 1))
                    assert apart[~np.eye(len(xy), dtype=bool)].min() >= 3

    def test_another_object_is_background(self) -> None:
        whole = np.ones((HIGH, WIDE), bool)
        left = block(0, 0, HIGH, 20)
        made = simulate_points(video := a_video((left,), (whole & ~left,)), no_void(video), EVERY)
        assert len(made.objects[0].points.of(NEGATIVE)) == 2
        common = simulate_points(
            video, no_void(video), SimulationSettings(positives=3, negatives=2, sampling="farthest")
        )
        assert len(common.objects[0].points.of(NEGATIVE)) == 0  # the common background is empty here

    def test_too_little_room_gives_fewer_and_absence_gives_negatives_alone(self) -> None:
        video = a_video((block(5, 5, 6, 7), block(0, 0, 0, 0), None))
        points = simulate_points(video, no_void(video), EVERY).objects[0].points
        assert points.frame.tolist() == [0, 0, 0, 1, 1] and points.label.tolist() == [1, 0, 0, 0, 0]

    def test_a_draw_depends_on_names_and_seed_alone(self) -> None:
        one, two = block(4, 2, 40, 24), block(8, 30, 30, 60)
        both, single = a_video((one, one), (two, two)), a_video((one, one))
        first = simulate_points(both, no_void(both), EVERY).objects[0].points
        alone = simulate_points(single, no_void(single), EVERY).objects[0].points
        assert np.array_equal(first.xy, alone.xy)
        assert not np.array_equal(first.in_frame(0).xy, first.in_frame(1).xy)
        last = (
            simulate_points(single, no_void(single), SimulationSettings(positives=3, negatives=2, frames=1))
            .objects[0]
            .points
        )
        assert np.array_equal(last.xy, first.in_frame(0).xy)
        more = (
            simulate_points(single, no_void(single), SimulationSettings(positives=7, negatives=9, frames=None))
            .objects[0]
            .points
        )
        assert np.array_equal(more.in_frame(1).of(POSITIVE).xy[:3], first.in_frame(1).of(POSITIVE).xy)
        other = (
            simulate_points(single, no_void(single), SimulationSettings(positives=3, negatives=2, frames=None, seed=1))
            .objects[0]
            .points
        )
        assert not np.array_equal(other.xy, first.xy)

    def test_frames_are_evenly_spaced_over_those_annotated(self) -> None:
        mask = block(4, 2, 40, 24)
        video = a_video((None, mask, None, mask, None, mask, None))
        made = simulate_points(
            video, no_void(video), SimulationSettings(positives=1, negatives=0, frames=2, keep_masks=True)
        )
        assert made.objects[0].points.frame.tolist() == [1, 5]
        assert made.objects[0].segmentations == video.objects[0].segmentations

    def test_frames_drawn_at_random(self) -> None:
        """By seed and name; fewer are the first ones of more; the first annotated frame is always among them."""
        video = a_video((None, *[block(4, 2, 40, 24)] * 19))

        def drawn(count: int, seed: int = 0) -> set[int]:
            settings = SimulationSettings(positives=1, negatives=0, frames=count, seed=seed, frame_sampling="random")
            return set(simulate_points(video, no_void(video), settings).objects[0].points.frame.tolist())

        assert drawn(4) == drawn(4) and drawn(4) < drawn(9) < drawn(99) == set(range(1, 20))
        assert all(1 in drawn(4, seed) and len(drawn(4, seed)) in (4, 5) for seed in range(9))
        assert len({frozenset(drawn(4, seed)) for seed in range(9)}) > 5

    def test_farthest_points_start_in_the_middle(self) -> None:
        mask = block(10, 20, 17, 33)  # 7 rows, 13 columns: the deepest pixels are of row 13
        first, second, third = farthest_in_mask(mask, 3, 0)
        assert (first.tolist(), second.tolist(), third.tolist()) == ([23, 13], [32, 10], [29, 16])
        assert len(farthest_in_mask(mask, 99, 8)) < 6 and farthest_in_mask(mask & False, 3, 0).shape == (0, 2)
        assert len(farthest_in_mask(block(0, 0, 2, 2), 9, 0)) == 4

    def test_shared_negatives_are_one_draw_on_the_common_background(self) -> None:
        left, right = block(4, 2, 40, 24), block(8, 30, 30, 60)
        video = a_video((left, left), (right, None))
        settings = SimulationSettings(positives=2, negatives=6, frames=None, shared_negatives=True)
        one, two = (item.points.of(NEGATIVE) for item in simulate_points(video, no_void(video), settings).objects)
        assert np.array_equal(one.in_frame(0).xy, two.xy) and len(one) == 12 and len(two) == 6
        assert not read_at(left | right, one.in_frame(0).xy).any()

    def test_the_first_frame_of_an_object_gets_points(self) -> None:
        mask = block(4, 2, 40, 24)
        video = a_video((mask, None, mask, None, mask), (None, mask, None, None, None))
        made = simulate_points(video, no_void(video), SimulationSettings(positives=1, negatives=0, frames=2))
        assert [item.points.frame.tolist() for item in made.objects] == [[0, 4], [1]]

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"positives": 0}, "--simulate 0"),
            ({"negatives": -1}, "--negatives -1"),
            ({"frames": 0}, "--point-frames 0"),
            ({"sampling": "grid"}, "--sampling grid"),
            ({"frame_sampling": "odd"}, "--frame-sampling odd"),
            ({"distance": float("nan")}, "--distance nan"),
        ],
    )
    def test_values_out_of_range(self, wrong: dict[str, object], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            SimulationSettings(**({"positives": 1, "negatives": 1} | wrong))  # type: ignore[arg-type]


class TestDavisPoints:
    def test_a_point_version(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1, 2, 255), labels(0, 2)])
        call = ["convert", "davis", "--root", tmp_path / "davis", "--simulate", "4", "--negatives", "3", "--quiet"]
        assert cli(*call, "--out", tmp_path / "points").status == 0
        assert cli(*call, "--out", tmp_path / "both", "--keep-masks", "--point-frames", "all").status == 0
        assert "masks by" not in (tmp_path / "points" / "README.md").read_text()  # no engine has a part in it
        points, both = VngDataset(tmp_path / "points")[0], VngDataset(tmp_path / "both")[0]
        for bare, full in zip(points.objects, both.objects, strict=True):
            assert set(bare.segmentations) == {None} and None not in full.segmentations
            assert np.array_equal(bare.points.xy, full.points.xy) and len(bare.points.of(NEGATIVE)) == 6
        void = labels(0, 0, 255) > 0
        assert not any(read_at(void, o.points.in_frame(0).of(NEGATIVE).xy).any() for o in points.objects)
        ended = cli("inspect", tmp_path / "points", "--quiet")
        assert "Point-VOS DAVIS, train (Table 11)" in ended.out and "the paper does not say so" in ended.out
        assert "0 problems and notes" in ended.out  # no mask and no narrative are as meant
        seen = decode(both.objects[0].segmentations[0])
        assert seen.shape == (H, W) and read_at(seen, points.objects[0].points.of(POSITIVE).xy).all()

    def test_shared_negatives_are_counted_once(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1, 2, 255), labels(1, 2)])
        call = ["convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", "--quiet"]
        assert cli(*call, "--simulate", "1", "--negatives", "5", "--shared-negatives").status == 0
        figures = json.loads(cli("inspect", tmp_path / "out", "--json", "--quiet").out)["points"]
        assert (figures["negative points"], figures["negative places"], figures["frames"]) == (20, 10, 2)

    @pytest.mark.parametrize(
        "option",
        [
            ("--keep-masks",),
            ("--shared-negatives",),
            ("--negatives", "0"),
            ("--point-frames", "all"),
            ("--distance", "0"),
            ("--sampling", "random"),
            ("--point-seed", "0"),
        ],
    )
    def test_options_of_points_go_with_points(
        self, tmp_path: Path, cli: Callable[..., Cli], option: tuple[str, ...]
    ) -> None:
        write_clip(tmp_path / "davis", "two", [labels(1)])
        ended = cli("convert", "davis", "--root", tmp_path / "davis", "--out", tmp_path / "out", *option)
        assert ended.status == 2 and f"{option[0]} requires --simulate" in ended.err


class TestClicks:
    """Where ClickVOS lets people click."""

    def test_the_middle_of_the_object(self) -> None:
        video = a_video((block(5, 10, 16, 41),))
        settings = SimulationSettings(positives=1, negatives=2, sampling="centre")
        points = simulate_points(video, no_void(video), settings).objects[0].points
        (xy,) = points.of(POSITIVE).xy
        assert xy[1] == 10 and 15 <= xy[0] <= 35 and len(points.of(NEGATIVE)) == 2

    def test_people_click_deeper_than_chance_and_not_always_in_the_middle(self) -> None:
        mask, rng = block(4, 6, 40, 58), np.random.default_rng(0)
        inner = depth(mask)
        human = [
            inner[int(y), int(x)] for x, y in np.concatenate([clicks_in_mask(mask, 1, 0, rng) for _ in range(300)])
        ]
        chance = inner[mask].mean()
        assert chance * 1.15 < np.mean(human) < inner.max() * 0.9 and len(set(human)) > 10

    def test_several_keep_their_distance_and_none_fit_in_nothing(self) -> None:
        rng = np.random.default_rng(1)
        xy = clicks_in_mask(block(4, 6, 40, 58), 5, 9, rng)
        apart = np.hypot(*(xy[:, None] - xy).transpose(2, 0, 1))
        assert len(xy) == 5 and apart[~np.eye(5, dtype=bool)].min() >= 9
        assert clicks_in_mask(np.zeros((5, 6), bool), 3, 0, rng).shape == (0, 2)
        assert len(clicks_in_mask(block(4, 6, 6, 8), 9, 30, rng)) == 1
