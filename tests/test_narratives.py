"""Narratives and their expressions."""

from __future__ import annotations

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
