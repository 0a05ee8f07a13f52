"""Detectors on tiny random models of `transformers`, saved to disk and loaded as a user would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.detectors import tiny_models
from vng import detectors
from vng.detectors import Detections, DetectorSettings
from vng.detectors.boxes import best, best_detections, from_centres, overlaps, to_pixels
from vng.detectors.grounding_dino import caption_text, joined
from vng.errors import DataError, UsageError

H, W = 48, 80
PHRASES = ["parrot", "green parrot with a red beak", "beak", "parrot"]
MAKERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "grounding-dino": ("grounding-dino", tiny_models.grounding_dino),
    "mm-grounding-dino": ("grounding-dino", lambda path: tiny_models.grounding_dino(path, "MMGroundingDino")),
    "owlv2": ("owlv2", tiny_models.owlv2),
    "sam3": ("sam3", tiny_models.sam3),
}
ALL = DetectorSettings(least_score=0.0, most=100, overlap=1.0, device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, (_, make) in MAKERS.items()}


@pytest.fixture(params=list(MAKERS))
def detector(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Any:
    return detectors.load(MAKERS[request.param][0], checkpoint=folders[request.param], settings=ALL)


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 255, (H, W, 3), np.uint8)


class TestEveryEngine:
    def test_shapes_and_ranges(self, detector: Any, image: np.ndarray) -> None:
        found = detector(image, PHRASES)
        assert len(found) == 4 and all(len(d) > 3 for d in found) and 0 < detector.presence < 1
        for d in found:
            assert d.boxes.dtype == d.scores.dtype == np.float32 and d.boxes.shape == (len(d), 4)
            assert (d.boxes[:, :2] >= 0).all() and (d.boxes[:, 2:] <= [W - 1, H - 1]).all()
            assert (d.boxes[:, :2] <= d.boxes[:, 2:]).all()
            assert (np.diff(d.scores) <= 0).all() and (d.scores >= 0).all() and (d.scores <= 1).all()
            assert d.masks is None or (d.masks.shape == (len(d), H, W) and d.masks.dtype == bool)
        assert (found[0].boxes == found[3].boxes).all() and (found[0].scores == found[3].scores).all()

    def test_nothing_is_asked(self, detector: Any, image: np.ndarray) -> None:
        assert list(detector(image, [])) == []

    def test_the_image_is_encoded_once(self, detector: Any, image: np.ndarray) -> None:
        model = detector.model
        encoder = next(
            module
            for name in ("owlv2.vision_model", "vision_encoder", "model.backbone.conv_encoder.encoder")
            for path, module in model.named_modules()
            if path == name
        )
        calls: list[int] = []
        encoder.register_forward_hook(lambda *_: calls.append(1))
        detector(image, PHRASES)
        assert calls == [1]
        detector(image, PHRASES[:1])
        assert calls == [1, 1]  # nothing is kept from image to image

    def test_what_is_kept(self, detector: Any, image: np.ndarray) -> None:
        everything = detector(image, PHRASES[:1])[0]
        detector.settings = DetectorSettings(least_score=float(everything.scores[2]), most=2, overlap=1.0)
        few = detector(image, PHRASES[:1])[0]
        assert len(few) == 2 and (few.scores == everything.scores[:2]).all()


class TestPlantedBoxes:
    """Networks whose box heads say nothing, so that boxes lie where the architecture begins."""

    def test_grounding_dino(self, folders: dict[str, Path], image: np.ndarray) -> None:
        detector: Any = detectors.load("grounding-dino", checkpoint=folders["grounding-dino"], settings=ALL)
        found = detector(image, ["parrot"])[0]
        # Proposals of level l are squares of 0.05 * 2^l about the middles of its cells.
        wide = (found.boxes[:, 2] - found.boxes[:, 0] + 1) / W
        inner = (found.boxes[:, 0] > 0.5) & (found.boxes[:, 2] < W - 1.5)
        assert inner.any()
        levels = np.log2(wide[inner] / 0.05)
        assert np.allclose(levels, levels.round(), atol=1e-3) and set(levels.round()) <= {0, 1, 2, 3}

    def test_owlv2_of_a_wide_image(self, folders: dict[str, Path], image: np.ndarray) -> None:
        detector: Any = detectors.load("owlv2", checkpoint=folders["owlv2"], settings=ALL)
        found = detector(image, ["parrot"])[0]
        # Four patches a side of the padded square (80 x 80), each box about its patch's lower right corner; below the
        # image (48 rows) nothing is found.
        middles = (found.boxes[:, :2] + found.boxes[:, 2:] + 1) / 2
        inner = found.boxes[:, 2] < W - 2
        assert set(np.round(middles[inner, 0] / 20, 2)) <= {1.0, 2.0, 3.0} and found.scores[found.scores > 0].size == 8

    def test_sam3(self, folders: dict[str, Path], image: np.ndarray) -> None:
        detector: Any = detectors.load("sam3", checkpoint=folders["sam3"], settings=ALL)
        boxes = detector(image, ["parrot"])[0].boxes
        expected = [[8 * q + 8, 14.4, 8 * q + 23, 32.6] for q in range(6)]
        assert np.allclose(boxes[np.argsort(boxes[:, 0])], expected, atol=1e-3)


class TestGroundingDinoScores:
    def test_are_those_of_the_phrase_s_own_tokens(self, folders: dict[str, Path], image: np.ndarray) -> None:
        detector: Any = detectors.load("grounding-dino", checkpoint=folders["grounding-dino"], settings=ALL)
        found = detector(image, ["beak", "parrot"])
        pixels = detector.processor.image_processor(images=image, return_tensors="pt")
        tokens = detector.processor.tokenizer(["beak. parrot."], return_tensors="pt", return_token_type_ids=True)
        words = detector.processor.tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
        assert words == ["[CLS]", "beak", ".", "parrot", ".", "[SEP]"]
        detector.model.model.backbone.conv_encoder.forget()
        with torch.inference_mode():
            output = detector.model(**pixels, **tokens)
        own = output.logits[0].sigmoid()
        assert np.allclose(found[0].scores, np.sort(own[:, 1].numpy())[::-1], atol=1e-6)
        assert np.allclose(found[1].scores, np.sort(own[:, 3].numpy())[::-1], atol=1e-6)

    def test_a_long_phrase_is_a_caption_of_its_own(self, folders: dict[str, Path], image: np.ndarray) -> None:
        detector: Any = detectors.load("grounding-dino", checkpoint=folders["grounding-dino"], settings=ALL)
        assert detector._captions(["beak", "green parrot", "parrot"]) == [["green parrot"], ["beak", "parrot"]]
        detector._most_tokens = 6
        assert detector._captions(["beak", "parrot", "zebra"]) == [["beak", "parrot"], ["zebra"]]
        alone = detector(image, ["green parrot"])[0]
        beside = detector(image, ["beak", "green parrot"])[1]
        assert np.allclose(alone.scores, beside.scores, atol=1e-6)

    def test_captions(self) -> None:
        assert caption_text("A  Red Ball. No?") == "a red ball no"
        assert joined(["a", "red ball"]) == ("a. red ball.", [(0, 1), (3, 11)])


class TestBoxes:
    def test_to_pixels(self) -> None:
        boxes = from_centres(np.array([[0.5, 0.5, 0.5, 0.25]]), 40, 80)
        assert boxes.tolist() == [[20, 15, 60, 25]]
        assert to_pixels(boxes, 40, 80).tolist() == [[20, 15, 59, 24]]
        assert to_pixels(np.array([[-9.0, -9, 99, 99], [50, 50, 50, 50]]), 40, 80).tolist() == [
            [0, 0, 79, 39],
            [50, 39, 50, 39],
        ]

    def test_best(self) -> None:
        boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29], [0, 0, 1, 1]], np.float32)
        settings = DetectorSettings(least_score=0.2, overlap=0.7)
        kept = best_detections(boxes, np.array([0.5, 0.9, 0.3, np.nan]), settings)
        assert best(boxes, np.array([0.5, 0.9, 0.3, np.nan]), settings).tolist() == [1, 2]
        assert kept.scores.tolist() == pytest.approx([0.9, 0.3]) and kept.boxes[1].tolist() == [20, 20, 29, 29]
        nothing = best_detections(boxes[:0], np.zeros(0), DetectorSettings())
        assert len(nothing) == 0 and nothing.boxes.shape == (0, 4)

    def test_overlaps(self) -> None:
        first = np.array([[0, 0, 9, 9]], np.float32)
        second = np.array([[0, 0, 9, 4], [10, 0, 19, 9], [0, 0, 9, 9]], np.float32)
        assert overlaps(first, second).tolist() == [[0.5, 0, 1]]
        assert len(Detections(second, np.ones(3, np.float32))) == 3


class TestCheckpoints:
    def test_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for name in detectors.ENGINES:
            with pytest.raises(
                DataError, match=r"no model loads from here .*; check the name and the network, or give"
            ):
                detectors.load(name, checkpoint="nobody/has-this-one")
        with pytest.raises(DataError, match="no model here"):
            detectors.load("owlv2", checkpoint=tmp_path)

    def test_gated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from transformers import AutoConfig

        def refuse(*_: object, **__: object) -> None:
            raise OSError("You are trying to access a gated repo.\nMake sure to have access to it")

        monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
        with pytest.raises(DataError, match="facebook/sam3: this checkpoint is gated; ask for access on its page"):
            detectors.load("sam3")

    def test_a_kind_that_transformers_does_not_know(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam9"}))
        with pytest.raises(DataError, match="does not know this kind of model; install a newer transformers"):
            detectors.load("sam3", checkpoint=tmp_path)

    def test_a_class_that_transformers_lacks(self, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        from vng.detectors import owlv2

        monkeypatch.setitem(owlv2.CLASSES, "owlv2", "Owlv9ForObjectDetection")
        with pytest.raises(DataError, match="has no Owlv9ForObjectDetection; install a newer transformers"):
            detectors.load("owlv2", checkpoint=folders["owlv2"])

    def test_another_model(self, folders: dict[str, Path]) -> None:
        with pytest.raises(DataError, match="a 'owlv2' model; expected one of grounding-dino, mm-grounding-dino"):
            detectors.load("grounding-dino", checkpoint=folders["owlv2"])

    def test_weights_that_are_missing(self, folders: dict[str, Path], tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        shutil.copytree(folders["owlv2"], tmp_path / "m")
        state = load_file(tmp_path / "m" / "model.safetensors")
        save_file(
            {k: v for k, v in state.items() if "box_head" not in k},
            tmp_path / "m" / "model.safetensors",
            {"format": "pt"},
        )
        with pytest.raises(DataError, match=r"box_head.*; these are not the weights of a Owlv2ForObjectDetection"):
            detectors.load("owlv2", checkpoint=tmp_path / "m")

    def test_wrong_settings(self) -> None:
        with pytest.raises(UsageError, match="least_score=2: expected a value from 0 to 1"):
            DetectorSettings(least_score=2)
        with pytest.raises(UsageError, match="unknown detector 'yolo'; choose one of: grounding-dino, owlv2, sam3"):
            detectors.load("yolo")
