"""Propagation through one video: the iterator, the folder of results, the checks of engines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT, Cli, H, T, W, box, write_frames
from tests.propagation.clip import BLUE, FRAMES, YELLOW, Echo, write_mask, write_points
from vng.errors import DataErrors, UsageError
from vng.frames import ArrayFrames, ImageFolder
from vng.label_maps import exclusive
from vng.points import PointPrompts, Points
from vng.propagation.mask_prompts import read_masks
from vng.propagation.video import PropagatedFrame, propagate, propagate_to_folder
from vng.propagators import FramePrompts, check_prompts


class TestChecksOfEngines:
    NONE = np.empty((0, 2))

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ({}, "at least one frame"),
            ({0: FramePrompts(points=(None,)), 1: FramePrompts(masks=(None,))}, "at least one frame"),
            ({0: FramePrompts((box(1, 1, 3, 3),)), -1: FramePrompts((None,))}, "frame -1 is prompted, the video has 3"),
            ({0: FramePrompts((box(1, 1, 3, 3),)), 1: FramePrompts((None, None))}, "frame 1: prompts of 2 objects"),
            ({0: FramePrompts((None, box(1, 1, 3, 3, W, H)))}, r"frame 0, object 1: a mask of \[30, 20\], the frames"),
            (
                {1: FramePrompts(points=(PointPrompts([[30, 1]], NONE),))},
                r"frame 1, object 0: point \(30, 1\) is outside",
            ),
            ({1: FramePrompts(points=(PointPrompts([[np.nan, 1]], NONE),))}, r"point \(nan, 1\) is outside"),
            ({1: FramePrompts(points=(PointPrompts(NONE, NONE),))}, "neither a positive nor a negative point"),
        ],
    )
    def test_refused(self, prompts: dict[int, FramePrompts], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            check_prompts(FRAMES, prompts)
        with pytest.raises(UsageError, match=message):  # at once, not with the first frame
            propagate(FRAMES, prompts)

    def test_the_number_of_objects(self) -> None:
        corner = PointPrompts([[29.4, 19.4], [-0.4, 0]], self.NONE)
        assert check_prompts(FRAMES, {2: FramePrompts(points=(None, corner, None))}) == 3


class TestIterator:
    def test_one_object_a_pixel(self) -> None:
        p = np.array([[[0.6, 0.5, 0.7, 0.2]], [[0.9, 0.5, 0.7, 0.1]]], np.float32)
        assert exclusive(p).astype(int).tolist() == [[[0, 0, 1, 0]], [[1, 0, 0, 0]]]

    def test_points_by_name(self) -> None:
        points = {"a": Points([0], [(4, 5)], [1]), "b": Points([1], [(20, 9)], [1])}
        got = list(propagate(np.zeros((T, H, W, 3), np.uint8), points, Echo(), probabilities=True))
        assert [(f.index, f.name) for f in got] == [(0, "000000"), (1, "000001"), (2, "000002")]
        assert got[0].masks.shape == (2, H, W) and got[0].masks.dtype == bool
        assert [f.masks[1].any() for f in got] == [False, True, True] and got[0].masks[0, 5, 4]
        assert got[1].probabilities is not None and got[1].probabilities[1, 9, 20] == np.float32(0.8)
        assert next(propagate(FRAMES, points, Echo())).probabilities is None

    def test_paths_and_frame_prompts(self, tmp_path: Path, clip: Path) -> None:
        points = write_points(tmp_path / "p.json", {"y": YELLOW})
        mask = write_mask(tmp_path / "m.png", box(5, 4, 12, 13))
        told = {0: FramePrompts(masks=(box(5, 4, 12, 13),))}
        for prompts in (points, str(mask), told, read_masks(mask, ImageFolder(clip))):
            assert [f.name for f in propagate(clip, prompts, Echo())] == ["00010", "00011", "00012", "00013"]

    def test_wrong_calls(self) -> None:
        point = Points([0], [(4, 5)], [1])
        with pytest.raises(UsageError, match="expected Points by object's name, FramePrompts by frame index"):
            propagate(FRAMES, {0: point})  # type: ignore[dict-item]
        with pytest.raises(DataErrors, match="points: object 'a', point 0: frame: frame '3' is not in the video"):
            propagate(FRAMES, {"a": Points([3], [(4, 5)], [1])})
        with pytest.raises(UsageError, match="unknown propagator 'magic'"):
            propagate(FRAMES, {"a": point}, "magic")
        with pytest.raises(UsageError, match="takes no 'checkpoint'"):
            propagate(FRAMES, {"a": point}, "flow", checkpoint="x")

    def test_a_late_object_is_carried_backwards(self) -> None:
        """Flow on a still picture: an object told of in the last frame alone is there from the first one on."""
        rng = np.random.default_rng(0)
        image = cv2.resize(rng.integers(0, 255, (7, 9, 3), np.uint8), (52, 41), interpolation=cv2.INTER_CUBIC)
        frames = ArrayFrames(np.stack([image] * 6))
        first, late = box(3, 4, 15, 20, 41, 52), box(22, 28, 37, 47, 41, 52)
        prompts = {1: FramePrompts((first, None)), 5: FramePrompts((None, late))}
        got = {f.index: f.masks for f in propagate(frames, prompts, "flow")}
        assert sorted(got) == list(range(6))
        for t in (2, 3, 4, 5):
            assert (got[t][1] == late).mean() > 0.98 and got[t][1].any() and (got[t][0] == first).mean() > 0.98

    def test_a_video_of_one_frame(self) -> None:
        mask = box(2, 3, 9, 12)
        (frame,) = propagate(np.full((1, H, W, 3), 90, np.uint8), {0: FramePrompts((mask,))}, "flow")
        assert isinstance(frame, PropagatedFrame) and (frame.masks[0] == mask).all()


def test_stepping_backwards_in_a_video_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame is right, and the file is decoded from its start for every few frames only."""
    from vng.frames import VideoFile
    from vng.frames import video_file as module
    from vng.viewer import write_video

    write_video(
        iter(np.full((23, 18, 34, 3), 5, np.uint8) + np.arange(0, 230, 10, np.uint8)[:, None, None, None]),
        tmp_path / "v.mp4",
    )
    monkeypatch.setattr(module, "MOST_HELD", 6)
    forwards = [image.mean() for image in VideoFile(tmp_path / "v.mp4")]
    video, starts = VideoFile(tmp_path / "v.mp4"), []
    assert video.size == (18, 34)
    decode_again = video._decode
    monkeypatch.setattr(video, "_decode", lambda start: starts.append(start) or decode_again(start))
    assert [video[t].mean() for t in reversed(range(23))] == forwards[::-1]
    assert len(starts) == 1 + 4 and len(video._held) < 6
    assert [video[t].mean() for t in (3, 4, 3, 9, 8, 9, 2)] == [forwards[t] for t in (3, 4, 3, 9, 8, 9, 2)]


