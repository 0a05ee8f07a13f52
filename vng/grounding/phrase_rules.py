"""Phrases of nouns without a parser: the noun and its neighbours, by a few rules of English.

To the left a phrase takes adjectives, participles and possessors as far as the determiner. To the right it takes
"with ...", "of ...", "wearing ...", "surrounded by ..." and a few more, each up to the end of the next noun's phrase.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vng.grounding.phrase_words import (
    BE,
    COLOURS,
    DETERMINERS,
    KNOWN,
    MATERIALS,
    PLACING,
    POSSESSIVE,
    STATES,
    TELLING_APART,
    Reading,
    Word,
    without_telling_apart,
    words_in,
)

_LONGEST = 4  # words of a noun phrase that holds no marked noun


def read_by_rules(words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[Reading]:
    """The reading of each noun."""
    heads = heads_of(words, spans)
    lefts = [_left(words, min(words_in(words, span)[0], head), head) for span, head in zip(spans, heads, strict=True)]
    ends: dict[int, int] = {}  # head -> end of its phrase; the last noun first, since phrases hold later nouns
    left_of = {head: left for head, (left, _) in zip(heads, lefts, strict=True)}
    for head in sorted(left_of, reverse=True):
        ends[head] = _right(words, head, left_of, ends)
    return [
        Reading(
            span=span,
            left=left,
            first=without_telling_apart(words, first, head),
            head=head,
            end=ends[head],
        )
        for span, head, (left, first) in zip(spans, heads, lefts, strict=True)
    ]


def heads_of(words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[int]:
    """The word that names the thing, for each marked noun."""
    last_words = {max(words_in(words, span)) for span in spans}
    heads = [_head(words, span, last_words) for span in spans]
    whole = {index: max(inside) for inside in (words_in(words, span) for span in spans) for index in inside[:-1]}
    return [
        head if head in words_in(words, span) else whole.get(head, head)  # "[black] [dog house]": of the whole noun
        for head, span in zip(heads, spans, strict=True)
    ]


def _head(words: Sequence[Word], span: tuple[int, int], last_words: set[int]) -> int:
    """The noun that a span means: its last word, or the word that it modifies ("[brick] borders")."""
    inside = words_in(words, span)
    head = next((index for index in reversed(inside) if words[index].is_plain), inside[-1])
    word = words[head]
    while head + 1 < len(words) and words[head + 1].is_plain and head == inside[-1]:
        following = words[head + 1]
        cut = span[1] < word.end  # "[grey]-red houses"
        modifies = word.key in COLOURS | MATERIALS and not _like_a_verb(following)
        named = following.key in {words[index].key for index in last_words if index != head + 1}
        if not (cut or modifies or named or (head + 1 in last_words and word.is_adjective)):
            break
        head += 1
        while words[head].is_adjective and head + 1 < len(words) and words[head + 1].is_plain:
            head += 1
        break
    return head


def _like_a_verb(word: Word) -> bool:
    return word.key.endswith(("ing", "ed")) or word.key in PLACING


def _left(words: Sequence[Word], first: int, head: int) -> tuple[int, int]:
    """(first word with the determiner, first word without it) of the noun phrase of a head."""
    index = first - 1
    while index >= 0:
        word, before = words[index], words[index - 1] if index else None
        if word.key in DETERMINERS:
            while index > 0 and words[index - 1].key in DETERMINERS:
                index -= 1
            return index, first
        if word.key in POSSESSIVE and before is not None and before.is_plain:
            first = index - 1  # "the man's head"
        elif word.key in ("and", ","):
            if before is None or not (before.is_adjective and words[index + 1].is_adjective and index + 1 < head):
                break  # "brown and white horses" goes on
            first = index - 1
        elif not word.is_plain or not (word.is_adjective or _after_a_determiner(words, index)):
            break
        else:
            first = index
        index = first - 1
    return first, first


def _after_a_determiner(words: Sequence[Word], index: int) -> bool:
    """Whether only adjectives, and one other word at most, stand between a determiner and a word: "a very [old] man"."""
    if words[index].key.endswith("s") and not words[index].key.endswith("ss"):
        return False  # "the man throws balls"
    others = 0
    for place in range(index - 1, -1, -1):
        if words[place].key in DETERMINERS:
            return True
        if words[place].is_adjective:
            continue
        others += 1
        if others > 1 or not words[place].is_plain or words[index].key.endswith(("ing", "ed")):
            return False
    return False


def _right(words: Sequence[Word], head: int, left_of: Mapping[int, int], ends: Mapping[int, int]) -> int:
    """One past the last word of a head's phrase."""
    end = head + 1
    while (start := _modifier(words, head, end)) is not None:
        stop = _noun_phrase_end(words, start, left_of, ends)
        if stop is None:
            break
        end = stop
    return end


def _modifier(words: Sequence[Word], head: int, end: int) -> int | None:
    """Where the noun phrase begins that belongs to the head by the words at `end`; None: nothing more belongs to it."""
    keys = [word.key for word in words[end : end + 3]] + ["", "", ""]
    comma = 1 if keys[0] == "," else 0
    if keys[comma] in ("wearing", "carrying") and (comma == 0 or keys[1] == "wearing"):
        return end + comma + 1
    if keys[0] in ("with", "of"):
        return end + 1
    if keys[:2] == ["next", "to"] and not _is_placed(words, head):
        return end + 2
    if keys[:2] == ["on", "the"] and keys[2] in ("left", "right") and not _is_placed(words, head):
        return end + 1  # "a girl on the left"
    if keys[0] in STATES and keys[1] in ("by", "with", "of", "in", "from"):
        return end + 2
    if keys[0] == "in" and {key.split("-")[0] for key in keys[1:3]} & COLOURS:
        return end + 1  # "the man in a red shirt"
    if keys[:2] == ["on", "the"] and _is_the(words, head) and not _is_placed(words, head):
        return end + 1  # "the candles on the cake"
    return None


def _is_the(words: Sequence[Word], head: int) -> bool:
    left, _ = _left(words, head, head)
    return words[left].key == "the"


def _is_placed(words: Sequence[Word], head: int) -> bool:
    """Whether the noun is put somewhere: "puts the ball on the table"."""
    left, _ = _left(words, head, head)
    return left > 0 and words[left - 1].key in PLACING


def _noun_phrase_end(
    words: Sequence[Word], start: int, left_of: Mapping[int, int], ends: Mapping[int, int]
) -> int | None:
    """One past the noun phrase that begins at a word: that of the marked noun in it, else up to a verb or a mark."""
    inside = [head for head, left in left_of.items() if head >= start and left <= start and head in ends]
    if inside:
        return ends[min(inside)]
    index, nouns = start, 0
    while index < len(words) and index - start < _LONGEST:
        word = words[index]
        if word.key == "and" and words[index - 1].is_adjective and words[index + 1 : index + 2]:
            if not words[index + 1].is_adjective:
                break
        elif word.key in DETERMINERS:
            if nouns:
                break
        elif not word.is_plain or word.key in BE or (nouns and _ends_like_a_verb(word)):
            break
        elif word.key.endswith("ing") and words[index - 1].key not in DETERMINERS:
            break  # "on the left riding ..."
        elif word.key not in KNOWN | TELLING_APART:
            nouns += 1
        index += 1
    looks = index > start and words[index - 1].key in COLOURS | {"left", "right"}  # "the man in red"
    return index if nouns or looks else None


def _ends_like_a_verb(word: Word) -> bool:
    return word.key.endswith(("ing", "ed", "s")) and not word.key.endswith("ss")
