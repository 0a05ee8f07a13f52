"""Words of a narrative, and the small lists by which phrases are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Everything but spaces and marks is a letter, so that combining marks and any script stay whole. "t-shirt" is one word;
# "'s" is a word of its own.
_LETTER = r"[^\s!-/:-@\[-`{-~‘’“”«»…،。，、！？；：]"
_WORD = re.compile(rf"['’]s\b|{_LETTER}+(?:-{_LETTER}+|['’](?!s\b){_LETTER}+)*|\S")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


INDEFINITE = _words("a an some any one two three four five six many few several")
PRONOUNS = _words("my your his her its our their")
DETERMINERS = INDEFINITE | PRONOUNS | _words("the this that these those another each every both all no")
POSSESSIVE = _words("'s ’s")
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
TELLING_APART = frozenset(ORDINALS) | _words("other same different next")  # not what a thing looks like
BE = _words("is are was were be been being has have had am")
MARKS = _words("then while but as when because who which that there he she it they")
FUNCTION = BE | MARKS | DETERMINERS
FUNCTION |= _words(
    "and or nor to at on in into onto of off with without by for from over under up down out through across along around "
    "near behind beside between towards toward against about above below next him them not also very so if where after "
    "before until do does did can will would you we i"
)
COLOURS = _words(
    "black white grey gray red green blue yellow brown orange pink purple violet golden silver beige dark light bright "
    "pale colourful colorful striped spotted multicoloured multicolored"
)
MATERIALS = _words("wooden wood brick stone metal metallic glass plastic concrete leather woollen paper")
LOOKS = _words(
    "big small large little tall short long thin thick fat old young new dry wet dirty clean round square empty full open "
    "broken left right upper lower front back male female hairy furry fluffy shiny huge tiny"
)
KNOWN = COLOURS | MATERIALS | LOOKS
GROUPS = _words("group groups pair pairs couple crowd bunch herd flock pack team set row line pile lot number")
AT = _words("on at in")
SIDES = _words("left right top bottom middle center centre front back background foreground")
STATES = _words("surrounded covered made filled dressed painted decorated wrapped lined")  # with, by, of, in
PLACING = _words("put puts putting place places placing throw throws throwing drop drops dropping")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word or mark of a narrative."""

    start: int
    end: int
    key: str  # in lower case

    @property
    def is_mark(self) -> bool:
        """Whether it has no letter and no digit."""
        return not any(character.isalnum() for character in self.key)

    @property
    def is_plain(self) -> bool:
        """Whether it may be a noun, an adjective or a verb."""
        return not self.is_mark and self.key not in FUNCTION and self.key not in POSSESSIVE

    @property
    def is_adjective(self) -> bool:
        """Whether it is surely an adjective: a listed one, or a compound of one ("grey-red", "white-painted")."""
        if self.key in KNOWN or self.key in TELLING_APART:
            return True
        parts = self.key.split("-")
        return len(parts) > 1 and (parts[0] in KNOWN or parts[-1] in KNOWN or parts[-1].endswith("ed"))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where a noun's phrase lies, in numbers of words; what the rules and the parse have in common."""

    span: tuple[int, int]  # of the marked noun, in characters
    left: int  # first word of the noun phrase, its determiner included
    first: int  # first word of the phrase
    head: int  # the noun itself
    end: int  # one past the last word of the phrase


def words_of(description: str, spans: Sequence[tuple[int, int]]) -> tuple[Word, ...]:
    """The words of a description, cut where a marked noun begins or ends inside one, but for hyphens."""
    edges = sorted({edge for span in spans for edge in span})
    words = []
    for match in _WORD.finditer(description):
        start, end = match.span()
        inside = [e for e in edges if start < e < end and "-" not in description[e - 1 : e + 1]]
        cuts = [start, *inside, end]
        words += [Word(start=a, end=b, key=description[a:b].lower()) for a, b in pairwise(cuts)]
    for start, end in dict.fromkeys(spans):
        if not any(word.start < end and start < word.end for word in words):  # a span of spaces
            words.append(Word(start=start, end=end, key=""))
    return tuple(sorted(words, key=lambda word: word.start))


def words_in(words: Sequence[Word], span: tuple[int, int]) -> range:
    """The numbers of the words that a span touches."""
    touched = [index for index, word in enumerate(words) if word.start < span[1] and span[0] < word.end]
    return range(touched[0], touched[-1] + 1)


def without_telling_apart(words: Sequence[Word], first: int, head: int) -> int:
    """The first word of a phrase, after words that do not say what the thing looks like."""
    while first < head and (words[first].key in TELLING_APART or not words[first].is_plain):
        first += 1
    return first
