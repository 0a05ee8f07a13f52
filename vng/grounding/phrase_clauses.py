"""The clause of a noun: what it does, or what is done with it ("parrot playing with the other parrot")."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vng.grounding.phrase_words import BE, GROUPS, MARKS, Reading, Word

_PUNCTUATION = frozenset(",.;:!?…。，、！？；：")


def clauses_of(
    description: str, words: Sequence[Word], readings: Sequence[Reading], verbs: Collection[int]
) -> list[str]:
    """The text of each noun's clause; "" where no verb belongs to the noun.

    Of a subject: the noun and its first predicate, auxiliaries left out. Of another noun: from the verb before it.
    """
    marks = _marks(words, readings, verbs)
    return [_clause(description, words, reading, readings, verbs, marks) for reading in readings]


def guessed_verbs(words: Sequence[Word], readings: Sequence[Reading]) -> set[int]:
    """The words that look like verbs: participles outside noun phrases, and words where only a verb may stand."""
    taken = {index for r in readings for index in range(r.left, r.head + 1)}
    after = {reading.end for reading in readings}
    verbs = set()
    for index, word in enumerate(words):
        if index in taken or not word.is_plain or word.is_adjective or word.key.endswith("ly"):
            continue
        before = words[index - 1].key if index else ""
        ends = word.key.endswith(("s", "ed")) and before in BE | MARKS | {"and", ","}
        if word.key.endswith("ing") or index in after or before == "to" or ends:
            verbs.add(index)
    return verbs


def _clause(
    description: str,
    words: Sequence[Word],
    reading: Reading,
    readings: Sequence[Reading],
    verbs: Collection[int],
    marks: Collection[int],
) -> str:
    begin = reading.end
    if words[begin : begin + 1] and words[begin].key == "," and words[begin + 1 : begin + 2]:
        begin += words[begin + 1].key in BE  # "the man, wearing a hat, is sitting"
    acts = begin < len(words) and (words[begin].key in BE or begin in verbs)
    if acts and not any(_holds(words, other, reading) for other in readings):
        while begin < len(words) and words[begin].key in BE:
            begin += 1
        stop = _stop(words, begin, marks)
        if begin < stop:
            noun = description[words[reading.head].start : words[reading.head].end]
            return f"{noun} {description[words[begin].start : words[stop - 1].end]}"
    for index in range(reading.left - 1, -1, -1):
        if index in verbs:
            stop = _stop(words, reading.end, marks)
            stop = next((place for place in range(reading.end, stop) if words[place].key in BE), stop)
            return description[words[index].start : words[stop - 1].end]
        if index in marks or words[index].key in BE:
            break
    return ""


def _holds(words: Sequence[Word], outer: Reading, inner: Reading) -> bool:
    """Whether a noun lies in another's phrase, and so is no subject; people of a group are what the group is."""
    own = outer.left <= inner.head < outer.head or (
        outer.head < inner.head < outer.end and words[outer.head].key not in GROUPS
    )
    return own and outer.head != inner.head


def _marks(words: Sequence[Word], readings: Sequence[Reading], verbs: Collection[int]) -> set[int]:
    """The words before which a clause ends: punctuation, "then", "while", and "and" before a verb or a new subject."""
    inside = {index for r in readings for index in range(r.left, r.end)}
    acting = {index for index in range(len(words)) if index in verbs or words[index].key in BE}
    subjects = {reading.left for reading in readings if reading.end in acting}
    marks = set()
    for index, word in enumerate(words):
        joins = word.key == "and" and bool({index + 1, index + 2} & acting or index + 1 in subjects)
        if word.key in MARKS or joins or (word.key in _PUNCTUATION and index not in inside):
            marks.add(index)
    return marks


def _stop(words: Sequence[Word], start: int, marks: Collection[int]) -> int:
    return next((index for index in range(start, len(words)) if index in marks), len(words))
