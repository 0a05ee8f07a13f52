"""Own clips to a dataset, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conversion.pseudo_masks import PointedObject, segment_points
from tests.helpers import Cli, box, make_video, write_frames
from vng.dataset import VngDataset
from vng.dataset_writer import write_dataset
from vng.errors import read_problems
from vng.frames import ArrayFrames
from vng.masks import area, decode, encode
from vng.points import PointPrompts, Points
from vng.viewer import write_video

HEIGHT, WIDTH, COUNT = 36, 52, 5


def moving_box(t: int) -> np.ndarray:
    return box(10, 6 + 3 * t, 24, 20 + 3 * t, HEIGHT, WIDTH)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with a film and a folder of frames of a red box that moves."""
    images = np.full((COUNT, HEIGHT, WIDTH, 3), 40, np.uint8)
    for t in range(COUNT):
        images[t][moving_box(t)] = (230, 40, 40)
    write_frames(tmp_path / "clips" / "folder", images, "{:05d}.png")
    write_video(iter(images), tmp_path / "clips" / "film.mp4", fps=5)
    cv2.imwrite(str(tmp_path / "clips" / "first.png"), moving_box(0) * np.uint8(255))
    return tmp_path / "clips"


def write(folder: Path, *values: dict[str, Any]) -> Path:
    (folder / "clips.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return folder / "clips.jsonl"


def convert(cli: Callable[..., Cli], file: Path, out: Path, *more: object) -> Cli:
    return cli("convert", "own", "--clips", file, "--out", out, "--segmenter", "classical", "--quiet", *more)


POINTS = [[0, 13, 17], [0, 40, 30, "negative"]]


class TestConvert:
    def test_points_masks_and_boxes_on_all_frames(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        file = write(
            clips,
            {"video": "film.mp4", "narrative": "A [box](a) slides.", "objects": {"a": POINTS}},
            {"video": "folder", "id": "mine", "split": "val", "objects": {"m": {"mask": "first.png", "absent": [4]}}},
            {"video": "folder", "id": "boxed", "objects": {"b": {"boxes": [[0, 5, 9, 21, 25]]}}},
        )
        ended = convert(cli, file, tmp_path / "d", "--propagator", "flow")
        assert ended.status == 0, ended.err
        pointed, masked, boxed = VngDataset(tmp_path / "d", "train")[0], VngDataset(tmp_path / "d", "val")[0], None
        assert pointed.video_id == "film" and [pointed.noun(e) for e in pointed.expressions] == ["box"]
        (a,) = pointed.objects
        assert a.name == "box" and a.source == "points/classical" and len(a.points) == 2
        assert all(rle is not None for rle in a.segmentations) and len(a.segmentations) == COUNT
        truth = encode(moving_box(0))
        assert np.mean(decode(a.segmentations[0]).astype(bool) == moving_box(0)) > 0.97
        (m,) = masked.objects
        assert masked.video_id == "mine" and m.segmentations[0] == truth and area(m.segmentations[4]) == 0
        assert m.source == "mask/propagated" and m.has_pseudo_masks and area(m.segmentations[1]) > 100
        boxed = next(v for v in VngDataset(tmp_path / "d") if v.video_id == "boxed")
        found = decode(boxed.objects[0].segmentations[0]).astype(bool)
        inter = (found & moving_box(0)).sum() / (found | moving_box(0)).sum()
        assert inter > 0.8 and boxed.objects[0].source == "points/classical"

    def test_without_a_propagator_only_what_is_known(
        self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]
    ) -> None:
        objects = {"a": [*POINTS, [3, 22, 17]], "m": {"masks": {"00001": "first.png"}}}
        file = write(clips, {"video": "folder", "objects": objects})
        assert convert(cli, file, tmp_path / "d").status == 0
        (video,) = VngDataset(tmp_path / "d")
        assert video.frame_names == ("00000", "00001", "00003") and not video.narratives
        a, m = video.objects
        assert [rle is not None for rle in a.segmentations] == [True, False, True]
        assert [rle is not None for rle in m.segmentations] == [False, True, False] and m.source == "drawn"
        assert not m.has_pseudo_masks and a.points.frame.tolist() == [0, 0, 2]

    def test_good_clips_stay(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        file = write(
            clips,
            {"video": "folder", "id": "good", "narrative": "A [box](a) and a [dog](d).", "objects": {"a": POINTS}},
            {"video": "nowhere.mp4", "objects": {"a": POINTS}},
            {"video": "folder", "id": "outside", "objects": {"a": [[0, 99, 1]]}},
            {"video": "folder", "id": "broken", "objects": {"a": [[0, "x", 1]]}},
            {"video": "folder", "id": "empty", "narrative": "A [box](a)."},
        )
        ended = convert(cli, file, tmp_path / "d")
        assert ended.status == 0 and VngDataset(tmp_path / "d").video_ids == ["good"]
        assert len(VngDataset(tmp_path / "d")[0].expressions) == 1
        told = {(p.record, p.field): p.reason for p in read_problems(tmp_path / "d" / "problems.jsonl")}
        assert "no point, box or mask says where it is" in told["line 1: object 'd'", ""]
        assert f"no such video in {clips}: 'nowhere.mp4'" in told["line 2", "video"]
        assert "x: 99" not in told and any("outside the frame" in reason for reason in told.values())
        assert any("expected a number, got 'x'" in reason for reason in told.values())
        assert convert(cli, write(clips, {"video": "nowhere"}), tmp_path / "e").status == 1

    def test_videos_elsewhere(self, clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        (tmp_path / "notes").mkdir()
        file = write(tmp_path / "notes", {"video": "film", "objects": {"a": POINTS}})
        assert convert(cli, file, tmp_path / "d", "--frames", clips, "--link-frames").status == 0
        (video,) = VngDataset(tmp_path / "d")
        assert video.opened_frames()[0].shape == (HEIGHT, WIDTH, 3) and video.video_id == "film"


class Filled:
    """A segmenter that fills the boxes of its prompts, as the SAM family takes them; it needs no points."""

    takes_boxes = True

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        masks = np.zeros((len(prompts), *image.shape[:2]), np.float32)
        for mask, prompt in zip(masks, prompts, strict=True):
            if prompt.box is not None:
                assert not len(prompt.positive) and not len(prompt.negative)
                x0, y0, x1, y1 = prompt.box.astype(int)
                mask[y0 : y1 + 1, x0 : x1 + 1] = 1
        return masks


def test_a_box_alone_is_a_prompt_for_engines_that_take_boxes() -> None:
    frames = ArrayFrames(np.zeros((2, HEIGHT, WIDTH, 3), np.uint8))
    boxed = PointedObject("b", "b", Points.none(), boxes={1: np.array([5, 9, 20, 25], np.float32)})
    (row,) = segment_points(frames, [boxed], Filled())
    assert row == [None, encode(box(9, 5, 26, 21, HEIGHT, WIDTH))]


class TestExport:
    @pytest.mark.parametrize("with_frames", [True, False])
    def test_there_and_back(self, tmp_path: Path, cli: Callable[..., Cli], with_frames: bool) -> None:
        made = [make_video("one"), make_video("two words", 5)]
        write_dataset(tmp_path / "d", made, "t")
        words = ["export", tmp_path / "d", "--format", "own", "--out", tmp_path / "own", "--quiet"]
        assert cli(*words, *(["--with-frames"] if with_frames else [])).status == 0
        for video in made:
            write_frames(tmp_path / "frames" / video.video_id, np.stack(list(video.opened_frames())), "{:06d}.png")
        more = [] if with_frames else ["--frames", tmp_path / "frames"]
        ended = convert(cli, tmp_path / "own" / "clips.jsonl", tmp_path / "back", *more)
        assert ended.status == 0, ended.err
        for video, expected in zip(VngDataset(tmp_path / "back"), made, strict=True):
            assert (video.video_id, video.narratives, video.expressions) == (
                expected.video_id,
                expected.narratives,
                expected.expressions,
            )
            for item, own in zip(video.objects, expected.objects, strict=True):
                kept = [rle for rle in own.segmentations if rle is not None]
                assert [rle for rle in item.segmentations if rle is not None][: len(kept)] is not None
                assert {rle.counts for rle in kept} <= {rle.counts for rle in item.segmentations if rle is not None}
                np.testing.assert_array_equal(item.points.xy, own.points.xy)
                assert item.name == own.name

    def test_spans_that_overlap_are_reported(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        from dataclasses import replace

        from vng.narratives import Expression

        video = make_video("one")
        first = video.expressions[0]
        longer = Expression(first.narrative, first.start - 1, first.end, first.object_id)
        write_dataset(tmp_path / "d", [replace(video, expressions=(first, longer)), make_video("b", 3)], "t")
        ended = cli("export", tmp_path / "d", "--format", "own", "--out", tmp_path / "own", "--quiet")
        assert ended.status == 0 and "overlap" in ended.err
        assert len((tmp_path / "own" / "clips.jsonl").read_text().splitlines()) == 1


def test_a_file_of_one_clip_prompts_propagation(clips: Path, tmp_path: Path, cli: Callable[..., Cli]) -> None:
    objects = {"a": POINTS, "m": {"masks": {"2": {"size": [HEIGHT, WIDTH], "counts": encode(moving_box(2)).counts}}}}
    file = write(clips, {"video": "folder", "objects": objects})
    words = ["propagate", "--video", clips / "folder", "--points", file, "--propagator", "flow", "--quiet"]
    assert cli(*words, "--out", tmp_path / "r").status == 0
    assert len(list((tmp_path / "r" / "masks").iterdir())) == COUNT
    (clips / "box.json").write_text(json.dumps({"objects": {"b": {"boxes": [[0, 1, 1, 9, 9]]}}}))
    ended = cli(*words[:4], clips / "box.json", *words[5:], "--out", tmp_path / "s")
    assert ended.status == 1 and "a box alone, which propagators do not take; put a positive point" in ended.err
