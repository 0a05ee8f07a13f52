"""The PV-Oops benchmark form: which frames an object is given and scored on, and what is dropped and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.benchmark_rules import (
    EARLY_TRACE,
    NO_REFERENCE,
    NO_SUPPORT,
    Placement,
    place,
    why_dropped,
)
from conversion.formats.vidln import ActorNarrative, AlignedWord, TracePoint, VidLN, write_vidln
from conversion.point_benchmark import benchmark_video, narrated_trace_frames, read_trace_frames
from tests.helpers import Cli
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import DatasetWriter
from vng.errors import DataError, Problem
from vng.frames import ArrayFrames
from vng.masks import encode
from vng.narratives import Expression, Narrative
from vng.points import NEGATIVE, POSITIVE, Points

T, HIGH, WIDE = 9, 10, 14
WORDS = "A ball rolls."


def points(counts: Sequence[tuple[int, int]]) -> Points:
    """So many (positive, negative) points in each frame; x is the point's number, y the frame's."""
    frame, xy, label = [], [], []
    for t, (on, off) in enumerate(counts):
        for i in range(on + off):
            frame.append(t)
            xy.append((float(i), float(t)))
            label.append(POSITIVE if i < on else NEGATIVE)
    return Points.of_lists(frame, xy, label)


GOOD = ((2, 1), (6, 4), (8, 2), (3, 0), (1, 5), (3, 1), (9, 0), (0, 0), (0, 2))  # reference 2, later support in 5


def a_video(name: str = "v", **objects: tuple[Sequence[tuple[int, int]], str]) -> Video:
    """Objects by id, each with its points and the source of its masks; the mask of frame t has t + 1 pixels."""
    masks = []
    for t in range(T):
        mask = np.zeros((HIGH, WIDE), bool)
        mask[0, : t + 1] = True
        masks.append(encode(mask))
    made = tuple(
        VideoObject(key, "", source, tuple(masks), points(counts)) for key, (counts, source) in objects.items()
    )
    frames = ArrayFrames(np.stack([np.full((HIGH, WIDE, 3), 9 * t, np.uint8) for t in range(T)]))
    expressions = tuple(Expression(0, 2, 6, key) for key in objects)
    narratives = (Narrative("Ball", WORDS),)
    return Video(
        video_id=name,
        dataset="oops",
        split="val",
        height=HIGH,
        width=WIDE,
        fps=0.0,
        frame_names=tuple(frames.names),
        narratives=narratives,
        expressions=expressions,
        objects=made,
        frames=frames,
    )


def write_dataset(path: Path, *videos: Video) -> None:
    writer = DatasetWriter(path, {"made": "by hand"})
    for index, video in enumerate(videos):
        writer.write(index, [video.as_row()], [])
    writer.finish(len(videos), "hand-made", "")


class TestPlace:
    def test_reference_and_evaluation_frames(self) -> None:
        assert place(points(GOOD), None).placement == Placement(2, (3, 5, 8))  # 7 has no points

    def test_only_frames_with_points_are_evaluated(self) -> None:
        decision = place(points([(7, 0), (0, 0), (3, 1), (0, 0), (0, 2)]), None)
        assert decision.placement == Placement(0, (2, 4)) and decision.annotated == (0, 2, 4)

    @pytest.mark.parametrize(
        ("trace", "frames", "replaced"),
        [(3, (3, 5, 8), None), (4, (4, 5, 8), 3), (5, (3, 5, 8), None), (7, (3, 5, 7), 8)],
    )
    def test_the_trace_frame_takes_the_place_of_the_nearest(
        self, trace: int, frames: tuple[int, ...], replaced: int | None
    ) -> None:
        decision = place(points(GOOD), trace)
        assert decision.placement == Placement(2, frames)
        assert (decision.even, decision.trace, decision.replaced) == ((3, 5, 8), trace, replaced)

    def test_fewer_frames_than_three(self) -> None:
        assert place(points([(7, 0), (3, 1)]), None).placement == Placement(0, (1,))

    @pytest.mark.parametrize(
        ("counts", "trace", "outcome", "reason"),
        [
            ([(6, 9), (3, 1)], None, NO_REFERENCE, r"no frame has 7 positive points \(at most 6\)"),
            ([], None, NO_REFERENCE, r"at most 0"),
            (
                [(3, 1), (7, 1)],
                None,
                NO_SUPPORT,
                "no frame after the reference frame has 3 positive and 1 negative points",
            ),
            ([(7, 1), (2, 1), (9, 0)], None, NO_SUPPORT, "no frame after the reference frame has"),
            (GOOD, 2, EARLY_TRACE, "the frame with the mouse trace is not after the reference frame"),
            (GOOD, 0, EARLY_TRACE, "the frame with the mouse trace is not after the reference frame"),
        ],
    )
    def test_dropped(self, counts: Sequence[tuple[int, int]], trace: int | None, outcome: str, reason: str) -> None:
        decision = place(points(counts), trace)
        assert decision.placement is None and decision.outcome == outcome
        assert re.search(reason, why_dropped(decision))

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"outcome": "lost"}, "outcome 'lost': expected one of placed, published, no reference"),
            ({"reference": None}, "outcome 'placed' with reference frame None"),
            ({"evaluation": (8, 5)}, r"evaluation frames \(8, 5\): expected frames after 2, in order"),
            ({"evaluation": (2, 5)}, "expected frames after 2"),
            ({"evaluation": (3, 5)}, r"evaluation frames \(3, 5\): expected \[3, 5, 8\]"),
            ({"trace": 7, "replaced": 8}, r"expected \[3, 5, 7\]"),
        ],
    )
    def test_a_decision_is_checked(self, change: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            replace(place(points(GOOD), None), **change)


class TestVideo:
    def test_the_form(self) -> None:
        told: list[Problem] = []
        made = benchmark_video(a_video(a=(GOOD, "orig_masks")), None, told.append)
        assert made is not None and told == []
        assert made.frame_names == tuple(f"{t:06d}" for t in range(2, T))
        assert made.frames is not None and int(made.frames[0][0, 0, 0]) == 18
        (item,) = made.objects
        assert item.points.frame.tolist() == [0] * 10 and set(item.points.xy[:, 1]) == {2}
        assert [t for t, rle in enumerate(item.segmentations) if rle is not None] == [1, 3, 6]
        assert item.segmentations[1] == encode(np.arange(HIGH * WIDE).reshape(HIGH, WIDE) < 4)
        assert item.quality.n_points == 10

    def test_the_published_form_is_taken_as_it_is(self) -> None:
        told: list[Problem] = []
        source = a_video(a=([(0, 0), (5, 3)], "orig_masks"))
        few = tuple(rle if t in (0, 4, 6) else None for t, rle in enumerate(source.objects[0].segmentations))
        source = replace(source, objects=(replace(source.objects[0], segmentations=few),))
        made = benchmark_video(source, {}, told.append)
        assert made is not None and told == [] and len(made.frame_names) == T - 1
        (item,) = made.objects
        assert item.points.frame.tolist() == [0] * 8  # five positives, not seven
        assert [t for t, rle in enumerate(item.segmentations) if rle is not None] == [3, 5]

    def test_masks_of_an_engine_are_no_truth(self) -> None:
        told: list[Problem] = []
        made = benchmark_video(a_video(a=(GOOD, "points/embedded")), None, told.append)
        assert made is not None and set(made.objects[0].segmentations) == {None}
        assert [p.reason for p in told] == ["no true mask in frames to be evaluated (000003, 000005, 000008)"]

    def test_every_object_has_its_own_reference(self) -> None:
        late = ((0, 0),) * 4 + ((7, 2), (4, 1), (0, 0), (0, 0), (0, 0))
        none = ((6, 1),) * T
        told: list[Problem] = []
        made = benchmark_video(
            a_video(a=(late, "x"), b=(none, "x"), c=(GOOD, "x")), {"a": "000006", "c": "7"}, told.append, "DATA"
        )
        assert made is not None and len(made.frame_names) == 7
        assert [e.object_id for e in made.expressions] == ["a", "c"]
        a, c = made.objects
        assert set(a.points.frame) == {2} and set(c.points.frame) == {0}
        assert [t + 2 for t, rle in enumerate(a.segmentations) if rle is not None] == [6]  # the trace; 5 has points
        assert [t + 2 for t, rle in enumerate(c.segmentations) if rle is not None] == [3, 5, 7]
        assert [(p.field, p.reason, p.kind) for p in told] == [
            (
                "objects.b",
                "the frame with its mouse trace is unknown or missing: the rule about it is skipped",
                "note",
            ),
            ("objects.b", "dropped: no frame has 7 positive points (at most 6)", "note"),
        ]

    def test_a_video_without_an_object_left_is_dropped(self) -> None:
        told: list[Problem] = []
        assert benchmark_video(a_video(b=(((6, 1),) * T, "x")), None, told.append, "DATA") is None
        assert str(told[-1]) == "DATA: v: dropped: no object of this video is left"


def a_narrative(video: str, key: int, caption: str = WORDS) -> VidLN:
    """The word "ball" drawn over on key frame `key` of "000001", "000004" and, in a small box, on "000001"."""
    words, place_ = [], 0
    for index, word in enumerate(("A", "ball", "rolls")):
        start = caption.index(word, place_)
        words.append(AlignedWord(word, start, start + len(word), 200 * index, 200 * index + 100))
        place_ = start + len(word)
    small = (TracePoint(0.1, 0.1, 5210, 0), TracePoint(0.2, 0.2, 5220, 0))
    large = (TracePoint(0.1, 0.1, 5230, key), TracePoint(0.9, 0.7, 5240, key))
    told = ActorNarrative(
        actor_name="Ball",
        caption=caption,
        keyframe_selection_indices=(0,),
        recording_start_ms=5000,
        traces_start_ms=5010,
        recording_filename="x.webm",
        traces=(small, large),
        noun_segments=(),
        time_alignment=tuple(words),
    )
    return VidLN(
        vidln_id=1,
        dataset_id="oops",
        video_id=video,
        annotator_id=7,
        keyframe_names=("000001", "000004"),
        narratives=(told,),
    )


class TestTraces:
    def test_the_frame_that_the_trace_covers_most(self) -> None:
        video = a_video(a=(GOOD, "x"))
        assert narrated_trace_frames(video, a_narrative("v", 1)) == {"a": "000004"}
        assert narrated_trace_frames(video, a_narrative("v", 0)) == {"a": "000001"}
        assert narrated_trace_frames(video, a_narrative("v", 1, "A ball rolls on.")) == {}  # another narrative

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "t.json").write_text('{"a": "000004"}')
        assert read_trace_frames(tmp_path / "t.json") == {"a": "000004"}
        (tmp_path / "t.json").write_text('{"a": 4}')
        with pytest.raises(DataError, match="a: expected a string, got 4"):
            read_trace_frames(tmp_path / "t.json")


class TestCommand:
    def test_a_dataset_becomes_a_benchmark(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        data, out = tmp_path / "data", tmp_path / "out"
        bad = (((6, 1),) * T, "orig_masks")
        good = (GOOD, "orig_masks")
        write_dataset(data, a_video("v", a=good), a_video("w", b=bad), a_video("early", c=good))
        write_vidln([a_narrative("v", 1), a_narrative("w", 1), a_narrative("early", 0)], tmp_path / "n.jsonl")
        call = ["convert", "point-benchmark", "--source", data, "--quiet", "--strict"]
        ended = cli(*call, "--narratives", tmp_path / "n.jsonl", "--out", out)
        assert ended.status == 0 and "1 videos" in ended.out and "0 left out, 4 notes" in ended.err
        (video,) = VngDataset(out)
        assert (video.video_id, video.dataset, video.split) == ("v", "oops", "val")
        assert [t + 2 for t, rle in enumerate(video.objects[0].segmentations) if rle] == [4, 5, 8]
        reasons = (out / "problems.jsonl").read_text()
        assert "the frame with the mouse trace is not after" in reasons and "at most 6" in reasons
        assert cli(*call, "--out", tmp_path / "plain").status == 0
        assert [v.video_id for v in VngDataset(tmp_path / "plain")] == ["v", "early"]

    def test_faults(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        data = tmp_path / "data"
        call = ["convert", "point-benchmark", "--source", data, "--out", tmp_path / "out", "--quiet"]
        ended = cli(*call)
        assert ended.status == 1 and "no such dataset folder" in ended.err
        write_dataset(data, a_video("v", a=(GOOD, "x")))
        (tmp_path / "t.json").write_text(json.dumps({"a": "000004"}))
        ended = cli(*call, "--narratives", tmp_path / "t.json", "--trace-frames", tmp_path / "t.json")
        assert ended.status == 2 and "use one of them" in ended.err
        assert cli(*call, "--link-frames").status == 2
        ended = cli(*call, "--trace-frames", tmp_path / "none.json")
        assert ended.status == 1 and "no such file" in ended.err
        assert cli(*call, "--trace-frames", tmp_path / "t.json").status == 0
