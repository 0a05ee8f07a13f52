"""Prompts of masks written by a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, W, box
from tests.propagation.clip import FRAMES, write_mask, write_points
from vng.errors import DataError, DataErrors
from vng.frames import ImageFolder
from vng.propagation.mask_prompts import read_masks


class TestMaskFiles:
    def test_a_folder(self, tmp_path: Path, clip: Path) -> None:
        both = 7 * box(2, 3, 9, 12) + 3 * box(11, 18, 17, 27) + 255 * box(0, 0, 1, 30)
        write_mask(tmp_path / "m" / "00010.png", both)
        write_mask(tmp_path / "m" / "00012.png", 3 * box(10, 18, 17, 27))
        write_mask(tmp_path / "m" / "00013.png", np.zeros((H, W)))
        (tmp_path / "m" / "notes.txt").write_text("mine")
        prompts = read_masks(tmp_path / "m", ImageFolder(clip))
        assert prompts.names == ("3", "7") and prompts.numbers == (3, 7) and list(prompts.frames) == [0, 2, 3]
        third, seventh = prompts.frames[0].masks
        assert (third == box(11, 18, 17, 27)).all() and (seventh == box(2, 3, 9, 12)).all()
        assert prompts.frames[2].masks[1] is None  # nothing is said of it there
        assert [mask is not None and not mask.any() for mask in prompts.frames[3].masks] == [True, True]
        assert "absent from this frame" in str(prompts.notes[0])

    def test_one_mask_is_of_the_first_frame_unless_named(self, tmp_path: Path, clip: Path) -> None:
        frames = ImageFolder(clip)
        mask = box(2, 3, 9, 12)
        assert list(read_masks(write_mask(tmp_path / "drawn 2.png", mask), frames).frames) == [0]
        assert list(read_masks(write_mask(tmp_path / "00012.png", mask), frames).frames) == [2]

    def test_black_and_white_is_one_object(self, tmp_path: Path) -> None:
        prompts = read_masks(write_mask(tmp_path / "m.png", 255 * box(2, 3, 9, 12)), FRAMES)
        assert prompts.names == ("1",) and prompts.frames[0].masks[0].sum() == 63  # type: ignore[union-attr]
        assert "255 is the only value beside 0" in str(prompts.notes[0])

    @pytest.mark.parametrize(
        ("name", "values", "message"),
        [
            ("000000.png", np.ones((W, H)), "000000.png: frame 000000: size: 30x20 pixels, the frames have 20x30"),
            ("000009.png", np.ones((H, W)), "the video has no frame of this name; name it by a frame, '000000' to"),
            ("000000.png", np.zeros((H, W)), "no object in the masks; paint each object with a value from 1 to 254"),
            ("000000.png", np.ones((H, W, 3)), "expected an 8-bit palette or grey PNG, got colours (mode RGB)"),
        ],
    )
    def test_wrong_masks(self, tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
        write_mask(tmp_path / "m" / name, values)
        with pytest.raises((DataError, DataErrors)) as error:
            read_masks(tmp_path / "m", FRAMES)
        assert message in str(error.value) and len(str(error.value).splitlines()) == 1

    def test_no_masks(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder or PNG"):
            read_masks(tmp_path / "none", FRAMES)
        points = write_points(tmp_path / "p.json", {})
        for path in (points, tmp_path):
            with pytest.raises(DataError, match="give points with --points"):
                read_masks(path, FRAMES)
        (tmp_path / "m").mkdir()
        with pytest.raises(DataError, match=r"no \.png masks in this folder; save masks as PNG"):
            read_masks(tmp_path / "m", FRAMES)
        (tmp_path / "m" / "0.png").write_bytes(b"no image")
        with pytest.raises(DataErrors, match="this mask cannot be read"):
            read_masks(tmp_path / "m", FRAMES)
        write_mask(tmp_path / "m" / "0.png", np.ones((H, W)))
        write_mask(tmp_path / "m" / "000000.png", np.ones((H, W)))
        with pytest.raises(DataErrors, match=r"000000.png: 0.png is of the same frame; keep one"):
            read_masks(tmp_path / "m", FRAMES)
