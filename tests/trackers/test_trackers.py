"""Point trackers on videos whose motion is known, and those of packages that are not installed here."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from benchmarks.trackers import draw, measure
from vng.errors import DataError, UsageError
from vng.frames import ArrayFrames
from vng.trackers import ENGINES, NEEDS_PACKAGE, both_ways, load
from vng.trackers.features import FeatureSettings
from vng.trackers.lucas_kanade import LucasKanadeSettings, LucasKanadeTracker

OURS = [name for name in ENGINES if name not in NEEDS_PACKAGE]


def moving(count: int = 8, velocity: tuple[float, float] = (2.0, -1.0)) -> ArrayFrames:
    """A texture [96, 144] that moves by `velocity` pixels a frame."""
    rng = np.random.default_rng(3)
    ground = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
    ground = cv2.resize(ground, (400, 320), interpolation=cv2.INTER_CUBIC)
    frames = []
    for t in range(count):
        shift = np.array([[1, 0, velocity[0] * t - 100], [0, 1, velocity[1] * t - 100]], np.float32)
        frames.append(cv2.warpAffine(ground, shift, (144, 96)))
    return ArrayFrames(np.stack(frames))


QUERIES = np.array([[0, 40, 50], [2, 70, 40], [5, 90.5, 60.25]], np.float32)


@pytest.mark.parametrize("name", OURS)
class TestEveryTracker:
    def test_follows_a_texture(self, name: str) -> None:
        seen = list(load(name)(moving(), QUERIES))
        assert [t for t, *_ in seen] == list(range(8))
        for t, xy, visibility in seen:
            assert xy.shape == (3, 2) and xy.dtype == np.float32 and visibility.dtype == np.float32
            for p, (start, x, y) in enumerate(QUERIES):
                if t < start:
                    assert visibility[p] == 0 and (xy[p] == (x, y)).all()
                elif t == start:
                    assert visibility[p] == 1 and (xy[p] == (x, y)).all()
                elif visibility[p] > 0.5:
                    assert np.abs(xy[p] - (x + 2 * (t - start), y - (t - start))).max() < 4
        assert np.mean([v[0] for *_, v in seen]) > 0.6

    def test_both_ways_gives_every_frame_once(self, name: str) -> None:
        found = {t: (xy, v) for t, xy, v in both_ways(load(name), moving(), QUERIES)}
        assert sorted(found) == list(range(8))
        xy, visibility = found[1]
        assert visibility[0] > 0.5 and np.abs(xy[0] - (42, 49)).max() < 4
        assert visibility[2] <= 0.5 or np.abs(xy[2] - (82.5, 64.25)).max() < 5

    def test_no_queries(self, name: str) -> None:
        assert list(load(name)(moving(2), np.empty((0, 3)))) == []

    @pytest.mark.parametrize(
        ("query", "told"),
        [([0, 200, 5], r"\(200, 5\) in frame 0"), ([9, 5, 5], "8 frames of 144x96"), ([0, np.nan, 5], "query 0")],
    )
    def test_queries_outside(self, name: str, query: list[float], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            list(load(name)(moving(), np.array([query])))

    def test_a_point_that_leaves_is_invisible(self, name: str) -> None:
        last = list(load(name)(moving(8, (12.0, 0.0)), np.array([[0, 120, 50]])))[-1]
        assert last[2][0] == 0


def test_queries_of_another_shape() -> None:
    with pytest.raises(UsageError, match=r"\[2, 2\]: expected \[P, 3\]"):
        list(LucasKanadeTracker()(moving(), np.zeros((2, 2))))


def test_true_places_of_the_procedural_world() -> None:
    frames, queries, places, shown = draw(0, 5, 6, "hard")
    assert places.shape == (len(frames), len(queries), 2) and shown.shape == places.shape[:2]
    assert np.allclose(places[0], queries[:, 1:], atol=1e-6) and shown[0].all()


def test_lucas_kanade_is_exact_and_finds_what_is_hidden() -> None:
    figures = measure("lucas_kanade", 4, 8, 5, "hard")
    assert figures["median_error"] <= 2 and figures["occluded"] >= 0.8 and figures["kept"] > 0.5


@pytest.mark.parametrize(
    ("settings", "values", "told"),
    [
        (LucasKanadeSettings, {"window": 1}, "window=1"),
        (LucasKanadeSettings, {"tolerance": 0}, "tolerance=0"),
        (FeatureSettings, {"reach": 0}, "reach=0"),
        (FeatureSettings, {"newest": 1.0}, "newest=1"),
    ],
)
def test_settings_out_of_range(settings: Any, values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        settings(**values)


class FakeOnline(torch.nn.Module):
    """The call of CoTracker's online predictor: points that move by (2, -1) a frame."""

    step = 3

    def __init__(self, checkpoint: str | None = None) -> None:
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.chunks: list[int] = []

    def forward(
        self, chunk: torch.Tensor, is_first_step: bool = False, queries: Any = None, add_support_grid: bool = False
    ) -> Any:
        if is_first_step:
            self.queries, self.seen = queries, 0
            return None, None
        assert chunk.shape[2:] == (3, 96, 144) and chunk.dtype == torch.float32
        self.chunks.append(chunk.shape[1])
        self.seen = (len(self.chunks) - 1) * self.step + chunk.shape[1]
        t = torch.arange(self.seen)[:, None]
        moved = (t - self.queries[0, :, 0])[..., None] * torch.tensor([2.0, -1.0])
        return (self.queries[0, :, 1:] + moved)[None], torch.ones(1, self.seen, self.queries.shape[1], dtype=torch.bool)


