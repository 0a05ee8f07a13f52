"""`vng propagate`: prompts a person wrote, the iterator, a video's folder of results, a dataset for the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import Cli, H, T, W, box, make_video, write_frames
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import DataError, DataErrors, UsageError
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.frames import ArrayFrames, Frames, ImageFolder
from vng.label_maps import exclusive, write_label_map
from vng.masks import decode, empty, encode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, PointPrompts, Points
from vng.propagation.dataset import Benchmark, first_mask, first_points, prompts_of, propagate_dataset
from vng.propagation.mask_prompts import read_masks
from vng.propagation.point_prompts import prompts_of_points, read_points
from vng.propagation.video import PropagatedFrame, propagate, propagate_to_folder
from vng.propagators import FramePrompts, check_prompts

ROOT = Path(__file__).resolve().parent.parent
FRAMES = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))


class Echo:
    """An engine that says what it was told last, in every frame; discs of 3 pixels where it was told points."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        count = check_prompts(frames, prompts)
        self.calls.append(count)
        state = np.zeros((count, *frames.size), np.float32)
        for t in range(len(frames)):
            frames[t]
            prompt = prompts.get(t, FramePrompts())
            for k, mask in enumerate(prompt.masks):
                state[k] = state[k] if mask is None else mask * 0.9
            for k, points in enumerate(prompt.points):
                for x, y in points.positive if points is not None else ():
                    cv2.circle(state[k], (round(float(x)), round(float(y))), 3, 0.8, -1)
            yield t, state.copy()


def write_points(path: Path, objects: Any) -> Path:
    path.write_text(json.dumps({"objects": objects}))
    return path


