"""The clause of a noun: what it does, or what is done with it ("parrot playing with the other parrot")."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vng.grounding.phrase_words import BE, MARKS, Reading, Word

_PUNCTUATION = frozenset(",.;:!?")


def clause_of(
    description: str, words: Sequence[Word], reading: Reading, verbs: Collection[int]
) -> str:
    """The text of a noun's clause; "" where no verb belongs to the noun.

    Of a subject: the noun and its first predicate, auxiliaries left out. Of another noun: from the verb before it.
    """
    stop = _next_mark(words, reading.end, verbs)
    if reading.end < len(words) and words[reading.end].key == "," and words[reading.end + 1 : reading.end + 2]:
        after = reading.end + 1
        begin = after if words[after].key in BE else reading.end  # "the man, wearing a hat, is sitting"
    else:
        begin = reading.end
    acts = begin < len(words) and (words[begin].key in BE or begin in verbs)
    if acts:
        while begin < len(words) and words[begin].key in BE:
            begin += 1
        stop = _next_mark(words, begin, verbs)
        if begin < stop and not _is_there(words, reading):
            return f"{_text(description, words, reading.head, reading.head + 1)} {_text(description, words, begin, stop)}"
    index = reading.left - 1
    while index >= 0 and not _is_mark(words, index, verbs):
        if index in verbs:
            return _text(description, words, index, _before_be(words, reading.end, stop))
        if words[index].key in BE:
            break
        index -= 1
    if index in verbs:  # "and [falls] on the floor": the verb is the mark's own
        return _text(description, words, index, _before_be(words, reading.end, stop))
    return ""


def guessed_verbs(words: Sequence[Word], readings: Sequence[Reading]) -> set[int]:
    """The words that look like verbs: participles outside noun phrases, and words in -s or -ed where a verb may stand."""
    taken = {index for r in readings for index in range(r.left, r.head + 1)}
    after = {reading.end for reading in readings}
    verbs = set()
    for index, word in enumerate(words):
        if index in taken or not word.is_plain or word.is_adjective:
            continue
        before = words[index - 1].key if index else ""
        placed = index in after or before in BE | MARKS | {"and", "to", ","}
        if word.key.endswith("ing") or (placed and (word.key.endswith(("s", "ed")) or before == "to")):
            verbs.add(index)
    return verbs


def _next_mark(words: Sequence[Word], start: int, verbs: Collection[int]) -> int:
    return next((index for index in range(start, len(words)) if _is_mark(words, index, verbs)), len(words))


def _is_mark(words: Sequence[Word], index: int, verbs: Collection[int]) -> bool:
    """Whether a clause ends before a word: a punctuation mark, "then", "while", or "and" before a verb."""
    key = words[index].key
    if key in _PUNCTUATION or key in MARKS:
        return True
    return key == "and" and any(place in verbs or words[place].key in BE for place in (index + 1, index + 2))


def _is_there(words: Sequence[Word], reading: Reading) -> bool:
    return words[reading.head].key == "there"


def _before_be(words: Sequence[Word], start: int, stop: int) -> int:
    """An object's clause ends before "is": that belongs to another noun."""
    return next((index for index in range(start, stop) if words[index].key in BE), stop)


def _text(description: str, words: Sequence[Word], first: int, end: int) -> str:
    return description[words[first].start : words[end - 1].end]
