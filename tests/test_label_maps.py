"""Label images: reading PNGs."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.evaluation.vos.moving_discs import save
from vng import label_maps
from vng.errors import DataError
from vng.label_maps import check_smoothed, read_label_map


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


def disc(value: int = 255) -> np.ndarray:
    image = np.zeros((90, 120), np.uint8)
    cv2.circle(image, (60, 45), 25, value, -1)
    return image


class TestSmoothedEdges:
    """A ramp of grey around a mask is not a row of objects."""

    @pytest.mark.parametrize(
        "image",
        [
            cv2.GaussianBlur(disc(), (0, 0), 0.5),
            cv2.GaussianBlur(disc(), (0, 0), 6),
            cv2.resize(disc(), (61, 47), interpolation=cv2.INTER_AREA),
            cv2.resize(disc(200), (260, 190), interpolation=cv2.INTER_LINEAR),
            cv2.imdecode(cv2.imencode(".jpg", disc())[1], cv2.IMREAD_GRAYSCALE),
        ],
        ids=["blurred", "very blurred", "shrunk", "enlarged, of 200", "as JPEG"],
    )
    def test_is_refused(self, image: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"a.png: \d+ values \(.*look like the smoothed edges.*threshold it at 128"):
            check_smoothed(Path("a.png"), image)

    def test_objects_are_no_ramp(self) -> None:
        labels = np.zeros((90, 120), np.uint8)
        labels[10:40, 10:60], labels[50:80, 50:90], labels[8:10, 10:60] = 100, 200, 150  # one thin object
        thin = np.where(disc() > 0, 1, 0).astype(np.uint8)
        thin[cv2.dilate(thin, np.ones((3, 3), np.uint8)) - thin > 0] = 255  # void around an object
        many = (np.arange(90)[:, None] // 15 * 20 + np.arange(120) // 8).astype(np.uint8) * 2
        for map_ in (labels, thin, many, disc(), np.zeros((9, 12), np.uint8)):
            check_smoothed(Path("a.png"), map_)


class TestFilteredRows:
    """PNGs of other programs, whose rows are differences."""

    FILTERS = ("NONE", "SUB", "UP", "AVG", "PAETH")

    def pictures(self, rng: np.random.Generator) -> list[np.ndarray]:
        disc = cv2.circle(np.zeros((37, 53), np.uint8), (25, 18), 11, 255, -1)
        return [disc, np.zeros((3, 5), np.uint8), rng.integers(0, 256, (11, 17), np.uint8), disc[:1], disc[:, :1] + 7]

    @pytest.mark.parametrize("module", ["zlib_ng", "zlib"])
    def test_the_same_pixels(
        self, tmp_path: Path, rng: np.random.Generator, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if module == "zlib":
            monkeypatch.setattr(label_maps, "_inflate", lambda: zlib)
        else:
            pytest.importorskip("zlib_ng")
        quick = 0
        for image in self.pictures(rng):
            for name in self.FILTERS:
                kind = getattr(cv2, f"IMWRITE_PNG_FILTER_{name}")
                cv2.imwrite(str(tmp_path / "a.png"), image, [cv2.IMWRITE_PNG_FILTER, kind])
                assert (read_label_map(tmp_path / "a.png", image.shape) == image).all(), name
                quick += label_maps._plain_pixels((tmp_path / "a.png").read_bytes(), image.shape) is not None
            Image.fromarray(image).save(tmp_path / "b.png")
            assert (read_label_map(tmp_path / "b.png", image.shape) == image).all()
        assert quick >= 15  # without Pillow

    def test_damage_is_met_with_zlib_ng_too(self, tmp_path: Path) -> None:
        pytest.importorskip("zlib_ng")
        cv2.imwrite(str(tmp_path / "a.png"), np.full((9, 8), 255, np.uint8))
        whole = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(whole.replace(b"IDAT", b"IDAT" + b"\0" * 4)[: len(whole)])
        with pytest.raises(DataError, match="cannot be read"):
            read_label_map(tmp_path / "a.png", (9, 8))
