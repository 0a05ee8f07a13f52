"""Frames from folders and video files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers import H, W, write_frames
from vng import frames
from vng.errors import DataError, UsageError
from vng.frames import film_index, video_file


class TestFiles:
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
        for path, words in (("empty", "no .jpg"), ("none", "no such folder"), ("bad.mp4", "cannot be decoded")):
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

    def test_a_damaged_video_has_a_note(self, tmp_path: Path) -> None:
        from vng.viewer import write_video

        rng = np.random.default_rng(0)
        write_video(iter(rng.integers(0, 255, (30, 64, 96, 3), dtype=np.uint8)), tmp_path / "v.mp4")
        data = bytearray((tmp_path / "v.mp4").read_bytes())
        data[len(data) // 2 :] = data[len(data) // 2 :][: len(data) // 5]
        (tmp_path / "v.mp4").write_bytes(data)
        opened = frames.open_frames(tmp_path / "v.mp4")
        assert 0 < len(list(opened)) == len(opened) < 30
        assert "30 frames" not in opened.note and f"{len(opened)} frames were found" in opened.note

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


def solid(value: int, height: int = 8, width: int = 12) -> np.ndarray:
    return np.full((1, height, width, 3), value, np.uint8)


class TestFolders:
    def test_hidden_files_are_no_frames(self, tmp_path: Path) -> None:
        write_frames(tmp_path, np.zeros((3, 8, 12, 3), np.uint8), "{:05d}.jpg")
        for name in ("._00000.jpg", ".00007.png"):
            (tmp_path / name).write_bytes(b"\0\5\26\7")
        opened = frames.open_frames(tmp_path)
        assert opened.names == ["00000", "00001", "00002"] and len(list(opened)) == 3

    @pytest.mark.parametrize(
        "names",
        [
            ["0.0", "0.25", "0.5", "0.75", "1.0", "10.5"],  # seconds
            ["t0.5", "t0.75", "t3"],
            ["1.1", "1.2", "1.10"],  # chapter and frame: 1.1 and 1.10 are one number
            ["shot2_9", "shot2_10", "shot10_1"],
        ],
    )
    def test_names_that_are_numbers_are_in_their_order(self, tmp_path: Path, names: list[str]) -> None:
        for index, name in enumerate(names):
            write_frames(tmp_path, solid(20 * index), f"{name}.png")
        assert frames.open_frames(tmp_path).names == names

    def test_two_files_of_one_frame(self, tmp_path: Path) -> None:
        for pattern in ("{:05d}.jpg", "{:05d}.png"):
            write_frames(tmp_path, np.zeros((2, 8, 12, 3), np.uint8), pattern)
        with pytest.raises(DataError, match=r"frame 00000: 00000.jpg and 00000.png are of one frame; keep one"):
            frames.open_frames(tmp_path)

    def test_a_folder_in_place_of_a_frame(self, tmp_path: Path) -> None:
        (tmp_path / "000001.jpg").mkdir()
        with pytest.raises(DataError, match=r"000001.jpg: expected an image, got a folder"):
            frames.open_frames(tmp_path)

    def test_names_in_another_unicode_form(self, tmp_path: Path) -> None:
        composed, apart = "caf\u00e9", "cafe\u0301"
        write_frames(tmp_path / apart, np.zeros((1, 8, 12, 3), np.uint8), f"{apart}.png")
        found = frames.find_frames(tmp_path, composed)
        assert found == tmp_path / apart and frames.open_frames(found).index_of(composed) == 0
        with pytest.raises(DataError, match="no folder of frames"):
            frames.find_frames(tmp_path, "the\u00e9")


class TestImages:
    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_a_cut_image_is_met_before_its_pixels(self, tmp_path: Path, suffix: str, rng: np.random.Generator) -> None:
        write_frames(tmp_path, rng.integers(0, 255, (1, 40, 60, 3), dtype=np.uint8), "{:06d}" + suffix)
        path = tmp_path / f"000000{suffix}"
        opened, whole = frames.open_frames(tmp_path), path.read_bytes()
        assert opened.encoded(0) == whole
        for content in (whole[: len(whole) // 2], whole[:200], b"", b"no image"):
            path.write_bytes(content)
            for read in (opened.encoded, opened._read):
                with pytest.raises(DataError, match=r"000000\.\w+: this image (is damaged|cannot be decoded)"):
                    read(0)

    def test_a_jpeg_without_its_end_mark_alone_is_whole(self, tmp_path: Path) -> None:
        write_frames(tmp_path, np.full((1, 16, 16, 3), 70, np.uint8), "{:06d}.jpg")
        path = tmp_path / "000000.jpg"
        path.write_bytes(path.read_bytes() + b"\0" * 30)  # trailing bytes, as some cameras write them
        assert frames.open_frames(tmp_path)[0].shape == (16, 16, 3)

    def test_a_bomb_is_refused_before_it_is_decoded(self, tmp_path: Path) -> None:
        import struct
        import zlib

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        path = tmp_path / "000000.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))
        with path.open("ab") as file:
            file.write(chunk(b"IEND", b""))
        with pytest.raises(DataError, match="pixels"):
            frames.open_frames(tmp_path).encoded(0)

    def test_pixels_are_turned_as_exif_says(self, tmp_path: Path) -> None:
        """The frames, and the images that `datasets` decodes from a row, lie in one grid."""
        from datasets import Image as DatasetImage
        from PIL import Image

        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, :8] = 255
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees clockwise
        Image.fromarray(pixels).save(tmp_path / "000000.jpg", exif=exif, quality=95)
        opened = frames.open_frames(tmp_path)
        assert opened.size == (16, 8) and opened[0][:8].mean() > 250 and opened[0][8:].mean() < 5
        row = DatasetImage().decode_example({"bytes": opened.encoded(0), "path": None})
        np.testing.assert_allclose(np.asarray(row.convert("RGB")), opened[0], atol=3)


class Stub:
    """A decoded frame, as far as `VideoFile` asks for it."""

    def __init__(self, image: np.ndarray, matrix: list[int] | None) -> None:
        self.image = image
        kind = type("Kind", (), {"name": "DISPLAYMATRIX"})
        data = [] if matrix is None else [np.array(matrix, np.int32).tobytes()]
        self.side_data = [type("Data", (), {"type": kind, "__bytes__": lambda _, d=d: d})() for d in data]

    def to_ndarray(self, format: str) -> np.ndarray:
        assert format == "rgb24"
        return self.image


@pytest.mark.parametrize(
    "turn", [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]
)
def test_a_display_matrix_moves_each_pixel_as_it_says(turn: tuple[int, int, int, int]) -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    a, b, c, d = turn
    frame = Stub(image, [65536 * v for v in (a, b, 0, c, d, 0, 0, 0, 0)])
    shown = video_file._upright(frame, film_index.turn_of(frame))
    height, width = (4, 6) if a else (6, 4)
    assert shown.shape == (height, width, 3)
    for y in range(4):
        for x in range(6):
            # (x, y) times the matrix, moved into the frame.
            right = a * x + c * y + (width - 1 if min(a, c) < 0 else 0)
            below = b * x + d * y + (height - 1 if min(b, d) < 0 else 0)
            assert (shown[below, right] == image[y, x]).all()
    assert film_index.turn_of(Stub(image, None)) == 0 and video_file._upright(Stub(image, None), 0) is image


def test_a_film_is_counted_as_it_decodes(tmp_path: Path) -> None:
    """Packets whose pictures are never shown do not count; a shorter film than announced has a note."""
    import av

    from vng.viewer import write_video

    write_video(iter(np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), dtype=np.uint8)), tmp_path / "v.mp4")
    with av.open(str(tmp_path / "v.mp4")) as given, av.open(str(tmp_path / "v.mkv"), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    whole = frames.open_frames(tmp_path / "v.mkv")
    assert len(whole) == 30 and whole.note == "" and whole.notes == ()
    data = (tmp_path / "v.mkv").read_bytes()
    (tmp_path / "v.mkv").write_bytes(data[: len(data) * 6 // 10])
    cut = frames.open_frames(tmp_path / "v.mkv")
    assert 5 < len(cut) < 25 and len(list(cut)) == len(cut)
    assert f"{len(cut)} frames were found; it may be cut short" in cut.note and cut.notes[0].kind == "note"
    assert cut.subset([0, 2]).note == cut.note


class TestAsFrames:
    def test_arrays_lists_and_paths(self, tmp_path: Path) -> None:
        clip = np.zeros((3, 8, 12, 3), np.uint8)
        write_frames(tmp_path / "v", clip)
        for given in (clip, list(clip), tuple(clip), tmp_path / "v", str(tmp_path / "v")):
            assert len(frames.as_frames(given)) == 3

    @pytest.mark.parametrize(
        "given", [None, 3, [1, 2], [], np.zeros((3, 8, 12), np.uint8), [np.zeros((2, 3)), np.zeros((3, 3))]]
    )
    def test_others_are_told_what_is_expected(self, given: object) -> None:
        with pytest.raises(UsageError, match=r"video: expected a path, uint8 \[T, H, W, 3\]"):
            frames.as_frames(given)  # type: ignore[arg-type]


def test_shared_films(shared: Path) -> None:
    """A cover picture listed first; matrices that mirror; leading pictures that never decode."""
    cases = shared.parent / "cases" / "public"
    film = frames.open_frames(cases / "video-cover-art-first" / "cover_first.mp4")
    assert (len(film), film.size) == (8, (48, 64)) and is_red(film[0])[4:16, 4:16].all()
    mirrored = cases / "video-mirrored-display-matrix"
    assert is_red(frames.open_frames(mirrored / "hflip.mp4")[0])[4:16, 48:60].all()
    assert is_red(frames.open_frames(mirrored / "vflip.mp4")[0])[32:44, 4:16].all()
    assert len(frames.open_frames(cases / "video-open-gop-cut-hevc" / "hevc_cut.mkv")) == 30


def is_red(image: np.ndarray) -> np.ndarray:
    red, green = image[..., 0].astype(int), image[..., 1].astype(int)
    return (red > 120) & (green < 100)
