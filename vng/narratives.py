"""Narratives, noun spans and the `[noun]` mark-up.

A noun span is [start, end) in the *raw* description: whitespace is never collapsed, so offsets stay valid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from vng.errors import UsageError

_MARKED = re.compile(r"\\(?P<literal>[\[\]\\])|(?P<open>\[)|(?P<close>\])")
_LINKED = re.compile(r"\\(?P<literal>[\[\]\\()])|(?P<open>\[)|(?P<close>\](?:\((?:\\.|[^()\\])*\))*)", re.DOTALL)
_GROUP = re.compile(r"\((?:\\.|[^()\\])*\)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_BRACKETS, _PARENTHESES = re.compile(r"[\[\]\\]"), re.compile(r"[()\\]")
_ESCAPE = r"\\\g<0>"


@dataclass(frozen=True)
class Narrative:
    """One actor's description of a video."""

    actor_name: str
    description: str


@dataclass(frozen=True)
class Expression:
    """A noun span of a narrative together with the object it means."""

    narrative: int  # index into the video's narratives
    start: int  # first character of the noun in the description
    end: int  # one past its last character
    object_id: str = ""  # "" if unknown (a user's own narrative)

    def noun(self, description: str) -> str:
        """The words of the span."""
        return description[self.start : self.end]


def check_span(description: str, start: int, end: int) -> None:
    """Raise ValueError unless [start, end) is a non-empty span inside the description."""
    if not 0 <= start < end <= len(description):
        raise ValueError(f"span [{start}, {end}) is not inside the caption of {len(description)} characters")


def parse_marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Split "A [parrot] plays" into the description and the spans of its marked nouns.

    A literal bracket is written `\\[` or `\\]`. Raises UsageError for unpaired or empty brackets.
    """
    description, nouns = _parse(text, _MARKED)
    return description, [(start, end) for start, end, _ in nouns]


def parse_linked(text: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Split "A [parrot](a) plays" into the description and (start, end, object id) of its marked nouns.

    Without an id the noun is its own id, and may be marked once. Several ids, "[parrots](a)(b)", mean several objects.
    A literal "(" after a noun is written `\\(`; brackets are escaped as in `parse_marked`, in ids as well.
    Raises UsageError as `parse_marked`, for an empty id, and for a noun without an id that is marked twice.
    """
    description, nouns = _parse(text, _LINKED)
    linked: list[tuple[int, int, str]] = []
    for start, end, groups in nouns:
        ids = [_ESCAPED.sub(r"\1", group[1:-1]).strip() for group in _GROUP.findall(groups)]
        noun = description[start:end]
        if "" in ids:
            raise UsageError(f"narrative: the noun {noun!r} has an empty id; write [{noun}](a)")
        if not ids and any(own == noun for _, _, own in linked):
            raise UsageError(f"narrative: {noun!r} is marked twice without an id; write [{noun}](a) and [{noun}](b)")
        linked += [(start, end, own) for own in ids or [noun]]
    return description, linked


def _parse(text: str, marks: re.Pattern[str]) -> tuple[str, list[tuple[int, int, str]]]:
    """The description of a marked text, and (start, end, what follows the closing bracket) of its nouns."""
    plain: list[str] = []
    nouns: list[tuple[int, int, str]] = []
    opened: int | None = None
    length, last = 0, 0
    for match in marks.finditer(text):
        piece = text[last : match.start()] + (match["literal"] or "")
        plain.append(piece)
        length += len(piece)
        last = match.end()
        if match["open"]:
            if opened is not None:
                raise UsageError(f"narrative: '[' at character {match.start()} inside another '['; close it with ']'")
            opened = length
        elif match["close"]:
            if opened is None:
                raise UsageError(
                    f"narrative: ']' at character {match.start()} without '['; write \\] for a literal one"
                )
            if opened == length:
                raise UsageError(f"narrative: empty brackets at character {match.start()}; put the noun inside")
            nouns.append((opened, length, match["close"][1:]))
            opened = None
    if opened is not None:
        raise UsageError("narrative: a '[' is never closed; write \\[ for a literal one")
    plain.append(text[last:])
    return "".join(plain), nouns


