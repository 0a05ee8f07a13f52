"""The image-text model on tiny random models, and the crops that it sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.detectors import tiny_models
from tests.helpers import box
from vng.errors import DataError
from vng.grounding.image_text import ImageText, faded_crop


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_shares(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    model = ImageText(tiny_models.siglip(tmp_path / kind, kind), "cpu")
    crops = [rng.integers(0, 255, (12, 20, 3), np.uint8), rng.integers(0, 255, (40, 9, 3), np.uint8)]
    shares = model(crops, ["a red ball", "a green parrot", "Beak"])
    assert shares.shape == (2, 3) and shares.dtype == np.float32 and np.allclose(shares.sum(1), 1, atol=1e-5)
    assert np.allclose(model(crops[1:], ["Beak", "a red ball", "a green parrot"])[0], shares[1][[2, 0, 1]], atol=1e-5)
    assert model([], ["x"]).shape == (0, 1) and model(crops, []).shape == (2, 0)


def test_another_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a 'owlv2' model; expected one of clip, metaclip_2, siglip, siglip2"):
        ImageText(tiny_models.owlv2(tmp_path), "cpu")


def test_all_but_the_thing_is_faded() -> None:
    image = np.full((30, 50, 3), 200, np.uint8)
    mask = box(10, 20, 20, 30, 30, 50)
    crop = faded_crop(image, mask)
    assert crop.shape == (16, 16, 3)  # 3 pixels more on each side
    assert (crop[3:13, 3:13] == 200).all() and crop[0, 0, 0] == int(200 * 0.25 + 127 * 0.75)
    assert faded_crop(image, box(0, 0, 2, 2, 30, 50)).shape[:2] == (3, 3)
