"""`vng convert point-vos`: points alone, the published validation form, records linked by question."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conversion.formats.point_vos import AnnotatedPoint, PointRecord, write_points
from conversion.formats.vidln import write_vidln
from tests.conversion.narrated_video import narrative, trace, video
from tests.conversion.test_questions import drawn, question
from tests.helpers import Cli, H, W, box, write_frames
from vng.dataset import VngDataset
from vng.masks import encode
from vng.points import NEGATIVE, POSITIVE


def record(key: str, frames: tuple[int, ...], name: str = "ball", video_name: str = "val/v") -> PointRecord:
    """In each frame, two positives and a negative."""
    marks = [((6, 6), POSITIVE), ((8, 7), POSITIVE), ((25, 15), NEGATIVE)]
    points = tuple(AnnotatedPoint(x, y, f"{t:06d}", label) for t in frames for (x, y), label in marks)
    return PointRecord(
        key=key, object_name=name, video_name=video_name, points=points, question_hash={"a": "second"}.get(key)
    )


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Frames of the videos "v" and "w", six each; points of three objects; narratives of "v" alone."""
    for index, name in enumerate(("v", "w")):
        write_frames(tmp_path / "frames" / name, np.full((6, H, W, 3), 40 + 90 * index, np.uint8))
    records = [record("a", (1, 3)), record("b", (3,), "parrot"), record("c", (2,), "cat", "val/w")]
    write_points(records, tmp_path / "points.json")
    write_vidln([video(narrative(traces=(trace(2, 0.2, 0.3), trace(6, 0.6, 0.7))))], tmp_path / "n.jsonl")
    (tmp_path / "questions.json").write_text(json.dumps({"v": [question("second", drawn(6, 0.6, 0.7))]}))
    return tmp_path


def call(inputs: Path, *more: object) -> list[object]:
    common = ["convert", "point-vos", "--points", inputs / "points.json", "--frames", inputs / "frames"]
    return [*common, "--out", inputs / "out", "--quiet", *more]


def test_points_need_no_language(inputs: Path, cli: Callable[..., Cli]) -> None:
    ended = cli(*call(inputs))
    assert ended.status == 0 and "0 problems" in ended.out
    first, second = VngDataset(inputs / "out")
    assert (first.video_id, second.video_id, first.split) == ("v", "w", "val")
    assert first.frame_names == ("000001", "000003") and first.narratives == () and first.expressions == ()
    assert [(o.object_id, o.name, len(o.points), o.source) for o in first.objects] == [
        ("a", "ball", 6, "point-vos"),
        ("b", "parrot", 3, "point-vos"),
    ]
    assert first.objects[1].points.frame.tolist() == [1] * 3
    assert not any(rle for item in first.objects for rle in item.segmentations)


def test_the_published_form_with_masks(inputs: Path, cli: Callable[..., Cli]) -> None:
    mask = encode(box(4, 4, 10, 12))
    table = {"a": {"000004": mask.as_dict()}, "b": {"000005": mask.as_dict()}}
    (inputs / "masks.json").write_text(json.dumps(table))
    ended = cli(*call(inputs, "--masks", inputs / "masks.json"))
    assert ended.status == 0 and "this object cannot be scored" in ended.err and "c" in ended.err
    first = VngDataset(inputs / "out")[0]
    assert first.frame_names == tuple(f"{t:06d}" for t in range(1, 6))  # from the first positive on, all frames
    assert [[t for t, rle in enumerate(o.segmentations) if rle] for o in first.objects] == [[3], [4]]
    assert first.objects[1].points.frame.tolist() == [2] * 3


def test_unlinked_objects_stay_where_asked(inputs: Path, cli: Callable[..., Cli]) -> None:
    narrated = ("--narratives", inputs / "n.jsonl", "--nouns", "noun_segments", "--segmenter", "classical")
    ended = cli(*call(inputs, *narrated, "--questions", inputs / "questions.json", "--keep-unlinked"))
    assert ended.status == 0, ended.err
    first, second = VngDataset(inputs / "out")
    assert [(e.object_id, e.start) for e in first.expressions] == [("a", 28)]  # by the trace: not the first ball
    assert [(o.object_id, o.quality.link) for o in first.objects] == [("a", "question"), ("b", "")]
    assert any(o.segmentations[0] or o.segmentations[-1] for o in first.objects)
    assert second.narratives == () and [o.object_id for o in second.objects] == ["c"]


def test_without_it_they_are_left_out(inputs: Path, cli: Callable[..., Cli]) -> None:
    narrated = ("--narratives", inputs / "n.jsonl", "--nouns", "noun_segments", "--segmenter", "classical")
    ended = cli(*call(inputs, *narrated, "--questions", inputs / "questions.json"))
    assert [[o.object_id for o in v.objects] for v in VngDataset(inputs / "out")] == [["a"]]
    assert "no narrative of video 'w'" in ended.err and "no question None" in ended.err


@pytest.mark.parametrize("option", [("--keep-unlinked",), ("--questions", "q.json")])
def test_options_that_need_narratives(inputs: Path, cli: Callable[..., Cli], option: tuple[str, ...]) -> None:
    ended = cli(*call(inputs, *option))
    assert ended.status == 2 and "go with --narratives" in ended.err
