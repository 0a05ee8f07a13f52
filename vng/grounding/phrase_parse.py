"""Phrases of nouns from a spaCy parse: what the head's dependents say, prepositional modifiers and states included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vng.grounding.phrase_rules import read_by_rules
from vng.grounding.phrase_words import BE, STATES, Reading, Word, without_telling_apart, words_in

_BEFORE = frozenset(("amod", "compound", "nmod", "poss", "nummod", "advmod", "npadvmod", "case", "det", "punct", "cc"))
_MODIFIES = frozenset(("compound", "amod", "nmod", "npadvmod"))
_NOUNS = ("NOUN", "PROPN")
_STATE_TAG = "VBN"


def read_by_parse(document: Any, words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[Reading]:
    """The reading of each noun of a parsed description; `words` are its words as the rules cut them.

    Heads are those of the rules: what is marked is a noun, where small parsers often see a verb ("the [car] spins").
    Where the parse takes a head for a part of another noun, its phrase is read by the rules as well.
    """
    by_rules = read_by_rules(words, spans)
    return [_reading(document, words, reading) for reading in by_rules]


def verbs_of(document: Any, words: Sequence[Word]) -> set[int]:
    """The numbers of the words that are verbs, auxiliaries left out."""
    verbs = [token for token in document if token.pos_ == "VERB" and not token.is_space]
    return {index for token in verbs for index in words_in(words, (token.idx, token.idx + len(token.text)))}


def _reading(document: Any, words: Sequence[Word], ruled: Reading) -> Reading:
    head = words[ruled.head]
    tokens = [t for t in document if t.idx < head.end and head.start < t.idx + len(t.text) and not t.is_space]
    nouns = [token for token in tokens if token.pos_ in _NOUNS and head.start <= token.idx]
    if not nouns or any(token.idx + len(token.text) > head.end for token in tokens):
        return ruled
    token = min(nouns, key=lambda t: (t.dep_ in _MODIFIES, -t.i))
    if token.dep_ in _MODIFIES and token.head.i > token.i and token.head.pos_ in _NOUNS:
        return ruled
    edges = [t.left_edge for t in token.lefts if t.dep_ in _BEFORE and not t.left_edge.is_space]
    left = min(edges, key=lambda t: t.i, default=token)
    start = min(words_in(words, _place(left))[0], words_in(words, ruled.span)[0], ruled.head)
    end = max(words_in(words, _place(_last(token)))[-1], ruled.head) + 1
    end = next((index for index in range(ruled.head + 1, end) if words[index].key in BE), end)
    first = without_telling_apart(words, start, ruled.head)
    return Reading(span=ruled.span, left=start, first=first, head=ruled.head, end=end)


def _place(token: Any) -> tuple[int, int]:
    return token.idx, token.idx + len(token.text)


def _last(token: Any) -> Any:
    """The last token of a noun's phrase; of coordinated things, the first only."""
    last = token
    for child in token.rights:
        if child.dep_ == "prep":
            objects = [t for t in child.children if t.dep_ in ("pobj", "pcomp")]
            reach = _last(objects[0]) if objects else None
        elif child.dep_ == "acl" and _is_state(child):
            reach = _last_of_state(child)
        else:
            reach = None
        if reach is not None and reach.i > last.i and not reach.is_space:
            last = reach
    return last


def _is_state(verb: Any) -> bool:
    """Whether a participle says how a thing looks, not what it does."""
    return verb.lower_ == "wearing" or verb.tag_ == _STATE_TAG or verb.lower_ in STATES


def _last_of_state(verb: Any) -> Any:
    last = verb
    for child in verb.rights:
        objects = [child] if child.dep_ in ("dobj", "obj") else []
        if child.dep_ in ("prep", "agent"):
            objects = [t for t in child.children if t.dep_ == "pobj"]
        for item in objects:
            reach = _last(item)
            last = reach if reach.i > last.i and not reach.is_space else last
    return last