def write_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of four frames 00010.png to 00013.png, 20 x 30."""
    y, x, t = np.mgrid[:H, :W, :4]
    frames = np.stack([np.stack([60 + 5 * t, 4 * y, 3 * x], -1)[:, :, i] for i in range(4)]).astype(np.uint8)
    for i in range(4):
        frames[i, 5:12, 4 + i : 13 + i] = (250, 240, 30)
        frames[i, 12:18, 19:27] = (10, 20, 240)
    folder = tmp_path / "clip"
    write_frames(folder, frames, "{:05d}.png")
    for i in reversed(range(4)):
        (folder / f"{i:05d}.png").rename(folder / f"{i + 10:05d}.png")
    return folder


YELLOW = [{"frame": 0, "x": 8, "y": 8}, {"frame": "00010", "x": 25, "y": 2, "label": "negative"}]
BLUE = [{"frame": 0, "x": 22, "y": 15, "label": 1}]


class TestPointFiles:
    def test_json_and_csv_say_the_same(self, tmp_path: Path, clip: Path) -> None:
        frames = ImageFolder(clip)
        tree = {"a": [*YELLOW, {"frame": 2, "x": 10.5, "y": 8, "label": "ambiguous"}], "b": BLUE}
        lines = [
            "object,frame,x,y,label",
            "a,00010,8,8,",
            "a,0,25,2,negative",
            "b, 0, 22, 15, Positive",
            "a,12,10.5,8,-1",
        ]
        (tmp_path / "p.csv").write_text("\ufeff" + "\r\n".join(lines))
        for prompts in (
            read_points(write_points(tmp_path / "p.json", tree), frames),
            read_points(tmp_path / "p.csv", frames),
        ):
            assert prompts.names == ("a", "b") and prompts.numbers == (1, 2) and list(prompts.frames) == [0]
            first, second = prompts.frames[0].points
            assert first is not None and first.positive.tolist() == [[8, 8]] and first.negative.tolist() == [[25, 2]]
            assert second is not None and second.positive.tolist() == [[22, 15]] and not len(second.negative)
            assert prompts.points[0].label.tolist() == [POSITIVE, NEGATIVE, AMBIGUOUS] and not prompts.notes

    def test_names_that_are_numbers_are_the_pixel_values(self, tmp_path: Path) -> None:
        tree = {"7": [{"frame": 0, "x": 1, "y": 1}], "3": [{"frame": 0, "x": 9, "y": 1}]}
        assert read_points(write_points(tmp_path / "p.json", tree), FRAMES).numbers == (7, 3)

    @pytest.mark.parametrize(
        ("point", "message"),
        [
            (
                {"x": 30},
                "frame 000000: x: 30 is outside the frame of 30x20 pixels; x is in pixels of the video, from 0 to 29",
            ),
            ({"y": -0.6}, "y: -0.6 is outside the frame"),
            ({"x": float("nan")}, "x: nan is not a finite number"),
            ({"y": 1e999}, "y: inf is not a finite number"),
            ({"x": "left"}, "x: expected a number, got 'left'"),
            ({"x": True}, "x: expected a number"),
            ({"x": None}, "x: expected a number"),
            (
                {"frame": 3},
                "frame '3' is not in the video of 3 frames; use an index from 0 to 2, or a name from '000000'",
            ),
            ({"frame": -1}, "frame: frame '-1' is not in the video"),
            ({"frame": "img_7"}, "frame: frame 'img_7' is not in the video"),
            ({"frame": 1.5}, "frame: frame '1.5' is not in the video"),
            ({"label": "good"}, "label: 'good' is not a label: use positive, negative or ambiguous"),
            ({"label": True}, "label: True is not a label"),
            ({"lable": "negative"}, "lable: unknown field; a point has frame, x, y, label; leave it out"),
        ],
    )
    def test_wrong_points(self, tmp_path: Path, point: dict[str, Any], message: str) -> None:
        path = write_points(tmp_path / "p.json", {"parrot": [{"frame": 0, "x": 1, "y": 2} | point]})
        with pytest.raises(DataErrors) as error:
            read_points(path, FRAMES)
        assert message in str(error.value) and str(error.value).startswith(f"{path}: object 'parrot', point 0")
        assert len(error.value.problems) == 1

    def test_all_faults_are_told_at_once(self, tmp_path: Path) -> None:
        lines = ["object,frame,x,y,label", "a,0,99,5,positive", "a,9,1,1,negative", "b,0,x,4,maybe", "c,0,1,1,0"]
        (tmp_path / "p.csv").write_text("\n".join(lines))
        with pytest.raises(DataErrors) as error:
            read_points(tmp_path / "p.csv", FRAMES)
        places = sorted((problem.record.partition(",")[0], problem.field) for problem in error.value.problems)
        told = [("line 2", "x"), ("line 3", "frame"), ("line 4", "label"), ("line 4", "x")]
        assert places == [*told, ("object 'c'", "label")]

    def test_repeated_points_are_dropped_with_a_note(self, tmp_path: Path) -> None:
        path = write_points(tmp_path / "p.json", {"a": [{"frame": 0, "x": 5, "y": 6}, {"frame": 0, "x": 5.2, "y": 6}]})
        prompts = read_points(path, FRAMES)
        assert len(prompts.points[0]) == 1 and prompts.notes[0].kind == "note"
        assert "object 'a', point 1" in str(prompts.notes[0]) and "(5, 6) is there twice" in str(prompts.notes[0])

    def test_contradictions(self, tmp_path: Path) -> None:
        here = {"frame": 1, "x": 5, "y": 6}
        path = write_points(tmp_path / "p.json", {"a": [here, here | {"label": "negative"}]})
        with pytest.raises(DataErrors, match=r"point 1, frame 000001: label: pixel \(5, 6\) has another label already"):
            read_points(path, FRAMES)
        path = write_points(tmp_path / "p.json", {"a": [here], "b": [here]})
        with pytest.raises(DataErrors, match=r"'b', point 0, .* is positive for object 'a' already .*one object"):
            read_points(path, FRAMES)
        path = write_points(tmp_path / "p.json", {"a": [here], "b": [here | {"label": 0}, here | {"x": 20}]})
        assert len(read_points(path, FRAMES).points[1]) == 2  # on one, off the other: no contradiction

    def test_objects_without_a_positive_point(self, tmp_path: Path) -> None:
        good = {"frame": 0, "x": 1, "y": 1}
        tree = {"a": [good], "b": [good | {"x": 9, "label": "negative"}], "c": [good | {"label": "ambiguous"}], "d": []}
        with pytest.raises(DataErrors) as error:
            read_points(write_points(tmp_path / "p.json", tree), FRAMES)
        lines = str(error.value).splitlines()
        assert len(lines) == 3 and "object 'b': label: 1 negative and 0 ambiguous points, no positive one" in lines[0]
        assert "object 'd'" in lines[2] and lines[2].endswith("put a positive point on it")

    def test_negatives_alone_in_a_later_frame(self, tmp_path: Path) -> None:
        tree = {"a": [{"frame": 0, "x": 1, "y": 1}, {"frame": 2, "x": 9, "y": 1, "label": "negative"}]}
        prompts = read_points(write_points(tmp_path / "p.json", tree), FRAMES)
        assert list(prompts.frames) == [0] and "object 'a', frame 000002: negative points without" in str(
            prompts.notes[0]
        )

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("p.json", "{", "line 1: broken JSON"),
            ("p.json", "[]", 'objects: expected {"objects": {name: [point, ...]}}'),
            ("p.json", '{"objects": {"a": 3}}', "object 'a': expected a list of points"),
            ("p.json", '{"objects": {"a": [3]}}', "object 'a', point 0: expected {frame, x, y, label}"),
            ("p.json", '{"objects": {"a": [], "a": []}}', "a: duplicate key"),
            ("p.json", '{"objects": {}}', "objects: no object has a point"),
            ("p.csv", "object,frame,x,y,label\n", "objects: no object has a point"),
            (
                "p.csv",
                "object;frame;x;y\n",
                "line 1: object: this column is missing; begin the file with the line object,",
            ),
            ("p.csv", "object,frame,x,y\na,0,1\n", "line 2: expected 4 columns"),
            ("p.csv", "object,frame,x,y\n,0,1,1\n", "object: an object needs a name"),
            ("p.csv", "object,frame,x,y\na,,1,1\n", "frame: this field is missing"),
            ("p.txt", "", "expected a .json or .csv file, got '.txt'"),
            ("p.png", "", "expected a file of points, got masks; give them with --masks"),
        ],
    )
    def test_files_of_another_layout(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises((DataError, DataErrors)) as error:
            read_points(tmp_path / name, FRAMES)
        assert message in str(error.value) and str(tmp_path / name) in str(error.value)

    def test_no_file_and_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_points(tmp_path / "none.json", FRAMES)
        (tmp_path / "p.csv").write_bytes(b"object,frame,x,y\n\xe4,0,1,1\n")
        with pytest.raises(DataError, match="not UTF-8 text"):
            read_points(tmp_path / "p.csv", FRAMES)

    def test_csv_frames_that_mean_two_things(self, tmp_path: Path) -> None:
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8), ["00001", "00002", "00003"])
        (tmp_path / "p.csv").write_text("object,frame,x,y\na,1,1,1\n")
        with pytest.raises(DataErrors, match="1 is the index of frame 00002 and the number of frame 00001; write"):
            read_points(tmp_path / "p.csv", frames)
        (tmp_path / "p.csv").write_text("object,frame,x,y\na,3,1,1\n")
        assert list(read_points(tmp_path / "p.csv", frames).frames) == [2]

    def test_more_objects_than_a_png_has_numbers(self) -> None:
        points = {f"o{i}": Points([0], [(i % W, i // W)], [POSITIVE]) for i in range(255)}
        with pytest.raises(DataErrors, match="255 objects, a label map holds 254"):
            prompts_of_points(points, FRAMES)
        points.popitem()
        assert prompts_of_points(points, FRAMES).numbers[-1] == 254


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
        with pytest.raises(DataErrors, match="points: object 'a', point 0: frame: frame 3 is not in the video"):
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
    from vng import frames as module
    from vng.frames import VideoFile
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
    monkeypatch.setattr(video, "_decode", lambda: starts.append(1) or decode_again())
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
            (["--propagator", "magic"], "unknown propagator 'magic'; choose one of: flow"),
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


def masked(name: str, points: bool = False) -> Video:
    """Objects "red" from frame 0, "late" from frame 1, "never" without a mask; with their points, or without any."""
    video = make_video(name)
    big = np.zeros((H, W), bool)
    big[3:17, 2:28] = True
    told = (
        Points([1, 1, 1, 2, 0], [(3, 4), (9, 8), (20, 12), (5, 5), (1, 1)], [1, 1, 1, 1, 0])
        if points
        else Points.none()
    )
    late = (empty(H, W), encode(box(11, 18, 17, 27)), None)
    objects = (
        VideoObject("red", "", "davis", (encode(big), None, encode(big))),
        VideoObject("late", "", "davis", late, told),
        VideoObject("never", "", "davis", (None, empty(H, W), None)),
    )
    from dataclasses import replace

    return replace(video, expressions=(), narratives=(), objects=objects)


class TestADataset:
    def test_first_masks_and_points(self) -> None:
        video = masked("v")
        red, late, never = video.objects
        assert first_mask(red).frame == 0 and first_mask(late).frame == 1 and first_mask(never) is None  # type: ignore[union-attr]
        start = first_points(video, late, 4, 0)
        assert (
            start is not None
            and start.frame == 1
            and decode(late.segmentations[1])[tuple(start.xy[0][::-1].astype(int))]
        )  # type: ignore[arg-type,index]
        ten, two = first_points(video, red, 10, 0), first_points(video, red, 2, 0)
        assert ten is not None and two is not None and ten.xy is not None and two.xy is not None
        assert (ten.xy[:2] == two.xy).all() and len(ten.xy) == 10
        gaps = np.linalg.norm(ten.xy[:, None] - ten.xy, axis=-1)[~np.eye(10, dtype=bool)]
        assert gaps.min() >= 20 * H / 480
        for other in (first_points(video, red, 2, 1), first_points(masked("w"), red, 2, 0)):
            assert other is not None and (other.xy != two.xy).any()
        assert first_points(video, never, 2, 0) is None

    def test_verified_points_come_first(self) -> None:
        video = masked("v", points=True)
        late = video.objects[1]
        starts = [first_points(video, late, count, seed) for count in (1, 2, 9) for seed in range(4)]
        drawn = {tuple(map(tuple, start.xy.tolist())) for start in starts if start is not None and start.xy is not None}
        assert {start.frame for start in starts if start is not None} == {1}
        assert {len(points) for points in drawn} == {1, 2, 3} and {p for points in drawn for p in points} == {
            (3, 4),
            (9, 8),
            (20, 12),
        }

    def test_prompts_by_first_frame(self) -> None:
        video = masked("v")
        starts = [first_mask(video.objects[0]), first_mask(video.objects[1])]
        prompts = prompts_of([start for start in starts if start is not None])
        assert sorted(prompts) == [0, 1] and prompts[0].masks[1] is None and prompts[1].masks[0] is None
        assert prompts[1].masks[1].sum() == 54 and check_prompts(FRAMES, prompts) == 2  # type: ignore[union-attr]

    @pytest.fixture
    def data(self, tmp_path: Path) -> VngDataset:
        write_dataset(tmp_path / "data", [masked("one"), masked("two words", points=True)], "hand-made")
        return VngDataset(tmp_path / "data")

    def test_runs_over_points_and_seeds(self, tmp_path: Path, data: VngDataset) -> None:
        engine, out = Echo(), tmp_path / "results"
        benchmark = Benchmark("points", (2, 1), (0, 5))
        result = propagate_dataset(engine, data, out, benchmark, {"propagator": "echo"}, progress=False)
        assert result.totals == {"videos": 2, "runs": 4, "made": 8} and engine.calls == [2] * 8
        assert len(result.notes) == 8 and "objects.never: no frame to start from" in str(result.notes[0])
        folders = sorted(str(p.relative_to(out)) for p in out.glob("*/*/*"))
        assert folders[:2] == ["points-1/seed-0/one", "points-1/seed-0/two words"] and len(folders) == 8
        reader = VideoPredictions(Run(out / "points-2" / "seed-5"), data[0], "error")
        labels = [reader.read(t, (1, 2)) for t in range(T)]
        assert reader.numbers == {"red": 1, "late": 2, "never": 3} and not reader.problems
        assert [sorted(np.unique(values)) for values in labels if values is not None] == [[0, 1], [0, 1, 2], [0, 1, 2]]

    def test_masks_and_resuming(self, tmp_path: Path, data: VngDataset) -> None:
        import shutil

        out, benchmark = tmp_path / "results", Benchmark("masks")
        propagate_dataset(Echo(), data, out, benchmark, {}, progress=False)
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        assert (out / "one" / "000002.png") in before and (out / "one" / "objects.json") in before
        shutil.rmtree(out / "two words")
        (out / "two words.tmp").mkdir()
        (out / "two words.tmp" / "000000.png").write_bytes(b"cut short")
        engine = Echo()
        assert propagate_dataset(engine, data, out, benchmark, {}, progress=False).totals["made"] == 1
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before and engine.calls == [2]
        assert propagate_dataset(engine, data, out, benchmark, {}, progress=False).totals["made"] == 0
        with pytest.raises(DataError, match="start: an earlier run wrote here with 'masks', now 'points'"):
            propagate_dataset(engine, data, out, Benchmark("points"), {}, progress=False)
        with pytest.raises(DataError, match="propagator: an earlier run wrote here with None, now 'flow'"):
            propagate_dataset(engine, data, out, benchmark, {"propagator": "flow"}, progress=False)
        with pytest.raises(DataError, match="this folder holds something else"):
            propagate_dataset(engine, data, data.path, benchmark, {}, progress=False)

    def test_an_object_is_nowhere_before_its_first_frame(self, tmp_path: Path, data: VngDataset) -> None:
        class Seer:
            def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
                for t in reversed(range(len(frames))):
                    yield t, np.stack([np.full((H, W), 0.6, np.float32), np.full((H, W), 0.9, np.float32)])

        propagate_dataset(Seer(), data, tmp_path / "r", Benchmark("masks"), {}, progress=False)
        values = [set(np.unique(np.asarray(Image.open(tmp_path / "r" / "one" / f"{t:06d}.png")))) for t in range(T)]
        assert values == [{1}, {2}, {2}]

    def test_the_command(self, tmp_path: Path, data: VngDataset, cli: Callable[..., Cli]) -> None:
        words = [
            "propagate",
            "--dataset",
            data.path,
            "--out",
            tmp_path / "r",
            "--start",
            "masks",
            "--quiet",
            "--propagator",
            "flow",
        ]
        ended = cli(*words, "--json")
        assert ended.status == 0 and json.loads(ended.out) == {"videos": 2, "runs": 1, "made": 2}, ended.err
        assert "note: hand-made: one: objects.never: no frame to start from: neither a mask" in ended.err
        assert "made" in cli(*words).out
        ended = cli(*words, "--propagator-set", "reach=3")
        assert ended.status == 1 and "settings: an earlier run wrote here with {}, now {'reach': '3'}" in ended.err

    def test_two_processes_write_what_one_writes(self, tmp_path: Path, data: VngDataset) -> None:
        words = ["-m", "vng.cli", "propagate", "--dataset", str(data.path), "--quiet"]
        words += ["--start-from", "masks", "--out"]  # torchrun takes --start for one of its own
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", *words, str(tmp_path / "b")]
        ended = subprocess.run(torchrun, capture_output=True, text=True, cwd=ROOT)
        assert ended.returncode == 0, ended.stderr
        subprocess.run([sys.executable, *words, str(tmp_path / "a")], check=True, capture_output=True, cwd=ROOT)
        found = [
            {p.relative_to(tmp_path / run): p.read_bytes() for p in (tmp_path / run).rglob("*.png")} for run in "ab"
        ]
        assert found[0] == found[1] and len(found[0]) == 2 * T


def test_labels_need_no_object(tmp_path: Path) -> None:
    write_label_map(tmp_path / "0.png", np.zeros((0, 4, 5), bool), [])
    with Image.open(tmp_path / "0.png") as image:
        assert image.mode == "P" and not np.asarray(image).any() and image.size == (5, 4)
