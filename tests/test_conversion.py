"""Annotation formats in and out, linking, pseudo-masks, and `vng convert` on files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conversion.formats import vidln as vidln_format
from conversion.formats.official_vng import TrioFiles, read_trio, write_trio
from conversion.formats.point_vos import AnnotatedPoint, PointRecord, as_json, write_points
from conversion.formats.points import read_points
from conversion.formats.vidln import (
    ActorNarrative,
    AlignedWord,
    TracePoint,
    VidLN,
    best_keyframe,
    by_keyframe,
    trace_segment,
)
from conversion.linking import link_records, noun_source
from conversion.pseudo_masks import PointedObject, PseudoMaskSettings, make_pseudo_masks
from conversion.synthetic.scene import PRESETS
from conversion.synthetic.world import make_world, trace_share_inside, write_world
from tests.helpers import Cli, H, T, W, box, make_video, write_frames
from vng.dataset import VngDataset
from vng.errors import DataError, Problem, UsageError, read_problems
from vng.frames import ArrayFrames
from vng.masks import area, encode
from vng.narratives import spacy_nouns
from vng.points import NEGATIVE, POSITIVE, Points

QUICK = ("--segmenter", "classical")  # where masks do not matter
CAPTION = "A red ball passes the other ball."
NOUNS = ((6, 10), (28, 32))


def narrative(traces: tuple = (), nouns: tuple = NOUNS) -> ActorNarrative:
    """Words of 100 ms each, 200 ms apart."""
    words, position = [], 0
    for index, word in enumerate(CAPTION.rstrip(".").split()):
        start = CAPTION.index(word, position)
        words.append(AlignedWord(word, start, start + len(word), 200 * index, 200 * index + 100))
        position = start + len(word)
    return ActorNarrative(
        actor_name="Ball",
        caption=CAPTION,
        keyframe_selection_indices=(0,),
        recording_start_ms=5000,
        traces_start_ms=5010,
        recording_filename="x.webm",
        traces=traces,
        noun_segments=nouns,
        time_alignment=tuple(words),
    )


def video(*narratives: ActorNarrative, name: str = "v") -> VidLN:
    return VidLN(
        vidln_id=3,
        dataset_id="toy",
        video_id=name,
        annotator_id=7,
        keyframe_names=("000000", "000002"),
        narratives=narratives,
        file="n.jsonl",
        line="line 1",
    )


def trace(word: int, x: float, y: float, key: int = 0, count: int = 4) -> tuple[TracePoint, ...]:
    return tuple(TracePoint(x + 0.01 * i, y, 5000 + 200 * word + 10 * i, key) for i in range(count))


def record(key: str, name: str, inside: tuple[float, float], outside: tuple[float, float] = (29, 19)) -> PointRecord:
    marks = tuple(
        AnnotatedPoint(x, y, frame, label)
        for frame in ("000000", "000002")
        for (x, y), label in ((inside, 1), (outside, 0))
    )
    return PointRecord(key=key, object_name=name, video_name="train/v", points=marks, file="p.json", place=key)


class TestVidln:
    def test_segment_runs_to_the_next_word(self) -> None:
        part = tuple(TracePoint(0.1 * i, 0.5, 5000 + 100 * i, 0) for i in range(9))
        # "ball" (third word) is spoken from 400 ms on; the next word starts at 600 ms, both included
        assert [p.time_ms - 5000 for p in trace_segment(narrative((part,)), 6, 10)[0]] == [400, 500, 600]
        assert trace_segment(narrative(()), 6, 10) == ()

    def test_last_word_has_no_end_and_parts_are_cut(self) -> None:
        late = tuple(TracePoint(0.5, 0.5, 5000 + ms, 0) for ms in (1300, 900, 9000))
        segment = trace_segment(narrative((late,)), 28, 32)
        assert [[p.time_ms for p in part] for part in segment] == [[6300], [14000]]

    def test_key_frame_of_the_largest_area(self) -> None:
        small = (TracePoint(0.1, 0.1, 5400, 0), TracePoint(0.2, 0.2, 5410, 0))
        large = (TracePoint(0.1, 0.1, 5420, 1), TracePoint(0.6, 0.4, 5430, 1))
        segment = trace_segment(narrative((small, large)), 6, 10)
        assert (
            list(by_keyframe(segment)) == [0, 1]
            and best_keyframe(by_keyframe(segment)) == 1
            and best_keyframe({}) is None
        )

    def test_round_trip(self, tmp_path: Path) -> None:
        made = video(narrative((trace(2, 0.1, 0.2),)))
        vidln_format.write_vidln([made, made], tmp_path / "n.jsonl")
        assert list(vidln_format.read_vidln(tmp_path / "n.jsonl")) == [made, made]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda d: d.pop("video_id"), "video_id: this key is missing"),
            (lambda d: d.update(vidln_id="x"), 'vidln_id: expected an integer, got "x"'),
            (lambda d: d["actor_narratives"][0].update(noun_segments=[[6, 99]]), r"noun_segments\[0\]: span \[6, 99\)"),
            (
                lambda d: d["actor_narratives"][0]["traces"][0][1].update(kf_idx=9),
                r"traces\[0\]\[1\].kf_idx: there is no key frame 9: the video has 2",
            ),
            (lambda d: d["actor_narratives"][0]["time_alignment"][0].pop("start_ms"), "start_ms: this key is missing"),
        ],
    )
    def test_faults_name_line_and_field(self, tmp_path: Path, change: Callable, words: str) -> None:
        raw = vidln_format.as_json(video(narrative((trace(2, 0.1, 0.2),))))
        good = json.dumps(raw)
        change(raw)
        (tmp_path / "n.jsonl").write_text(f"{good}\n{json.dumps(raw)}\n{{broken\n{good}\n")
        with pytest.raises(DataError, match=f"line 2: .*{words}"):
            list(vidln_format.read_vidln(tmp_path / "n.jsonl"))
        problems: list[Problem] = []
        assert len(list(vidln_format.read_vidln(tmp_path / "n.jsonl", problems.append))) == 2
        assert [p.record for p in problems] == ["line 2", "line 3"] and "broken JSON" in problems[1].reason

    def test_real_trace_segments(self, shared: Path) -> None:
        golden = json.loads((shared / "goldens" / "vidln" / "trace_segments.json").read_text())
        nouns = without = several = 0
        for name in ("OVIS_train", "oops_train"):
            path = shared / "vidln" / "vidlns" / f"{name}_sample.jsonl"
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for raw, read in zip(lines, vidln_format.read_vidln(path), strict=True):
                assert vidln_format.as_json(read) == raw
                spans = [(n, s) for n, item in enumerate(read.narratives) for s in item.noun_segments]
                for (index, span), expected in zip(spans, golden[read.video_id], strict=True):
                    segment = trace_segment(read.narratives[index], *span)
                    keys = by_keyframe(segment)
                    assert (index, list(span)) == (expected["narrative"], expected["span"])
                    assert [len(part) for part in segment] == expected["parts"]
                    assert {str(k): len(xy) for k, xy in keys.items()} == {
                        k: v["points"] for k, v in expected["key_frames"].items()
                    }
                    for key, xy in keys.items():
                        np.testing.assert_allclose([*xy.min(0), *xy.max(0)], expected["key_frames"][str(key)]["box"])
                    nouns, without, several = nouns + 1, without + (not keys), several + (len(keys) > 1)
        assert (nouns, without, several) == (129, 14, 45)


class TestPointVos:
    @pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
    def test_round_trip(self, tmp_path: Path, name: str) -> None:
        made = [record("a" * 32, "ball", (5, 4)), record("b" * 32, "baby girl", (6, 5))]
        write_points(made, tmp_path / name)
        assert list(read_points(tmp_path / name)) == made
        assert made[0].video_id == "v" and made[0].split == "train"

    def test_label_comes_from_status_alone(self, tmp_path: Path) -> None:
        raw = as_json(record("k", "ball", (5, 4)))
        raw["annotated_points"][0] |= {"status": "REJECTED", "is_fg_candidate": True}
        raw["annotated_points"][1] |= {"status": "ACCEPTED", "is_fg_candidate": False}
        raw["video_name"] = None
        raw["annotated_points"][2]["frame_id"] = None
        (tmp_path / "p.json").write_text(json.dumps({"k": raw}))
        (read,) = read_points(tmp_path / "p.json")
        assert [p.label for p in read.points[:2]] == [NEGATIVE, POSITIVE]
        assert read.video_name is None and read.points[2].frame_id is None and read.question is None

    def test_bad_records_do_not_lose_good_ones(self, tmp_path: Path) -> None:
        good, bad = as_json(record("g", "ball", (5, 4))), as_json(record("b", "ball", (5, 4)))
        bad["annotated_points"][1]["status"] = "MAYBE"
        (tmp_path / "p.json").write_text(json.dumps({"g": good, "b": bad, "n": 5}))
        problems: list[Problem] = []
        assert [r.key for r in read_points(tmp_path / "p.json", problems.append)] == ["g"]
        assert "annotated_points[1].status" in str(problems[0]) and "'MAYBE'" in str(problems[0])
        assert problems[1].record == "n"
        (tmp_path / "p.json").write_text("{")
        with pytest.raises(DataError, match="line 1, column 2: broken JSON"):
            list(read_points(tmp_path / "p.json", problems.append))


class TestLinking:
    source = noun_source("noun_segments")

    def link(self, records: list[PointRecord], clip: VidLN, **options: object) -> tuple[dict, list[Problem]]:
        links, problems = link_records(clip, records, self.source, (H, W), T, **options)  # type: ignore[arg-type]
        return {(records[x.record].key, x.noun.start): x.how for x in links}, problems

    def test_one_noun_one_record(self) -> None:
        clip = video(narrative(nouns=((6, 10),)))
        assert self.link([record("a", "Ball", (5, 4))], clip) == ({("a", 6): "name"}, [])
        assert self.link([record("a", "red ball", (5, 4))], video(narrative())) == ({("a", 6): "name"}, [])

    def test_none_is_reported(self) -> None:
        links, problems = self.link([record("a", "cat", (5, 4))], video(narrative()))
        assert not links and "no noun of the narratives is called 'cat'" in str(problems[0])
        assert str(problems[0]).startswith("p.json: a: object_name")

    def test_several_without_trace_are_reported_not_guessed(self) -> None:
        links, problems = self.link([record("a", "ball", (5, 4))], video(narrative()))
        assert not links and "2 nouns and 1 records are called 'ball'" in problems[0].reason

    def test_trace_tells_which(self) -> None:
        # the first noun is traced near (5, 4), the second near (20, 14)
        traces = (trace(2, 5.5 / W, 4.5 / H), trace(6, 20.5 / W, 14.5 / H))
        records = [record("a", "ball", (20, 14)), record("b", "ball", (5, 4))]
        assert self.link(records, video(narrative(traces))) == ({("b", 6): "name+trace", ("a", 28): "name+trace"}, [])
        links, problems = self.link(records, video(narrative(traces)), use_trace=False)
        assert not links and len(problems) == 2

    def test_trace_between_two_decides_nothing(self) -> None:
        middle = trace(2, 12.5 / W, 9 / H, count=1)
        links, problems = self.link(
            [record("a", "ball", (12, 4)), record("b", "ball", (12, 13))], video(narrative((middle,)))
        )
        assert not links and len(problems) == 2

    def test_spacy_pipeline_by_path(self, tmp_path: Path) -> None:
        import spacy

        pipeline = spacy.blank("en")
        ruler = pipeline.add_pipe("attribute_ruler")
        for word in ("clown", "costume", "Man"):
            ruler.add([[{"ORTH": word}]], {"POS": "NOUN"})  # type: ignore[attr-defined]
        pipeline.to_disk(tmp_path / "pipe")
        found = noun_source(str(tmp_path / "pipe"))
        text = "A Man in a clown costume, clown."
        assert [text[a:b] for a, b in spacy_nouns(pipeline(text))] == ["Man", "clown costume", "clown"]
        assert found.name.startswith("spacy:en_")
        with pytest.raises(UsageError, match="no_such_pipeline"):
            noun_source("no_such_pipeline")


class TestPseudoMasks:
    def test_held_out_points_are_never_seen(self) -> None:
        seen: list[np.ndarray] = []

        def segmenter(image: np.ndarray, prompts: list) -> np.ndarray:
            seen.extend(p.positive for p in prompts)
            return np.stack([box(0, 0, 10, 15).astype(np.float32) for _ in prompts])

        xy = [(x, y) for x in range(2, 12, 2) for y in (2, 5)] + [(20, 15), (25, 15), (3, 3), (22, 3), (28, 3)]
        label = [POSITIVE] * 10 + [NEGATIVE] * 5
        item = PointedObject("id", "ball", Points([1] * 15, xy, label))
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))
        (made,) = make_pseudo_masks(frames, [item], segmenter, PseudoMaskSettings(held_out=0.4), "toy")
        assert len(seen[0]) == 6 and made.quality.n_held_out == 6 and made.quality.n_points == 15
        assert made.segmentations[0] is None and made.segmentations[2] is None
        # all positives and four of the five negatives lie on the right side of the toy's box
        held_negatives = {0.8333333, 1.0}
        assert round(made.quality.point_agreement or 0, 7) in {round(v, 7) for v in held_negatives}
        assert made.source == "points/toy"

    def test_negatives_only_is_absence_ambiguous_is_null(self) -> None:
        points = Points(
            [0, 1, 2, 3, 3], [(5, 5), (6, 6), (7, 7), (8, 8), (9, 9)], [POSITIVE, NEGATIVE, -1, -1, NEGATIVE]
        )
        frames = ArrayFrames(np.zeros((4, H, W, 3), np.uint8))
        toy = lambda image, prompts: np.ones((len(prompts), H, W), np.float32)  # noqa: E731
        (made,) = make_pseudo_masks(frames, [PointedObject("i", "b", points)], toy, PseudoMaskSettings(), "toy")
        first, second, third, fourth = made.segmentations
        assert first is not None and area(first) == H * W
        assert second is not None and area(second) == 0 and third is fourth is None

    def test_point_outside_is_named(self) -> None:
        frames = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))
        item = PointedObject("obj", "b", Points([1], [(W, 3)], [POSITIVE]))
        with pytest.raises(DataError, match=r"obj: annotated_points \(000001\): point \(30, 3\) is outside"):
            make_pseudo_masks(frames, [item], lambda i, p: np.zeros((1, H, W)), PseudoMaskSettings(), "toy")


class TestOfficialTrio:
    def test_lossless(self, tmp_path: Path) -> None:
        made = [make_video("one"), make_video("two words", 5)]
        for read, expected in zip(read_trio(write_trio(made, tmp_path)), made, strict=True):
            assert (read.narratives, read.expressions) == (expected.narratives, expected.expressions)
            assert [(o.object_id, o.source, o.segmentations) for o in read.objects] == [
                (o.object_id, o.source, o.segmentations) for o in expected.objects
            ]
        extra = json.loads((tmp_path / "extra_masks.json").read_text())["annotations"]
        assert {a["id"] for a in extra} == {4850600790259722026, 4850600790259722031}

    def test_uvo_is_padded_with_null(self, tmp_path: Path) -> None:
        rle = encode(box(1, 1, 5, 6)).as_dict()
        info = {"id": 9, "width": W, "height": H, "length": 2, "file_names": ["uvo/0.png", "uvo/4.png"], "ytid": "uvo"}
        annotation = {"id": 1, "video_id": 9, "segmentations": [rle, None]}
        meta = {
            "frames": [str(i) for i in range(6)],
            "actor_narratives": [{"actor_idx": 0, "actor_name": "Ball", "description": CAPTION}],
            "expressions": {
                "0": {"narrative_actor_idx": 0, "noun_phrase_start_idx": 6, "noun_phrase_end_idx": 10, "obj_id": 1}
            },
        }
        files = TrioFiles.of(tmp_path)
        files.meta.write_text(json.dumps({"videos": {"uvo": meta}}))
        files.extra_masks.write_text(json.dumps({"videos": [info], "annotations": []}))
        files.orig_masks.write_text(json.dumps({"videos": [info], "annotations": [annotation, annotation]}))
        problems: list[Problem] = []
        (read,) = read_trio(files, on_problem=problems.append)
        assert [s is not None for s in read.objects[0].segmentations] == [True] + [False] * 5
        assert (read.height, read.width) == (H, W) and "repeats" in problems[0].reason

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("obj_id", 77, "object 77 is in neither mask file"),
            ("noun_phrase_end_idx", 99, r"span \[6, 99\)"),
            ("narrative_actor_idx", 4, "there is no narrative 4: the video has 1"),
        ],
    )
    def test_bad_expressions(self, tmp_path: Path, key: str, value: int, words: str) -> None:
        files = write_trio([make_video("v")], tmp_path)
        raw = json.loads(files.meta.read_text())
        raw["videos"]["v"]["expressions"]["0"][key] = value
        files.meta.write_text(json.dumps(raw))
        with pytest.raises(DataError, match=f"v: expressions.0.{key.replace('_end_', '_start_')}: .*{words}"):
            list(read_trio(files))
        problems: list[Problem] = []
        # left out whole: the numbers of its other expressions, by which predictions are filed, would shift
        assert list(read_trio(files, on_problem=problems.append)) == [] and len(problems) == 1

    def test_mask_of_another_size(self, tmp_path: Path) -> None:
        files = write_trio([make_video("v")], tmp_path)
        raw = json.loads(files.orig_masks.read_text())
        raw["annotations"][0]["segmentations"][1] = encode(box(0, 0, 2, 2, H, W + 1)).as_dict()
        files.orig_masks.write_text(json.dumps(raw))
        with pytest.raises(DataError, match=r"v: objects.1.000001: mask of size \(20, 31\)"):
            list(read_trio(files))


class TestProceduralWorld:
    def test_same_seed_same_bytes(self, tmp_path: Path, world: Path) -> None:
        write_world(tmp_path / "again", 3, 3, "easy", progress=False)
        for name in sorted((tmp_path / "again" / "frames").rglob("*.jpg")):
            assert (
                name.read_bytes() == (world / "frames" / name.relative_to(tmp_path / "again" / "frames")).read_bytes()
            )
        first = (tmp_path / "again" / "vidln.jsonl").read_text().splitlines()
        assert first == (world / "vidln.jsonl").read_text().splitlines()[:3]
        for name in ("points.json", "vng/meta_expressions.json", "truth.json"):
            few, more = (json.loads((folder / name).read_text()) for folder in (tmp_path / "again", world))
            few, more = (d.get("videos", d) for d in (few, more))
            assert len(few) >= 3 and all(more[key] == value for key, value in few.items())

    def test_hard_the_way_vng_is(self) -> None:
        small = replace(PRESETS["hard"], height=96, width=160, frames=12)
        worlds = [make_world(i, 5, small) for i in range(24)]
        said = " ".join(n.description for w in worlds for n in w.record.narratives)
        for words in ("the other", "on the", "moving", "striped", "small"):
            assert words in said, words
        absent = [area(rle) == 0 for w in worlds for o in w.record.objects for rle in o.segmentations if rle]
        assert 0.02 < np.mean(absent) < 0.4
        twins = [len(w.record.objects) > len({o.name for o in w.record.objects}) for w in worlds]
        assert np.mean(twins) > 0.7
        assert 0.65 < np.mean([trace_share_inside(w) for w in worlds]) < 0.9
        labels = [p.label for w in worlds for r in w.points for p in r.points]
        assert {POSITIVE, NEGATIVE, -1} == set(labels)

    def test_convert_point_vos_gives_the_truth_back(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        """The same objects and expressions as the truth, but for what the world's noise made undecidable."""
        world = tmp_path / "w"
        write_world(world, 5, 21, "hard", progress=False)
        ended = cli(
            "convert",
            "point-vos",
            *QUICK,
            "--points",
            world / "points.json",
            "--narratives",
            world / "vidln.jsonl",
            "--frames",
            world / "frames",
            "--out",
            tmp_path / "d",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        truth = json.loads((world / "truth.json").read_text())["videos"]
        reported = {p.record for p in read_problems(tmp_path / "d" / "problems.jsonl")}
        wrong, missing = set(), set()
        for converted in VngDataset(tmp_path / "d"):
            expected = {
                o["point_record"]: {tuple(e) for e in o["expressions"]} for o in truth[converted.video_id]["objects"]
            }
            for item in converted.objects:
                got = {(e.narrative, e.start, e.end) for e in converted.expressions if e.object_id == item.object_id}
                wrong |= got - expected[item.object_id]
                missing |= expected[item.object_id] - got
            absent = set(expected) - {o.object_id for o in converted.objects}
            assert {k for k in absent if expected[k]} <= reported
        assert not wrong
        assert len(missing) <= 2


class TestConvertCommands:
    def args(self, folder: Path, out: Path) -> list[object]:
        return [
            "convert",
            "point-vos",
            "--points",
            folder / "p.json",
            "--narratives",
            folder / "n.jsonl",
            "--frames",
            folder / "frames",
            "--out",
            out,
            "--quiet",
            "--nouns",
            "noun_segments",
        ]

    def make(self, folder: Path, records: list[PointRecord], clip: VidLN | None = None) -> None:
        write_points(records, folder / "p.json")
        vidln_format.write_vidln([clip or video(narrative(nouns=((6, 10),)))], folder / "n.jsonl")
        write_frames(folder / "frames" / "v", np.full((T, H, W, 3), 90, np.uint8))

    def test_goes_on_past_bad_records(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        good = record("good", "ball", (5, 4))
        odd = [
            PointRecord(key="nowhere", object_name="ball", video_name=None, points=good.points),
            PointRecord(key="stranger", object_name="ball", video_name="train/other", points=good.points),
            PointRecord(key="nameless", object_name="cat", video_name="train/v", points=good.points),
        ]
        self.make(tmp_path, [good, *odd])
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 0 and "3 left out" in ended.err
        (converted,) = VngDataset(tmp_path / "d")
        assert [o.object_id for o in converted.objects] == ["good"] and len(converted.frame_names) == 2
        problems = {p.record: p.reason for p in read_problems(tmp_path / "d" / "problems.jsonl")}
        assert set(problems) == {"nowhere", "stranger", "nameless"}
        assert cli(*self.args(tmp_path, tmp_path / "e"), "--strict").status == 1

    def test_bad_points_lose_only_their_object(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        clip = video(narrative((trace(2, 5.5 / W, 4.5 / H), trace(6, 20.5 / W, 14.5 / H))))
        outside = record("out", "ball", (20, 14), outside=(99, 3))
        lost = record("lost", "ball", (5, 4))
        marks = (*lost.points, AnnotatedPoint(1, 1, "000077", 1))
        self.make(
            tmp_path, [outside, PointRecord(key="lost", object_name="ball", video_name="train/v", points=marks)], clip
        )
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 0
        (converted,) = VngDataset(tmp_path / "d")
        assert [o.object_id for o in converted.objects] == ["lost"]
        reasons = " ".join(str(p) for p in read_problems(tmp_path / "d" / "problems.jsonl"))
        assert "point (99, 3) is outside the frame of 30x20 pixels" in reasons and "frame '000077' is not in" in reasons

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            (["--segmenter", "magic"], 2, "unknown segmenter 'magic'; choose one of: classical, dynamite, embedded"),
            (["--propagator", "magic"], 2, "unknown propagator 'magic'"),
            (["--propagator", "sam2"], 2, "propagator 'sam2' has no weights of its own; name a checkpoint"),
            (["--propagator-checkpoint", "x"], 2, "--propagator-checkpoint requires --propagator NAME"),
            (["--held-out", "1.5"], 2, "held-out"),
            (["--points", "none.json"], 1, "none.json: no such file"),
            (["--nouns", "no_pipe"], 2, "no_pipe"),
        ],
    )
    def test_wrong_calls(self, tmp_path: Path, cli: Callable[..., Cli], change: list, status: int, words: str) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        ended = cli(*self.args(tmp_path, tmp_path / "d"), *change)
        assert ended.status == status and words in ended.err and ended.err.count("\n") == 1
        assert not (tmp_path / "d" / "data").exists()

    def test_nothing_left_is_an_error(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [PointRecord(key="a", object_name="ball", video_name="train/../v", points=())])
        ended = cli(*self.args(tmp_path, tmp_path / "d"))
        assert ended.status == 1 and "problems.jsonl: no video could be converted; see the reasons there" in ended.err
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert problem.record == "a" and not (tmp_path / "d" / "data").exists()

    def test_video_name_that_leads_out(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        points = record("a", "ball", (5, 4)).points
        self.make(
            tmp_path,
            [PointRecord(key="a", object_name="ball", video_name="train/../v", points=points)],
            video(narrative(nouns=((6, 10),)), name="../v"),
        )
        write_frames(tmp_path / "v", np.full((T, H, W, 3), 90, np.uint8))
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 1
        assert "leads out of its folder" in read_problems(tmp_path / "d" / "problems.jsonl")[0].reason
        assert not (tmp_path / "d" / "data").exists()

    def test_killed_conversion_goes_on(
        self, tmp_path: Path, world: Path, cli: Callable[..., Cli], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def args(out: str) -> list[object]:
            return [
                "convert",
                "point-vos",
                *QUICK,
                "--points",
                world / "points.json",
                "--narratives",
                world / "vidln.jsonl",
                "--frames",
                world / "frames",
                "--out",
                tmp_path / out,
                "--quiet",
            ]

        import conversion.narrated as videos

        calls = []
        original = videos.make_pseudo_masks

        def dies(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(videos, "make_pseudo_masks", dies)
        assert cli(*args("broken")).status == 130 and not (tmp_path / "broken" / "data").exists()
        assert cli(*args("broken")).status == 0 and len(calls) == 6
        assert cli(*args("whole")).status == 0
        hashes = [
            {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in sorted((tmp_path / out).rglob("*"))
                if p.is_file()
            }
            for out in ("broken", "whole")
        ]
        assert hashes[0] == hashes[1] and len(hashes[0]) >= 3

    def test_convert_vidln_keeps_or_reports_every_noun(
        self, tmp_path: Path, world: Path, cli: Callable[..., Cli]
    ) -> None:
        ended = cli(
            "convert",
            "vidln",
            *QUICK,
            "--narratives",
            world / "vidln.jsonl",
            "--frames",
            world / "frames",
            "--out",
            tmp_path / "d",
            "--quiet",
            "--nouns",
            "noun_segments",
        )
        assert ended.status == 0, ended.err
        read = {v.video_id: v for v in vidln_format.read_vidln(world / "vidln.jsonl")}
        problems = read_problems(tmp_path / "d" / "problems.jsonl")
        for converted in VngDataset(tmp_path / "d"):
            source = read[converted.video_id]
            assert [n.description for n in converted.narratives] == [n.caption for n in source.narratives]
            for index, item in enumerate(source.narratives):
                for start, end in item.noun_segments:
                    kept = [e for e in converted.expressions if (e.narrative, e.start, e.end) == (index, start, end)]
                    told = [
                        p
                        for p in problems
                        if f"[{index}].noun [{start}, {end})" in p.field and converted.video_id in p.record
                    ]
                    assert len(kept) + len(told) == 1
                    count = sum(len(part) for part in trace_segment(item, start, end))
                    if kept:
                        assert len(converted.object_by_id[kept[0].object_id].points) == count

    def test_sigkill_and_again_gives_the_same_bytes(self, tmp_path: Path, world: Path) -> None:
        def start(out: str) -> subprocess.Popen:
            words = [
                "convert",
                "point-vos",
                *QUICK,
                "--points",
                world / "points.json",
                "--narratives",
                world / "vidln.jsonl",
                "--frames",
                world / "frames",
                "--out",
                tmp_path / out,
                "--quiet",
            ]
            return subprocess.Popen([sys.executable, "-m", "vng.cli", *map(str, words)], stdout=subprocess.DEVNULL)

        process = start("broken")
        deadline = time.monotonic() + 60
        while not list((tmp_path / "broken" / ".partial").glob("0000000[1-9].parquet")) and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert not (tmp_path / "broken" / "data").exists()
        assert start("broken").wait() == 0 and start("whole").wait() == 0
        files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file())
        assert len(files) >= 3
        assert files == sorted(
            p.relative_to(tmp_path / "broken") for p in (tmp_path / "broken").rglob("*") if p.is_file()
        )
        for file in files:
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file

    def test_mended_frames_are_tried_again(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        (tmp_path / "frames" / "v").rename(tmp_path / "elsewhere")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 1
        (tmp_path / "elsewhere").rename(tmp_path / "frames" / "v")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        assert VngDataset(tmp_path / "d").video_ids == ["v"] and not (tmp_path / "d" / "problems.jsonl").exists()

    def test_a_missing_frame_is_never_another_one(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        (tmp_path / "frames" / "v" / "000001.png").rename(tmp_path / "frames" / "v" / "000007.png")
        (tmp_path / "frames" / "v" / "000002.png").rename(tmp_path / "frames" / "v" / "000009.png")
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        assert VngDataset(tmp_path / "d")[0].frame_names == ("000000",)
        assert "frame '000002' is not in" in read_problems(tmp_path / "d" / "problems.jsonl")[0].reason

    def test_doubled_records_and_lines(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [])
        line = json.dumps({"a": as_json(record("a", "ball", (5, 4)))})
        (tmp_path / "p.json").write_text(f"{line}\n{line}\n")
        narratives = (tmp_path / "n.jsonl").read_text()
        (tmp_path / "n.jsonl").write_text(narratives * 2)
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        reasons = [p.reason for p in read_problems(tmp_path / "d" / "problems.jsonl")]
        assert len(reasons) == 2 and "this video repeats" in reasons[0] and "this key repeats" in reasons[1]
        assert len(VngDataset(tmp_path / "d")[0].objects) == 1

    def test_odd_line_separators_in_names(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        odd = "b\u2028all\x85"
        self.make(tmp_path, [record("good", "ball", (5, 4)), record("odd", odd, (5, 4))])
        assert cli(*self.args(tmp_path, tmp_path / "d")).status == 0
        (problem,) = read_problems(tmp_path / "d" / "problems.jsonl")
        assert odd.split("\u2028")[0] in problem.reason

    def test_frames_named_otherwise(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [])
        for path in sorted((tmp_path / "frames" / "v").iterdir()):
            path.rename(path.with_name("shot_" + path.name))
        ended = cli(
            "convert",
            "vidln",
            "--narratives",
            tmp_path / "n.jsonl",
            "--frames",
            tmp_path / "frames",
            "--out",
            tmp_path / "d",
            "--quiet",
        )
        assert ended.status == 1
        assert "none of its key frames" in read_problems(tmp_path / "d" / "problems.jsonl")[-1].reason

    def test_real_narratives(self, tmp_path: Path, shared: Path, cli: Callable[..., Cli]) -> None:
        """Every noun of the three OVIS narratives is in the dataset; their frames are found by name."""
        root = shared / "vidln"
        ended = cli(
            "convert",
            "vidln",
            "--narratives",
            root / "vidlns" / "OVIS_train_sample.jsonl",
            "--frames",
            root / "frames" / "OVIS_train",
            "--out",
            tmp_path / "d",
            "--quiet",
            "--json",
        )
        assert ended.status == 0, ended.err
        totals = json.loads(ended.out)
        assert (totals["videos"], totals["narratives"], totals["expressions"]) == (3, 7, 36)

    def test_propagator_fills_every_frame(self, tmp_path: Path, cli: Callable[..., Cli]) -> None:
        self.make(tmp_path, [record("good", "ball", (5, 4))])
        assert cli(*self.args(tmp_path, tmp_path / "d"), "--propagator", "flow").status == 0
        (converted,) = VngDataset(tmp_path / "d")
        assert len(converted.frame_names) == T and all(s is not None for s in converted.objects[0].segmentations)

    def test_export_and_back(self, tmp_path: Path, dataset: Path, cli: Callable[..., Cli]) -> None:
        assert cli("export", dataset, "--format", "official", "--out", tmp_path / "trio").status == 0
        files = TrioFiles.of(tmp_path / "trio")
        ended = cli(
            "convert",
            "vng",
            "--meta",
            files.meta,
            "--extra-masks",
            files.extra_masks,
            "--orig-masks",
            files.orig_masks,
            "--out",
            tmp_path / "back",
            "--quiet",
        )
        assert ended.status == 0, ended.err
        for first, second in zip(VngDataset(dataset), VngDataset(tmp_path / "back"), strict=True):
            assert first.expressions == second.expressions and first.narratives == second.narratives
            assert [o.segmentations for o in first.objects] == [o.segmentations for o in second.objects]
