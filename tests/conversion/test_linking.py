"""Linking point records to the nouns of narratives."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.formats.point_vos import PointRecord
from conversion.formats.vidln import (
    VidLN,
)
from conversion.linking import link_records, noun_source
from tests.conversion.narrated_video import narrative, record, trace, video
from tests.helpers import H, T, W
from vng.errors import Problem, UsageError
from vng.narratives import spacy_nouns


class TestLinking:
    source = noun_source("noun_segments")

    def link(self, records: list[PointRecord], clip: VidLN, **options: object) -> tuple[dict, list[Problem]]:
        links, problems = link_records(clip, records, self.source, (H, W), T, **options)  # type: ignore[arg-type]
        return {(records[x.record].key, x.noun.start): x.how for x in links}, list(problems.values())

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
