"""ViCaS's captions: "A [man in red]<mask_1> throws [two balls]<mask_2,3>" -> text, phrases, and their head nouns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vng.errors import UsageError
from vng.narratives import load_pipeline

PHRASE, HEAD = "phrase", "head"  # what a span is; any other value is a spaCy pipeline
MOST_DIGITS = 9  # of a track id
_MARKED = re.compile(r"\[(?P<phrase>[^\[\]<>]*)\]<mask_?(?P<ids>[\d,，?？ ]*)>")
_MARKS = re.compile(r"[\[\]<>]")
_ID = re.compile(r"\d+|[?？]")
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_SHORTEST_PARTICIPLE = len("seated")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What follows a head noun: prepositions and relatives.
_STOPS = _words(
    """
    about above across after against along among amongst around as at atop before behind below beneath beside besides
    between beyond by down during for from in inside into near next of off on onto opposite outside over past through
    to toward towards under underneath up upon while who whom whose which that where with within without
    """
)
# What stands before a noun, and is none.
_DETERMINERS = _words(
    """
    a an the this these those his her hers its their my your our one two three four five six seven eight nine ten
    several many some other another each every both all
    """
)
# Participles with or without a determiner after them: "man wearing sunglasses", "dog being walked".
_HOLDING = frozenset({"wearing", "holding", "carrying", "dressed", "being"})
# Nouns and pronouns that end as participles do.
_NO_PARTICIPLES = _words(
    """
    anything awning bedding building ceiling clothing crossing earring everything lightning nothing offspring painting
    railing sibling something spring string stocking toddling wedding hundred infrared
    """
)

# The span of the head noun of a phrase [start, end) of a text.
HeadFinder = Callable[[str, int, int], tuple[int, int]]


@dataclass(frozen=True)
class Phrase:
    """A marked phrase: [start, end) of the text without marks, the tracks it means in order, whether also a crowd."""

    start: int
    end: int
    track_ids: tuple[int, ...]
    crowd: bool = False


@dataclass(frozen=True)
class Caption:
    """A caption without marks, and its phrases."""

    text: str
    phrases: tuple[Phrase, ...]


def parse_caption(marked: str) -> Caption:
    """Split a caption into text and phrases.

    Ids are whole numbers: "<mask_12>" is track 12 (the publisher's own parser reads 1 and 2). The text keeps every
    character outside the marks, full-width ones and spaces too.

    Raises:
        ValueError: a mark that is not paired, a phrase without words or without ids; the message names the character.
    """
    pieces: list[str] = []
    phrases: list[Phrase] = []
    length = last = 0
    for match in _MARKED.finditer(marked):
        pieces.append(_plain(marked, last, match.start()))
        start = length + match.start() - last
        length, last = start + len(match["phrase"]), match.end()
        pieces.append(match["phrase"])
        phrases.append(_phrase(match, start))
    pieces.append(_plain(marked, last, len(marked)))
    return Caption("".join(pieces), tuple(phrases))


def _plain(marked: str, start: int, end: int) -> str:
    if mark := _MARKS.search(marked, start, end):
        reason = f"character {mark.start()} ({mark.group()!r}) is no part of a mark such as [man]<mask_1>"
        raise ValueError(f"{reason}: {marked[max(0, mark.start() - 10) : mark.start() + 20]!r}")
    return marked[start:end]


def _phrase(match: re.Match[str], start: int) -> Phrase:
    words, ids = match["phrase"], _ID.findall(match["ids"])
    if not words.strip():
        raise ValueError(f"the brackets at character {match.start()} are empty")
    if not ids:
        raise ValueError(f"the phrase {words[:40]!r} at character {match.start()} has no track id")
    numbers = [one for one in ids if one not in "?？"]
    if any(len(number) > MOST_DIGITS for number in numbers):
        raise ValueError(f"the phrase {words[:40]!r} at character {match.start()} has an id of too many digits")
    return Phrase(start, start + len(words), tuple(dict.fromkeys(map(int, numbers))), len(numbers) < len(ids))


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span [start, end) without the spaces at its ends."""
    words = text[start:end]
    return start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())


def head_finder(spans: str) -> HeadFinder:
    """The finder of `spans`: PHRASE, HEAD, or the name or path of a spaCy pipeline with a parser.

    Raises:
        UsageError: no such pipeline, or one without a parser.
    """
    if spans in (PHRASE, HEAD):
        return trimmed if spans == PHRASE else rule_head
    try:
        pipeline = load_pipeline(spans)
    except OSError as error:
        cure = f"python -m spacy download {spans}, give a path, or use --spans {HEAD}"
        raise UsageError(f"spaCy pipeline {spans!r} is not installed; {cure}") from error
    if not pipeline("A man in red runs.").has_annotation("DEP"):
        raise UsageError(f"spaCy pipeline {spans!r} has no parser; name another, or use --spans {HEAD}")

    def root(text: str, start: int, end: int) -> tuple[int, int]:
        token = pipeline(text).char_span(*trimmed(text, start, end), alignment_mode="expand").root
        first, last = max(token.idx, start), min(token.idx + len(token.text), end)
        return (first, last) if first < last else trimmed(text, start, end)

    return root


def rule_head(text: str, start: int, end: int) -> tuple[int, int]:
    """The head noun of an English phrase by a rule: the last word before a preposition, a relative or a participle.

    "man in red" -> "man", "young boy wearing a hat" -> "boy", "group of people" -> "group". A phrase in which no word
    is left ("in red") is its own head.
    """
    words = list(_WORD.finditer(text, *trimmed(text, start, end)))
    names = [word.group().lower() for word in words]
    last = _before_modifiers(names)
    return words[last].span() if last >= 0 else trimmed(text, start, end)


def _before_modifiers(names: Sequence[str]) -> int:
    """The index of the last word before what follows the head; -1 where there is no word."""
    stop = len(names)
    for index, name in enumerate(names):
        follower = names[index + 1] if index + 1 < len(names) else ""
        takes = name in _HOLDING or (_is_participle(name) and (follower in _DETERMINERS or not follower))
        if name in _STOPS or (takes and _has_noun(names[:index])):
            stop = index
            break
    while _is_participle(names[stop - 1] if stop else "") and _has_noun(names[: stop - 1]):
        stop -= 1
    return stop - 1


def _is_participle(name: str) -> bool:
    long = len(name) >= _SHORTEST_PARTICIPLE and name not in _NO_PARTICIPLES
    return long and name.endswith(("ing", "ed"))


def _has_noun(names: Sequence[str]) -> bool:
    return any(name not in _DETERMINERS for name in names)
