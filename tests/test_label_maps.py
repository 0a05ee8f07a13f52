"""Label images: reading PNGs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.evaluation.vos.moving_discs import save
from vng.errors import DataError
from vng.label_maps import read_label_map


class TestReadPng:
    def test_palettes_and_greys(self, tmp_path: Path, rng: np.random.Generator) -> None:
        labels = rng.integers(0, 200, (13, 17)).astype(np.uint8)
        save(labels, tmp_path / "palette.png")
        save(labels, tmp_path / "grey.png", "L")
        cv2.imwrite(str(tmp_path / "filtered.png"), labels)
        for path in sorted(tmp_path.iterdir()):
            np.testing.assert_array_equal(read_label_map(path, (13, 17)), labels)
        Image.fromarray(labels > 90).save(tmp_path / "1.png")
        np.testing.assert_array_equal(read_label_map(tmp_path / "1.png", (13, 17)), labels > 90)

    def test_damage_is_met(self, tmp_path: Path, rng: np.random.Generator) -> None:
        path = tmp_path / "a.png"
        save(rng.integers(0, 9, (13, 17)), path)
        whole = path.read_bytes()
        start = whole.index(b"IDAT") + 4
        for length in (0, 7, 30, start + 5, start + 40):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match="cannot be read"):
                read_label_map(path, (13, 17))
        path.write_bytes(whole[:start] + b"\0\0" + whole[start + 2 :])  # no stream of zlib
        with pytest.raises(DataError, match="cannot be read"):
            read_label_map(path, (13, 17))
