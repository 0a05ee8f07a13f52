"""The segmenter `embedded`: the shipped ClickNet, its settings and its view of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.clicknet.test_modeling_clicknet import NO_POINTS, points
from vng.models.clicknet.modeling_clicknet import ClickNet, Clicks
from vng.models.clicknet.processing_clicknet import to_clicks
from vng.models.loading import shipped_weights
from vng.points import PointPrompts
from vng.segmenters.embedded import EmbeddedSegmenter, EmbeddedSettings, View


class TestEmbedded:
    def prompts(self) -> list[PointPrompts]:
        spots = [(5, 5), (20, 9), (33, 14), (12, 30), (40, 28)]
        return [PointPrompts(points(spot), points((48, 2))) for spot in spots]

    def test_shipped_weights_are_small_and_whole(self) -> None:
        assert sum(file.stat().st_size for file in shipped_weights("embedded").iterdir()) < 12e6
        card = (shipped_weights("embedded") / "README.md").read_text()
        assert "license: apache-2.0" in card and "@" not in card  # nothing left to fill in
        assert sum(p.numel() for p in EmbeddedSegmenter().model.parameters()) > 1e6

    def test_an_image_is_looked_at_once_for_all_objects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        segmenter, looks = EmbeddedSegmenter(), []
        look = ClickNet._look
        monkeypatch.setattr(ClickNet, "_look", lambda self, pixels: looks.append(1) or look(self, pixels))
        image = np.zeros((240, 432, 3), np.uint8)
        segmenter(image, self.prompts()[:1])
        once = len(looks)
        segmenter(image, self.prompts())
        assert len(looks) == 2 * once == 4

    def test_same_again(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        first, second = (EmbeddedSegmenter()(image, self.prompts()) for _ in range(2))
        assert np.array_equal(first, second)

    def test_half_a_file_is_computed_in_full(self) -> None:
        assert next(EmbeddedSegmenter().model.parameters()).dtype == torch.float32

    def test_others_is_a_switch_and_traces_ignore_it(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        heeding, alone = EmbeddedSegmenter(), EmbeddedSegmenter(settings=EmbeddedSettings("never"))
        assert not np.allclose(heeding(image, self.prompts()), alone(image, self.prompts()), atol=1e-3)
        traces = [PointPrompts(p.positive, NO_POINTS, trace=True) for p in self.prompts()]
        assert np.allclose(heeding(image, traces), alone(image, traces), atol=1e-5)

    def test_objects_without_positives_stay_empty(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        prompts = [PointPrompts(NO_POINTS, points((3, 3))), *self.prompts()[:2]]
        found = EmbeddedSegmenter()(image, prompts)
        assert not found[0].any() and found[1:].any((1, 2)).all()

    def test_many_objects_and_points_outside(self) -> None:
        prompts = [PointPrompts(points((-3, 400), (i, i)), points((900, -2))) for i in range(30)]
        assert EmbeddedSegmenter()(np.zeros((33, 47, 3), np.uint8), prompts).shape == (30, 33, 47)


class TestView:
    @pytest.mark.parametrize("size", [(480, 854), (240, 432), (60, 90), (9, 12), (1, 1), (37, 1000)])
    def test_there_and_back(self, size: tuple[int, int]) -> None:
        view = View.of(*size)
        seen = view.apply(np.zeros((*size, 3), np.uint8))
        assert seen.shape[2] % 32 == seen.shape[3] % 32 == 0 and view.rows * view.columns < 1.1 * 240 * 432
        back = np.empty(size, np.float32)
        view.restore(np.ones(seen.shape[2:], np.float32), back)
        assert np.allclose(back, 1)

    def test_points_move_with_the_pixels(self) -> None:
        moved_points = View.of(480, 864).move(PointPrompts(points((0, 0), (863, 479)), points((100.5, 3))))
        assert np.allclose(moved_points.positive, [(-0.25, -0.25), (431.25, 239.25)])
        assert np.allclose(moved_points.negative, [(50, 1.25)])


def test_the_wrong_kind_of_clicks_cannot_be_made() -> None:
    clicks = to_clicks([])
    assert isinstance(clicks, Clicks) and clicks.positive.shape == (0, 0, 2)
