"""Frames from folders, films and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, T, W, write_frames
from vng import frames
from vng.errors import DataError


class TestFrames:
    def test_folder_in_number_order(self, tmp_path: Path, rng: np.random.Generator) -> None:
        clip = rng.integers(0, 255, (11, H, W, 3), dtype=np.uint8)
        write_frames(tmp_path / "v", clip, "{}.png")
        opened = frames.open_frames(tmp_path / "v")
        assert opened.names == [str(i) for i in range(11)] and opened.size == (H, W)
        np.testing.assert_array_equal(opened[10], clip[10])
        np.testing.assert_array_equal(opened.subset([4, 2])[1], clip[2])
        with pytest.raises(IndexError):
            opened[11]

    def test_video_frames_are_exact(self, tmp_path: Path) -> None:
        from vng.viewer import write_video

        clip = np.stack([np.full((32, 48, 3), 20 * i + 10, np.uint8) for i in range(9)])
        write_video(iter(clip), tmp_path / "v.mp4", fps=29.97)
        opened = frames.open_frames(tmp_path / "v.mp4")
        assert len(opened) == 9 and opened.size == (32, 48) and opened.fps == pytest.approx(29.97, abs=0.01)
        for index in (8, 0, 5, 5, 4):
            assert abs(float(opened[index].mean()) - (20 * index + 10)) < 3
        assert opened.names[:2] == ["000000", "000001"]

    def test_changing_size_is_named(self, tmp_path: Path) -> None:
        write_frames(tmp_path, np.zeros((2, 4, 6, 3), np.uint8))
        write_frames(tmp_path, np.zeros((1, 5, 6, 3), np.uint8), "9{:05d}.png")
        with pytest.raises(DataError, match=r"frame 900000: size: 5x6 pixels, the frames before it have 4x6"):
            list(frames.open_frames(tmp_path))

    def test_faults_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "000000.jpg").write_bytes(b"no image")
        (tmp_path / "bad.mp4").write_bytes(b"no video")
        for path, words in (("empty", "no .jpg"), ("none", "no such folder"), ("bad.mp4", "cannot be opened")):
            with pytest.raises(DataError, match=words):
                frames.open_frames(tmp_path / path)
        with pytest.raises(DataError, match=r"000000.jpg: this image cannot be decoded"):
            frames.open_frames(tmp_path / "bad")[0]

    def test_names_of_annotations_are_found(self, tmp_path: Path) -> None:
        blank = np.zeros((2, 4, 6, 3), np.uint8)
        write_frames(tmp_path / "plain", blank, "{}.png")
        write_frames(tmp_path / "decoded", blank)
        write_frames(tmp_path / "ovis", np.zeros((3, 4, 6, 3), np.uint8), "img_{:07d}.png")
        plain, decoded, ovis = (frames.open_frames(tmp_path / n) for n in ("plain", "decoded", "ovis"))
        assert plain.index_of("000001") == 1 and decoded.index_of("1") == 1 and decoded.index_of("000002") is None
        assert decoded.index_of("img_0000001") == 0  # decoded frames count from 0, OVIS from 1
        assert ovis.index_of("img_0000001") == 1 and ovis.index_of("000001") is None and ovis.index_of("shot") is None

    def test_damaged_video_is_an_error_of_ours(self, tmp_path: Path) -> None:
        from vng.viewer import write_video

        rng = np.random.default_rng(0)
        write_video(iter(rng.integers(0, 255, (30, 64, 96, 3), dtype=np.uint8)), tmp_path / "v.mp4")
        data = bytearray((tmp_path / "v.mp4").read_bytes())
        data[len(data) // 2 :] = data[len(data) // 2 :][: len(data) // 5]
        (tmp_path / "v.mp4").write_bytes(data)
        with pytest.raises(DataError):
            list(frames.open_frames(tmp_path / "v.mp4"))

    def test_many_videos_leave_no_file_open(self, tmp_path: Path) -> None:
        import os

        from vng.viewer import write_video

        write_video(iter(np.zeros((3, 32, 48, 3), np.uint8)), tmp_path / "v.mp4")
        before = len(os.listdir("/proc/self/fd"))
        kept = [frames.open_frames(tmp_path / "v.mp4") for _ in range(5)]
        assert [f.size for f in kept] == [(32, 48)] * 5 and len(os.listdir("/proc/self/fd")) <= before + 1

    @pytest.mark.parametrize("name", ["../secret", "/etc", "a/../../b", "", ".", ".."])
    def test_names_never_lead_out(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match="leads out of its folder"):
            frames.find_frames(tmp_path, name)

    def test_odd_names_are_found(self, tmp_path: Path) -> None:
        name = "It's (a) video _ with spaces 12"
        write_frames(tmp_path / name, np.zeros((1, 4, 6, 3), np.uint8))
        assert frames.find_frames(tmp_path, name) == tmp_path / name

    def test_array(self) -> None:
        clip = np.zeros((T, H, W, 3), np.uint8)
        assert len(frames.ArrayFrames(clip)) == T
        with pytest.raises(ValueError, match="uint8"):
            frames.ArrayFrames(clip.astype(float))


@pytest.mark.parametrize(
    ("count", "k", "chosen"),
    [(7, 1, [3]), (4, 1, [1]), (7, 2, [0, 6]), (9, 3, [0, 4, 8]), (3, 5, [0, 1, 2]), (0, 2, [])],
)
def test_evenly_spaced(count: int, k: int, chosen: list[int]) -> None:
    assert frames.evenly_spaced(range(count), k, single="middle") == chosen
    assert frames.evenly_spaced(range(11), 3) == [0, 5, 10] and frames.evenly_spaced([2, 7], 10) == [2, 7]
    assert frames.evenly_spaced([2, 7], 1) == [2] and frames.evenly_spaced([2, 7], None) == [2, 7]