def link(description: str, nouns: Sequence[tuple[int, int, str]]) -> str:
    """The inverse of `parse_linked`: "[noun](id)" for each (start, end, object id).

    Raises ValueError for spans that overlap, which the mark-up cannot express.
    """
    pieces, last = [], 0
    for (start, end), group in groupby(sorted(nouns, key=lambda noun: noun[:2]), key=lambda noun: noun[:2]):
        if start < last:
            raise ValueError(f"the spans of {description[start:end]!r} and of a noun before it overlap")
        ids = "".join(f"({_PARENTHESES.sub(_ESCAPE, own)})" for _, _, own in group)
        noun = _BRACKETS.sub(_ESCAPE, description[start:end])
        pieces += [_after_noun(description[last:start], last), f"[{noun}]{ids}"]
        last = end
    return "".join(pieces) + _after_noun(description[last:], last)


def _after_noun(text: str, last: int) -> str:
    """A stretch of a description in mark-up; a parenthesis right after a noun would be read as an id."""
    escaped = _BRACKETS.sub(_ESCAPE, text)
    return "\\" + escaped if last and escaped.startswith("(") else escaped


def mark(description: str, spans: list[tuple[int, int]]) -> str:
    """The inverse of `parse_marked`: brackets around each span, literal brackets escaped."""
    text = []
    starts, ends = {s for s, _ in spans}, {e for _, e in spans}
    for index, character in enumerate(description + "\0"):
        text.append("]" if index in ends else "")
        text.append("[" if index in starts else "")
        if character != "\0":
            text.append("\\" + character if character in "[]\\" else character)
    return "".join(text)


_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_OTHER_SIDE = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}


def mirror(description: str, spans: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """The narrative of the mirrored video: "left" and "right" swapped, spans moved with their words."""
    pieces: list[str] = []
    moves: list[tuple[int, int]] = []  # (position in the old text, shift from there on)
    last, shift = 0, 0
    for match in _SIDES.finditer(description):
        word = match.group()
        other = _OTHER_SIDE.get(word, _OTHER_SIDE[word.lower()])
        pieces += [description[last : match.start()], other]
        shift += len(other) - len(word)
        moves.append((match.end(), shift))
        last = match.end()
    pieces.append(description[last:])

    def moved(position: int) -> int:
        return position + next((s for place, s in reversed(moves) if position >= place), 0)

    return "".join(pieces), [(moved(start), moved(end)) for start, end in spans]


DEFAULT_PIPELINE = "en_core_web_sm"


MARK = "put brackets around the nouns to ground, as in 'A [man] throws a [ball]'"


# Components of published pipelines -> the packages that have them.
_COMPONENTS = {"curated_transformer": "spacy-curated-transformers", "transformer": "spacy-transformers"}


def load_pipeline(name: str = DEFAULT_PIPELINE) -> Any:
    """A spaCy pipeline by name or path.

    Raises:
        OSError: there is none. UsageError: it cannot be loaded here; the message has spaCy's reason and the cure.
    """
    import spacy

    try:
        return spacy.load(name)
    except OSError as error:
        if "[E050]" in str(error):  # no pipeline of this name
            raise
        raise UsageError(f"spaCy pipeline {name!r} is damaged ({_reason(error)}); install it again") from error
    except Exception as error:  # a missing component, an unknown language, a damaged file: spaCy raises many kinds
        missing = next((component for component in _COMPONENTS if f"'{component}'" in str(error)), None)
        cure = f"pip install {_COMPONENTS[missing]}" if missing else "install what it needs, or another pipeline"
        raise UsageError(f"spaCy pipeline {name!r} cannot be loaded ({_reason(error)}); {cure}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def spacy_nouns(document: Any) -> list[tuple[int, int]]:
    """Noun spans of a parsed caption; adjacent nouns form one span ("clown costume"), as in VidLN."""
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
    """The description and noun spans of a narrative: the [bracketed] nouns, else all that spaCy finds.

    Raises:
        UsageError: unpaired brackets; or no brackets, and no such pipeline, or one that finds no noun.
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
