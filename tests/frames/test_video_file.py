"""Video files: an index of their frames, and reading by seeking, exact on every container."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from vng.errors import DataError
from vng.frames import VideoFile, film_index, open_frames
from vng.frames.film_index import FilmIndex

HEIGHT, WIDTH, COUNT = 48, 64, 45


def write_film(path: Path, codec: str, options: dict[str, str], count: int = COUNT, seed: int = 0) -> None:
    """A film of blobs that move, with a key frame every ten frames."""
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = options
        for t in range(count):
            image = np.roll(still, 3 * t, 1)
            image[t % 40 : t % 40 + 8, :20] = 5 * t
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


KINDS = {
    "film.mp4": ("libx264", {"g": "10", "bf": "2"}),
    "film.mkv": ("libx264", {"g": "10"}),
    "film.mov": ("libx264", {"g": "10", "x264-params": "open-gop=1:bframes=3"}),
    "film.avi": ("mpeg4", {"g": "10"}),
    "film.webm": ("libvpx", {"g": "10"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_sought_frames_are_those_of_decoding_all(tmp_path: Path, name: str) -> None:
    write_film(tmp_path / name, *KINDS[name])
    with av.open(str(tmp_path / name)) as container:
        truth = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = VideoFile(tmp_path / name)
    assert len(video) == len(truth) and video.size == (HEIGHT, WIDTH)
    rng = np.random.default_rng(1)
    for _ in range(8):
        chosen = rng.integers(len(truth), size=5).tolist()
        for index, image in zip(chosen, video.read(chosen), strict=True):
            assert (image == truth[index]).all(), index
        assert all((video[index] == truth[index]).all() for index in chosen)
    assert all((video[index] == truth[index]).all() for index in reversed(range(len(truth))))


def test_a_sample_decodes_from_the_key_frame_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_film(tmp_path / "film.mp4", "libx264", {"g": "10", "bf": "0"})
    video, starts = VideoFile(tmp_path / "film.mp4"), []
    decode = video._decode
    monkeypatch.setattr(video, "_decode", lambda *values: starts.append(values[0]) or decode(*values))
    video.read([37, 12, 14, 3])
    assert starts == [0, 10, 30]
    assert video._container is None and video._decoder is None  # nothing is held


def test_frames_that_differ_from_their_checksum_are_decoded_from_the_start(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", "libx264", {"g": "10"})
    video = VideoFile(tmp_path / "film.mp4")
    truth = list(video)
    times = video._index.times.copy()
    times[10:] = np.concatenate([times[11:], [times[-1] + 512]])  # an index that is one frame off
    object.__setattr__(video._index, "times", times)
    video.__dict__.pop("_places", None)
    (image,) = video.read([25])
    assert not video._seeks and (image == truth[25]).all()


def test_reading_leaves_no_threads_of_decoders(tmp_path: Path) -> None:
    """A cycle of references would keep them until the next garbage collection."""
    import gc

    import psutil

    write_film(tmp_path / "film.mp4", "libx264", {"g": "10"})
    process, videos = psutil.Process(), []
    gc.disable()
    try:
        VideoFile(tmp_path / "film.mp4").read([3])  # a library starts threads of its own once
        before, files = process.num_threads(), process.num_fds()
        for _ in range(5):
            videos.append(VideoFile(tmp_path / "film.mp4"))
            videos[-1].read([3, 17, 40])
        assert process.num_threads() <= before and process.num_fds() <= files
    finally:
        gc.enable()


class TestIndex:
    def test_is_kept_beside_the_dataset_and_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_film(tmp_path / "film.mp4", "libx264", {"g": "10"})
        first = open_frames(tmp_path / "film.mp4", tmp_path / "index")
        (kept,) = (tmp_path / "index").rglob("*.npz")
        film_index._film_index.cache_clear()
        monkeypatch.setattr(film_index, "_scanned", lambda path: pytest.fail("decoded again"))
        second = open_frames(tmp_path / "film.mp4", tmp_path / "index")
        assert len(second) == len(first) == COUNT and (second[33] == first[33]).all()
        # named by content: the same film elsewhere needs no other index
        (tmp_path / "film.mp4").rename(tmp_path / "other.mp4")
        assert len(open_frames(tmp_path / "other.mp4", tmp_path / "index")) == COUNT
        assert [kept] == list((tmp_path / "index").rglob("*.npz"))

    @pytest.mark.parametrize("damage", ["cut", "empty", "other", "pickle"])
    def test_a_damaged_one_is_made_again(self, tmp_path: Path, damage: str) -> None:
        write_film(tmp_path / "film.mp4", "libx264", {"g": "10"}, 12)
        open_frames(tmp_path / "film.mp4", tmp_path / "index")
        (kept,) = (tmp_path / "index").rglob("*.npz")
        data = kept.read_bytes()
        if damage == "cut":
            kept.write_bytes(data[: len(data) // 2])
        elif damage == "empty":
            kept.write_bytes(b"")
        elif damage == "other":
            np.savez(kept, numbers=np.array([0, -3, 9]))
        else:
            np.savez(kept, numbers=np.array([object()], object))
        assert FilmIndex.from_file(kept) is None
        film_index._film_index.cache_clear()
        assert len(open_frames(tmp_path / "film.mp4", tmp_path / "index")) == 12
        assert kept.read_bytes() == data

    def test_another_film_of_the_same_name_has_its_own(self, tmp_path: Path) -> None:
        for count in (12, 17):
            write_film(tmp_path / "film.mp4", "libx264", {"g": "10"}, count, seed=count)
            assert len(open_frames(tmp_path / "film.mp4", tmp_path / "index")) == count

    def test_a_folder_that_cannot_be_written_costs_nothing_but_time(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.mp4", "libx264", {"g": "10"}, 12)
        (tmp_path / "index").write_text("a file in its place")
        assert len(open_frames(tmp_path / "film.mp4", tmp_path / "index")) == 12

    def test_where_time_stamps_do_not_order_the_frames_there_is_no_seeking(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.mp4", "libx264", {"g": "10"}, 12)
        index = film_index.film_index(tmp_path / "film.mp4")
        assert index.ordered and index.starts.tolist() == [0, 10] and index.start(11) == 10 and index.start(9) == 0
        again = replace(index, times=index.times[::-1].copy())
        assert not again.ordered and again.starts.tolist() == [0]


def test_no_film(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film at all")
    with pytest.raises(DataError, match=r"film.mp4: this video cannot be decoded .*; check that it plays"):
        VideoFile(tmp_path / "film.mp4")
