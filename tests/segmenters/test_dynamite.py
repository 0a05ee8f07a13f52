"""DynaMITe as a segmenter, and asked click by click, on tiny random models: how good masks are is not asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.dynamite.test_modeling_dynamite import tiny_config, two_boxes
from vng import segmenters
from vng.errors import DataError, UsageError
from vng.evaluation.interactive import interact
from vng.models.dynamite.clicks import Prompts, trace_pixels
from vng.models.dynamite.configuration_dynamite import DynamiteConfig
from vng.models.dynamite.modeling_dynamite import DynamiteModel, instance_logits
from vng.models.dynamite.processing_dynamite import InputFit, probabilities
from vng.points import PointPrompts


class TestSegmenter:
    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("dynamite")
        DynamiteModel(tiny_config(short_side=48, long_side=150)).save_pretrained(folder)
        return folder

    PROMPTS = (
        PointPrompts(np.array([[20, 30], [25, 31]]), np.array([[50, 8], [3, 3]])),
        PointPrompts(np.empty((0, 2)), np.array([[7, 7]])),
        PointPrompts(np.array([[60 + i / 2, 20] for i in range(9)]), np.empty((0, 2)), trace=True),
    )

    def test_shape_range_and_no_overlap(self, checkpoint: Path, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (61, 90, 3), dtype=np.uint8)
        result = segmenters.load("dynamite", checkpoint=str(checkpoint))(image, self.PROMPTS)
        assert result.shape == (3, 61, 90) and result.dtype == np.float32
        assert result.min() >= 0 and result.max() <= 1 and not result[1].any()
        assert (result > 0.5).sum(0).max() == 1 and result[0].any() and result[2].any()

    def test_objects_alone_do_not_compete(self, checkpoint: Path, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (61, 90, 3), dtype=np.uint8)
        alone = segmenters.load("dynamite", checkpoint=str(checkpoint), settings={"objects": "alone"})
        together = segmenters.load("dynamite", checkpoint=str(checkpoint))
        found = alone(image, self.PROMPTS)
        for k in range(3):  # as if each were the only prompt
            assert np.array_equal(found[k], together(image, self.PROMPTS[k : k + 1])[0])
        assert not np.array_equal(found, together(image, self.PROMPTS))
        with pytest.raises(UsageError, match="unknown value of objects 'none'; choose one of: alone, together"):
            segmenters.load("dynamite", checkpoint=str(checkpoint), settings={"objects": "none"})

    def test_a_trace_is_all_pixels_of_its_lines(self) -> None:
        places = np.array([[2, 3], [2, 9], [6, 9], [60, 80]])  # the last one after a jump
        pixels = {tuple(p) for p in trace_pixels(places, (61, 90)).astype(int).tolist()}
        assert pixels == {(2, x) for x in range(3, 10)} | {(y, 9) for y in range(2, 7)} | {(60, 80)}
        assert trace_pixels(np.array([[-5, 200]]), (61, 90)).tolist() == [[0, 89]]

    def test_masks_above_one_half_are_the_arg_max(self) -> None:
        logits = torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(0)) * 3
        logits[0, 0, 0] = torch.nextafter(logits[1:, 0, 0].max(), torch.tensor(99.0))  # too small a lead to change 0.5
        found = probabilities(logits)
        won = logits.argmax(0)
        for k in range(3):
            assert torch.equal(found[k] > 0.5, won == k)
        logits[3] = -torch.inf  # no background query at all
        assert torch.isfinite(probabilities(logits)).all() and torch.isfinite(probabilities(logits[2:])).all()

    def test_empty_large_tiny_and_narrow(self, checkpoint: Path) -> None:
        segmenter = segmenters.load("dynamite", checkpoint=str(checkpoint), settings={"short_side": 0})
        assert segmenter(np.zeros((40, 50, 3), np.uint8), []).shape == (0, 40, 50)
        for height, width in ((130, 170), (9, 12), (1, 1), (3, 200)):
            middle = PointPrompts(np.array([[width / 2, height - 1]]), np.array([[width + 9, -4]]))  # outside: the edge
            assert segmenter(np.zeros((height, width, 3), np.uint8), [middle]).shape == (1, height, width)

    def test_negatives_on_another_object_are_left_out(
        self, checkpoint: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segmenter = segmenters.load("dynamite", checkpoint=str(checkpoint), settings={"short_side": 0})
        image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        given = []
        real = segmenter.model.segment

        def watched(encoded: Any, prompts: Prompts) -> Any:
            given.append(prompts)
            output = real(encoded, prompts)
            output.mask_logits[:] = -5
            output.mask_logits[0, -1] = 0  # background, but for a square of the second object
            output.mask_logits[0, 1, 4:8, 4:8] = 5
            return output

        monkeypatch.setattr(segmenter.model, "segment", watched)
        first = PointPrompts(np.array([[50, 50]]), np.array([[24, 24], [80, 10]]))
        second = PointPrompts(np.array([[22, 22]]), np.array([[25, 25], [80, 10]]))
        segmenter(image, [first, second])
        assert [len(p.owners[0]) for p in given] == [2, 4]
        assert given[1].points[0, 2:, 0].tolist() == [[10, 80], [25, 25]]  # its own error, and what both say, once
        assert given[1].times.tolist() == [[0, 1, 2, 3]]

    def test_scaling(self) -> None:
        config = DynamiteConfig()
        assert (fit := InputFit.of(np.zeros((480, 854, 3)), config)) and (fit.rows, fit.columns) == (749, 1333)
        assert InputFit.of(np.zeros((300, 400, 3)), config).padded == (800, 1088)
        fit = InputFit.of(np.zeros((24, 36, 3)), tiny_config(short_side=48))
        assert fit.places(np.array([[10, 20.0], [99, -3]])).tolist() == [[40, 20], [0, 70]]
        values = fit.pixel_values(np.full((24, 36, 3), 255, np.uint8))
        assert (
            values.shape == (1, 3, 64, 96)
            and not values[..., 48:, :].any()
            and values[0, 0, 47, 71] == pytest.approx(2.2489, abs=1e-3)
        )

    def test_a_checkpoint_that_does_not_fit_names_the_weights(self, checkpoint: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
        weights = load_file(checkpoint / "model.safetensors")
        del weights["transformer.query_embed"]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match=r"1 missing: transformer\.query_embed"):
            segmenters.load("dynamite", checkpoint=str(tmp_path))
        with pytest.raises(DataError, match="no such file"):
            segmenters.load("dynamite", checkpoint=str(tmp_path / "none.pth"))

    def test_dynamite_is_asked_click_by_click(self, checkpoint: Path) -> None:
        model = DynamiteModel.from_pretrained(checkpoint).eval()
        truth = two_boxes()[0].numpy()
        encoded = model.encode_image(torch.randn(1, 3, *truth.shape[1:]))

        def predict(clicks: Any) -> np.ndarray:
            output = model.segment(encoded, Prompts.of([clicks]))
            won = instance_logits(output.mask_logits[0], output.owners[0], 2, encoded.size).argmax(0)
            return np.stack([(won == k).numpy() for k in range(2)])

        with torch.inference_mode():
            found = interact(predict, truth, most=3)
        assert 2 <= len(found.clicks) <= 6 and found.iou.shape == (2,)
