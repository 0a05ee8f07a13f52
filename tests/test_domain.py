"""Masks, points, narratives, frames: the small nouns everything stands on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, T, W, box, write_frames
from vng import frames, masks, narratives, points
from vng.errors import DataError, UsageError


class TestMasks:
    @pytest.mark.parametrize("seed", range(20))
    def test_round_trip(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.random()
        rle = masks.encode(mask)
        np.testing.assert_array_equal(masks.decode(rle), mask)
        assert rle.size == (height, width) and masks.area(rle) == mask.sum()
        assert masks.from_json(rle.as_dict()) == rle

    def test_null_and_empty_differ(self) -> None:
        assert masks.from_json(None) is None
        nothing = masks.empty(4, 6)
        assert masks.from_json(nothing.as_dict()) == nothing and masks.area(nothing) == 0

    def test_uncompressed_counts(self) -> None:
        rle = masks.from_json({"size": [2, 3], "counts": [1, 2, 3]})
        assert rle is not None
        np.testing.assert_array_equal(masks.decode(rle), [[0, 1, 0], [1, 0, 0]])

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"size": [2, 3], "counts": [1, 2]}, "sum to 3"),
            ({"size": [2, 3], "counts": "hb0"}, "fill"),
            ({"size": [2, 3], "counts": "\x01"}, "does not allow"),
            ({"size": [2, 3], "counts": 5}, "a string or a list"),
            ({"counts": "0"}, "requires size"),
            ([1], "requires size"),
        ],
    )
    def test_faults_are_named(self, value: object, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            masks.from_json(value)  # type: ignore[arg-type]

    def test_known_numbers(self) -> None:
        left, right = masks.encode(box(0, 0, 4, 4, 4, 6)), masks.encode(box(0, 2, 4, 6, 4, 6))
        assert masks.area(masks.union([left, right])) == 24
        assert masks.intersection_over_union(left, right) == pytest.approx(8 / 24)
        assert masks.intersection_over_union(masks.empty(4, 6), masks.empty(4, 6)) == 1.0
        assert masks.decode_many([left, right]).shape == (2, 4, 6)
        with pytest.raises(ValueError, match="at least one"):
            masks.decode_many([])


class TestPoints:
    def test_sampling_keeps_distance(self, rng: np.random.Generator) -> None:
        drawn = points.sample_in_mask(box(2, 3, 40, 60, 50, 70), 12, 7, rng)
        assert drawn.shape == (12, 2)
        gaps = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)[~np.eye(12, dtype=bool)]
        assert gaps.min() >= 7 and (drawn >= [3, 2]).all() and (drawn < [60, 40]).all()

    def test_as_many_as_fit(self, rng: np.random.Generator) -> None:
        assert len(points.sample_in_mask(box(0, 0, 3, 3), 10, 5, rng)) == 1
        assert len(points.sample_in_mask(box(0, 0, 2, 2), 10, 0, rng)) == 4
        assert points.sample_in_mask(np.zeros((4, 6), bool), 3, 1, rng).shape == (0, 2)

    def test_agreement(self) -> None:
        mask = box(0, 0, 2, 3, 4, 6)
        xy, label = [(0, 0), (2, 1), (5, 3), (0, 3)], [1, 0, 0, -1]
        assert points.agreement(mask, np.array(xy), np.array(label)) == (2, 3)
        with pytest.raises(ValueError, match=r"\(6, 0\) is outside the frame of 6x4"):
            points.read_at(mask, np.array([(6, 0)]))

    def test_selection(self) -> None:
        all_points = points.Points([0, 1, 1], [(1, 2), (3, 4), (5, 6)], [1, 0, -1])
        assert len(all_points.in_frame(1)) == 2 and all_points.of(points.NEGATIVE).xy.tolist() == [[3, 4]]
        assert len(points.Points.concatenate([all_points, all_points])) == 6 and len(points.Points.none()) == 0
        with pytest.raises(ValueError, match="2 frames, 1 positions"):
            points.Points([0, 1], [(1, 2)], [1, 0])


class TestNarratives:
    def test_marked_nouns(self) -> None:
        text, spans = narratives.parse_marked("A green [parrot]  plays with \\[the\\] other [parrot].")
        assert text == "A green parrot  plays with [the] other parrot."
        assert [text[a:b] for a, b in spans] == ["parrot", "parrot"]
        assert narratives.parse_marked(narratives.mark(text, spans)) == (text, spans)

    @pytest.mark.parametrize("text", ["A [man", "A man]", "A [] man", "A [[man]]"])
    def test_bad_brackets(self, text: str) -> None:
        with pytest.raises(UsageError, match="narrative"):
            narratives.parse_marked(text)

    def test_mirror_moves_spans(self) -> None:
        text = "Left ball moves left past the right box."
        spans = [(5, 9), (36, 39)]
        other, moved = narratives.mirror(text, spans)
        assert other == "Right ball moves right past the left box."
        assert [other[a:b] for a, b in moved] == ["ball", "box"]
        assert narratives.mirror(other, moved) == (text, spans)


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
