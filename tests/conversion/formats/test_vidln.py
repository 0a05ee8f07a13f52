"""Video Localized Narratives: reading, and their faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conversion.formats import vidln as vidln_format
from conversion.formats.vidln import (
    TracePoint,
    best_keyframe,
    by_keyframe,
    trace_segment,
)
from tests.conversion.narrated_video import narrative, trace, video
from vng.errors import DataError, Problem


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


class TestOffsets:
    """Spans count characters; tools in a browser count UTF-16 units."""

    CAPTION = "A \U0001f389 red square meets \U0001f389 a cat."

    def raw(self, spans: list[list[int]], caption: str = CAPTION) -> dict:
        raw = vidln_format.as_json(video(narrative((trace(2, 0.1, 0.2),))))
        raw["actor_narratives"][0] |= {"caption": caption, "noun_segments": spans, "time_alignment": []}
        return raw

    def nouns(self, tmp_path: Path, raw: dict) -> tuple[list[str], list[Problem]]:
        problems: list[Problem] = []
        (tmp_path / "n.jsonl").write_text(json.dumps(raw) + "\n")
        (read,) = vidln_format.read_vidln(tmp_path / "n.jsonl", problems.append)
        caption = read.narratives[0].caption
        return [caption[start:end] for start, end in read.narratives[0].noun_segments], problems

    def test_units_are_moved_to_characters(self, tmp_path: Path) -> None:
        start = self.CAPTION.index("square")
        cat = self.CAPTION.index("cat")
        nouns, problems = self.nouns(tmp_path, self.raw([[start + 1, start + 7], [cat + 2, cat + 5]]))
        assert nouns == ["square", "cat"] and [p.kind for p in problems] == ["note"]
        assert "count UTF-16 units" in problems[0].reason

    def test_characters_stay(self, tmp_path: Path) -> None:
        start = self.CAPTION.index("square")
        assert self.nouns(tmp_path, self.raw([[start, start + 6]])) == (["square"], [])

    def test_a_span_that_cuts_a_word_is_said(self, tmp_path: Path) -> None:
        nouns, problems = self.nouns(tmp_path, self.raw([[3, 6]], "A red square."))
        assert nouns == ["ed "] and "noun spans cut a word: 'ed '" in problems[0].reason

    def test_words_are_moved_by_their_text(self, tmp_path: Path) -> None:
        raw = self.raw([])
        start = self.CAPTION.index("square")
        word = {"referenced_word": "square", "start_ms": 0, "end_ms": 9}
        raw["actor_narratives"][0]["time_alignment"] = [
            {**word, "referenced_word_start_idx": start + moved, "referenced_word_end_idx": start + 6 + moved}
            for moved in (0, 1)
        ]
        (tmp_path / "n.jsonl").write_text(json.dumps(raw) + "\n")
        (read,) = vidln_format.read_vidln(tmp_path / "n.jsonl")
        assert [(w.start, w.end) for w in read.narratives[0].time_alignment] == [(start, start + 6)] * 2