class TestAVideo:
    def run(self, cli: Callable[..., Cli], clip: Path, out: Path, *more: object) -> Cli:
        return cli("propagate", "--video", clip, "--out", out, "--quiet", *more)

    def test_masks_in_everything_out(self, tmp_path: Path, clip: Path, cli: Callable[..., Cli]) -> None:
        first = 1 * box(5, 4, 12, 13) + 4 * box(12, 19, 18, 27)
        ended = self.run(
            cli,
            clip,
            tmp_path / "out",
            "--masks",
            write_mask(tmp_path / "m.png", first),
            "--json",
            "--propagator",
            "flow",
        )
        assert ended.status == 0, ended.err
        objects = json.loads(ended.out)
        assert [(o["name"], o["number"], o["prompted"], o["frames_seen"]) for o in objects] == [
            ("1", 1, ["00010"], 4),
            ("4", 4, ["00010"], 4),
        ]
        assert objects[0]["area"]["00010"] == 63 and list(objects[1]["area"]) == [f"000{i}" for i in range(10, 14)]
        out = tmp_path / "out"
        assert json.loads((out / "objects.json").read_text()) == objects
        assert sorted(p.name for p in out.iterdir()) == ["masks", "objects.json", "overlay.mp4", "result.json"]
        assert json.loads((out / "result.json").read_text())["settings"]["propagator"] == "flow"
        with Image.open(out / "masks" / "00010.png") as image:
            assert image.mode == "P" and (np.asarray(image) == first).all()
            assert image.getpalette()[12:15] == objects[1]["colour"]  # type: ignore[index]
        with Image.open(out / "masks" / "00013.png") as image:
            assert set(np.unique(np.asarray(image))) == {0, 1, 4}
        from vng.frames import open_frames

        film = open_frames(out / "overlay.mp4")
        assert len(film) == 4 and film.size[1] == 480 and film.size[0] > 320
        assert film[0][5 * 16, 4 * 16 : 12 * 16].mean() > 180  # the given mask's outline is white there
        assert np.abs(film[1][5 * 16 + 1, 4 * 16 : 12 * 16].mean(0) - film[0][5 * 16 + 1, 64:192].mean(0)).max() > 20

    def test_points_in_a_video_file(self, tmp_path: Path, clip: Path, cli: Callable[..., Cli]) -> None:
        from vng.viewer import write_video

        write_video(iter(ImageFolder(clip)), tmp_path / "v.mp4")
        points = write_points(tmp_path / "p.json", {"sun": YELLOW[:1], "lake": BLUE})
        ended = self.run(
            cli, tmp_path / "v.mp4", tmp_path / "out", "--points", points, "--propagator-set", "segmenter=classical"
        )
        assert ended.status == 0 and "sun: seen in 4 of 4 frames" in ended.out and "overlay.mp4" in ended.out
        with Image.open(tmp_path / "out" / "masks" / "000003.png") as image:
            labels = np.asarray(image)
        assert labels[8, 11] == 1 and labels[15, 23] == 2 and labels[1, 1] == 0

    def test_run_again_it_replaces_its_own_result_only(
        self, tmp_path: Path, clip: Path, cli: Callable[..., Cli]
    ) -> None:
        mask = write_mask(tmp_path / "m.png", box(5, 4, 12, 13))
        out = tmp_path / "out"
        assert self.run(cli, clip, out, "--masks", mask).status == 0
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        (out / "masks" / "stale.png").write_bytes(b"")
        assert self.run(cli, clip, out, "--masks", mask).status == 0
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        ended = self.run(cli, clip, tmp_path / "mine", "--masks", mask)
        assert ended.status == 1 and "this folder holds something else; choose another --out" in ended.err
        assert self.run(cli, clip, mask, "--masks", mask).status == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["clip", "m.png", "mine", "out"]

    def test_nothing_half_written(self, tmp_path: Path, clip: Path, cli: Callable[..., Cli]) -> None:
        """A frame of another size far in, and a stop in the middle: no result, and an earlier one stays."""
        mask = write_mask(tmp_path / "m.png", box(5, 4, 12, 13))
        frames = ImageFolder(clip)
        prompts, out = read_masks(mask, frames), tmp_path / "out"
        count = iter(range(9))

        def stop() -> None:
            if next(count) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            propagate_to_folder(frames, prompts, Echo(), out, {}, on_frame=stop)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["clip", "m.png"]
        assert self.run(cli, clip, out, "--masks", mask).status == 0
        before = (out / "result.json").read_bytes()
        write_frames(clip / "x", np.zeros((1, 25, 31, 3), np.uint8))
        (clip / "x" / "000000.png").rename(clip / "00012.png")
        (clip / "x").rmdir()
        ended = self.run(cli, clip, out, "--masks", mask)
        assert ended.status == 1 and "frame 00012: size: 25x31 pixels, the frames before it have 20x30" in ended.err
        assert (out / "result.json").read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["clip", "m.png", "out"]

    def test_memory_does_not_hold_the_frames(self, tmp_path: Path) -> None:
        """Frames are read one at a time, and none is asked for before its time."""

        class Counting(ArrayFrames):
            reads: list[int]

            def _read(self, index: int) -> np.ndarray:
                self.__dict__.setdefault("reads", []).append(index)
                return super()._read(index)

        frames = Counting(np.zeros((5, H, W, 3), np.uint8))
        stream = propagate(frames, {0: FramePrompts((box(2, 3, 9, 12),))}, Echo())
        next(stream)
        assert set(frames.reads) == {0}
        assert len(list(stream)) == 4 and max(frames.reads) == 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "give --video, or --dataset"),
            (["--video", "v", "--dataset", "d"], "give --video, or --dataset"),
            (["--video", "v"], "give --points or --masks"),
            (["--video", "v", "--points", "p", "--masks", "m"], "give --points or --masks"),
            (["--video", "v", "--points", "p", "--seeds", "1"], "--seeds goes with --dataset"),
            (["--dataset", "d", "--points", "p"], "--points goes with --video"),
            (
                ["--dataset", "d", "--start", "masks", "--seeds", "1"],
                "--points-per-object and --seeds go with --start points",
            ),
        ],
    )
    def test_wrong_calls(self, tmp_path: Path, cli: Callable[..., Cli], arguments: list[str], message: str) -> None:
        ended = cli("propagate", *arguments, "--out", tmp_path / "out")
        assert ended.status == 2 and message in ended.err and not (tmp_path / "out").exists()

    def test_wrong_engines(self, tmp_path: Path, clip: Path, cli: Callable[..., Cli]) -> None:
        mask = write_mask(tmp_path / "m.png", box(5, 4, 12, 13))
        for more, message in (
            (["--propagator", "magic"], "unknown propagator 'magic'; choose one of: abs, edgetam, flow"),
            (["--propagator-checkpoint", "x"], "takes no 'checkpoint'"),
            (
                ["--propagator-set", "speed=3"],
                "unknown setting of propagator 'flow' 'speed'; choose one of: fade, reach",
            ),
            (["--propagator-set", "reach=far"], "reach='far'"),
            (["--device", "cpu"], "unknown setting of propagator 'flow' 'device'"),
            (["--propagator-set", "reach=-1"], "reach=-1: expected a number of frames, 0 or more"),
        ):
            ended = self.run(cli, clip, tmp_path / "out", "--masks", mask, "--propagator", "flow", *more)
            assert ended.status == 2 and message in ended.err, ended.err
        ended = self.run(cli, tmp_path / "none", tmp_path / "out", "--masks", mask)
        assert ended.status == 1 and "no such folder or video file" in ended.err

    def test_from_a_shell(self, tmp_path: Path, clip: Path) -> None:
        points = write_points(
            tmp_path / "p.json", {"a": [{"frame": 0, "x": 99, "y": 1}, {"frame": "x", "x": 1, "y": 1}]}
        )
        words = ["propagate", "--video", str(clip), "--points", str(points), "--out", str(tmp_path / "out")]
        ended = subprocess.run([sys.executable, "-m", "vng.cli", *words], capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 1 and not ended.stdout and len(ended.stderr.splitlines()) == 2
        assert all(line.startswith(f"vng: {points}: object 'a', point") for line in ended.stderr.splitlines())
