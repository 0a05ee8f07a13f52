"""Narratives and their expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from vng import narratives
from vng.errors import UsageError


class TestNarratives:
    def test_marked_nouns(self) -> None:
        text, spans = narratives.parse_marked("A green [parrot]  plays with \\[the\\] other [parrot].")
        assert text == "A green parrot  plays with [the] other parrot."
        assert [text[a:b] for a, b in spans] == ["parrot", "parrot"]
        assert narratives.parse_marked(narratives.mark(text, spans)) == (text, spans)

    @pytest.mark.parametrize("text", ["A [man", "A man]", "A [] man", "A [[man]]"])
    def test_bad_brackets(self, text: str) -> None:
        with pytest.raises(UsageError, match="narrative"):
            narratives.parse_marked(text)

    def test_nouns_with_ids(self) -> None:
        text, nouns = narratives.parse_linked(
            "A [green (parrot\\]](a) plays with [the other](b\\)) \\[x\\] \\(y), [men](1)(2)."
        )
        assert text == "A green (parrot] plays with the other [x] (y), men."
        assert [(text[a:b], i) for a, b, i in nouns] == [
            ("green (parrot]", "a"),
            ("the other", "b)"),
            ("men", "1"),
            ("men", "2"),
        ]
        assert narratives.parse_linked(narratives.link(text, nouns)) == (text, nouns)
        assert narratives.parse_linked("A [man] and a [dog].")[1] == [(2, 5, "man"), (12, 15, "dog")]
        assert narratives.parse_linked("") == ("", []) and narratives.link("a [b]", []) == "a \\[b\\]"
        assert narratives.parse_linked("A [man]\\(left).") == ("A man(left).", [(2, 5, "man")])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("A [man]() runs", "'man' has an empty id; write \\[man\\]\\(a\\)"),
            ("A [man] and a [man]", "'man' is marked twice without an id; write \\[man\\]\\(a\\)"),
            ("A [[man]](a)", "inside another"),
        ],
    )
    def test_bad_links(self, text: str, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            narratives.parse_linked(text)

    def test_overlapping_spans_have_no_mark_up(self) -> None:
        with pytest.raises(ValueError, match="the spans of 'man' and of a noun before it overlap"):
            narratives.link("A green man.", [(2, 11, "a"), (8, 11, "b")])

    def test_a_parenthesis_after_a_noun_is_no_id(self) -> None:
        text, nouns = "A man(left) and (right).", [(2, 5, "a")]
        assert narratives.link(text, nouns) == "A [man](a)\\(left) and (right)."
        assert narratives.parse_linked(narratives.link(text, nouns)) == (text, nouns)
        assert narratives.parse_linked("A [man]( runs") == ("A man( runs", [(2, 5, "man")])

    def test_mirror_moves_spans(self) -> None:
        text = "Left ball moves left past the right box."
        spans = [(5, 9), (36, 39)]
        other, moved = narratives.mirror(text, spans)
        assert other == "Right ball moves right past the left box."
        assert [other[a:b] for a, b in moved] == ["ball", "box"]
        assert narratives.mirror(other, moved) == (text, spans)


class TestPipelines:
    """spaCy pipelines that cannot be loaded are errors with the cure."""

    def test_a_component_that_is_not_installed(self, tmp_path: Path) -> None:
        import spacy

        spacy.blank("en").to_disk(tmp_path / "p")
        config = (tmp_path / "p" / "config.cfg").read_text()
        config = config.replace("pipeline = []", 'pipeline = ["transformer"]')
        config += '\n[components.transformer]\nfactory = "curated_transformer"\n'
        (tmp_path / "p" / "config.cfg").write_text(config)
        with pytest.raises(UsageError, match=r"cannot be loaded .*curated_transformer.*pip install spacy-curated-tran"):
            narratives.nouns_in("A parrot.", str(tmp_path / "p"))

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        import spacy

        spacy.blank("en").to_disk(tmp_path / "p")
        (tmp_path / "p" / "config.cfg").write_text("[nlp]\nlang = nowhere\n")
        with pytest.raises(UsageError, match=r"spaCy pipeline .*p' (cannot be loaded|is damaged)"):
            narratives.nouns_in("A parrot.", str(tmp_path / "p"))

    def test_none_of_the_name(self) -> None:
        with pytest.raises(UsageError, match="no noun is marked: put brackets"):
            narratives.nouns_in("A parrot.", "en_of_nowhere")