class FakeTapir(torch.nn.Module):
    """The call of TAPIR: points that move by (1, 0) a frame of its square; hidden from frame 4 on."""

    def __init__(self, pyramid_level: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, video: torch.Tensor, query_points: torch.Tensor) -> dict[str, torch.Tensor]:
        assert video.shape[2:] == (256, 256, 3) and video.min() >= -1 and (query_points[..., 0] == 0).all()
        t = torch.arange(video.shape[1])
        tracks = query_points[0, :, [2, 1]][:, None] + t[:, None] * torch.tensor([1.0, 0.0])
        hidden = torch.where(t >= 4, 9.0, -9.0).expand(len(tracks), -1)
        return {"tracks": tracks[None], "occlusion": hidden[None], "expected_dist": torch.full_like(hidden, -9.0)[None]}


class TestInstalled:
    @pytest.mark.parametrize("name", sorted(NEEDS_PACKAGE))
    def test_a_missing_package_is_named(self, name: str) -> None:
        with pytest.raises(UsageError, match="pip install git"):
            load(name, checkpoint="x.pth")

    def test_cotracker_streams_in_windows(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        module = types.ModuleType("cotracker.predictor")
        module.CoTrackerOnlinePredictor = FakeOnline  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cotracker", types.ModuleType("cotracker"))
        monkeypatch.setitem(sys.modules, "cotracker.predictor", module)
        torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "w.pth")
        tracker: Any = load("cotracker", checkpoint=str(tmp_path / "w.pth"), settings={"device": "cpu"})
        found = list(tracker(moving(11), QUERIES))
        assert [t for t, *_ in found] == list(range(11)) and tracker._predictor.chunks == [6, 6, 5]
        for t, xy, visibility in found:
            for p, (start, x, y) in enumerate(QUERIES):
                expected = (x, y) if t < start else (x + 2 * (t - start), y - (t - start))
                assert np.allclose(xy[p], expected, atol=1e-4) and visibility[p] == (t >= start)
        with pytest.raises(UsageError, match="no weights of its own"):
            load("cotracker")
        (tmp_path / "bad.pth").write_bytes(b"not weights")
        with pytest.raises(DataError, match=r"bad\.pth"):
            load("cotracker", checkpoint=str(tmp_path / "bad.pth"))

    def test_tapir_windows_begin_with_the_querys_frame(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("tapnet", "tapnet.torch"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        module = types.ModuleType("tapnet.torch.tapir_model")
        module.TAPIR = FakeTapir  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tapnet.torch.tapir_model", module)
        torch.save(FakeTapir(1).state_dict(), tmp_path / "w.pt")
        settings = {"device": "cpu", "window": "3"}
        tracker = load("tapir", checkpoint=str(tmp_path / "w.pt"), settings=settings)
        found = {t: (xy, v) for t, xy, v in tracker(moving(7), QUERIES)}
        assert sorted(found) == list(range(7))
        xy, visibility = found[2]  # third frame of the first window: 3 steps of the square after the query's frame
        assert np.allclose(xy[0], (40 + 3 * 144 / 256, 50), atol=1e-3) and visibility[0] > 0.9
        assert found[1][1][1] == 0 and found[2][1][1] == 1 and (found[2][0][1] == (70, 40)).all()
