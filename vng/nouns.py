"""Nouns of a text, found by a spaCy pipeline; spaCy is imported when it is asked."""

from __future__ import annotations

from typing import Any

from vng.errors import UsageError
from vng.narratives import parse_marked

DEFAULT_PIPELINE = "en_core_web_sm"
MARK = "put brackets round the nouns to ground, as in 'A [man] throws a [ball]'"


def load_pipeline(name: str = DEFAULT_PIPELINE) -> Any:
    """A spaCy pipeline by name or path; raises OSError for one that is not there."""
    import spacy

    return spacy.load(name)


def spacy_nouns(document: Any) -> list[tuple[int, int]]:
    """Noun spans of a parsed caption; neighbouring nouns form one span ("clown costume"), as VidLN marks them."""
    spans: list[tuple[int, int]] = []
    previous_end = -1
    for token in document:
        if token.pos_ not in ("NOUN", "PROPN"):
            continue
        start, end = token.idx, token.idx + len(token.text)
        if spans and previous_end == token.i - 1 and document.text[spans[-1][1] : start] == " ":
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        previous_end = token.i
    return spans


def nouns_in(narrative: str, pipeline: str = DEFAULT_PIPELINE) -> tuple[str, list[tuple[int, int]]]:
    """The description and the noun spans of a narrative to be grounded: the [bracketed] ones, else all that spaCy finds.

    Raises:
        UsageError: brackets that do not pair; none at all, and no pipeline of this name, or one that finds no noun.
    """
    description, spans = parse_marked(narrative)
    if spans:
        return description, spans
    try:
        spans = spacy_nouns(load_pipeline(pipeline)(description))
    except OSError as error:
        cure = f"{MARK}, or install the spaCy pipeline that finds them: python -m spacy download {pipeline}"
        raise UsageError(f"no noun is marked: {cure}") from error
    if not spans:
        raise UsageError(f"no noun is marked, and spaCy's {pipeline} finds none in {description[:60]!r}: {MARK}")
    return description, spans
