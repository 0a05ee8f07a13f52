"""SAM-PT's simulated person beside recordings of the authors' program (`sam_pt_interactions.json`; see `test_sam_pt`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.propagators.test_sam_pt import Discs, Waves, numbered
from vng.errors import UsageError
from vng.masks import RLE, decode
from vng.points import PointPrompts
from vng.propagators.sam_pt import SamPtPropagator, SamPtSettings
from vng.propagators.sam_pt_interactive import InteractionSettings, click_in, largest_cluster, simulate

RECORDED = json.loads((Path(__file__).parent / "sam_pt_interactions.json").read_text())


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:60, :80]
    return np.hypot(rows - y, columns - x) < radius


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_interactions_are_those_of_the_authors_program(name: str) -> None:
    record = RECORDED[name]
    height, width = record["size"]
    truth = np.stack([decode(RLE((height, width), counts)) for counts in record["truth"]])
    engine = SamPtPropagator(
        settings=SamPtSettings(refinements=record["refinements"]),
        tracker=Waves(**record["tracker"]),
        segmenter=Discs(**record["sam"]),
    )
    queries, positives = np.array(record["queries"]), record["positives"]
    prompt = PointPrompts(queries[:positives, 1:], queries[positives:, 1:])
    clicks = iter(record["clicks"])
    found = simulate(
        engine,
        numbered(len(truth), height, width),
        truth,
        int(queries[0, 0]),
        prompt,
        InteractionSettings(**record["settings"]),
        lambda region, rng: tuple(next(clicks)),
    )
    told = [[i.action, i.frame, round(i.before, 4), round(i.after, 4)] for i in found.interactions]
    assert [row[:2] for row in told] == [row[:2] for row in record["history"]]
    assert np.allclose([row[2:] for row in told], [row[2:] for row in record["history"]], atol=2e-4)
    assert found.masks.sum((1, 2)).tolist() == record["areas"]


class TestSimulation:
    def run(self, truth: np.ndarray, **settings: Any) -> Any:
        engine = SamPtPropagator(
            settings=SamPtSettings(refinements=0),
            tracker=Waves(amp=0.0, mod=9973),
            segmenter=Discs(r0=10, bad_iou_mod=9973),
        )
        prompt = PointPrompts([(40, 30)], [])
        video = numbered(len(truth), 60, 80, first=1)
        return simulate(engine, video, truth, 1, prompt, InteractionSettings(**settings))

    def test_good_masks_need_nobody(self) -> None:
        truth = np.stack([disc(40, 30, 10.5)] * 4)
        found = self.run(truth, online=True, threshold=0.8)
        assert not found.interactions and found.j.min() > 0.8 and found.masks.shape == truth.shape

    def test_a_budget_is_kept(self) -> None:
        truth = np.stack([disc(15, 12, 4)] * 4)
        found = self.run(truth, online=True, threshold=0.95, most=4)
        assert len(found.interactions) == 3 and found.interactions[0].action == "remove positive"

    def test_an_absent_object_has_its_positives_removed(self) -> None:
        truth = np.zeros((3, 60, 80), bool)
        found = self.run(truth, online=True)
        assert [i.action for i in found.interactions] == ["remove positive"] and (found.j == 1).all()

    def test_what_it_refuses(self) -> None:
        with pytest.raises(UsageError, match=r"truth of shape \[2, 5, 6\]"):
            simulate(SamPtPropagator(), numbered(2, 60, 80), np.zeros((2, 5, 6), bool), 0, PointPrompts([(1, 1)], []))
        with pytest.raises(UsageError, match="at least one positive"):
            simulate(SamPtPropagator(), numbered(2, 60, 80), np.zeros((2, 60, 80), bool), 0, PointPrompts([], [(1, 1)]))
        with pytest.raises(UsageError, match="threshold=0"):
            InteractionSettings(threshold=0)


class TestClicks:
    def test_the_larger_of_two_clusters(self) -> None:
        region = np.zeros((400, 500), bool)
        region[20:60, 20:60] = True
        region[200:300, 200:320] = True
        x, y = click_in(region, np.random.default_rng(0))
        assert 200 <= x < 320 and 200 <= y < 300

    def test_a_small_region_is_taken_whole(self) -> None:
        region = np.zeros((60, 80), bool)
        region[3, 5] = True
        assert click_in(region, np.random.default_rng(0)) == (5, 3)

    def test_clusters_by_hand(self) -> None:
        dense = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2)
        rest = np.array([[50, 50], [60, 50], [4, 6]])
        points = np.concatenate([dense, rest])
        cluster = largest_cluster(points, 2.0, neighbours=6)
        assert len(cluster) >= len(dense) and [50, 50] not in cluster.tolist()
        assert len(largest_cluster(rest, 2.0)) == 0 and len(largest_cluster(points, 0.5)) == 0
