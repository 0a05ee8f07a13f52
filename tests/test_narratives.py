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
