"""Phrases of nouns from a spaCy parse: what the head's dependents say, prepositional modifiers and states included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vng.grounding.phrase_words import STATES, Reading, Word, without_telling_apart, words_in

_BEFORE = frozenset(("amod", "compound", "nmod", "poss", "nummod", "advmod", "npadvmod", "case", "det", "punct", "cc"))
_MODIFIES = frozenset(("compound", "amod", "nmod", "npadvmod", "punct"))
_STATE_TAG = "VBN"


def read_by_parse(document: Any, words: Sequence[Word], spans: Sequence[tuple[int, int]]) -> list[Reading]:
    """The reading of each noun of a parsed description; `words` are its words as the rules cut them."""
    return [_reading(document, words, span) for span in spans]


def verbs_of(document: Any, words: Sequence[Word]) -> set[int]:
    """The numbers of the words that are verbs, auxiliaries left out."""
    verbs = [token for token in document if token.pos_ == "VERB"]
    return {index for token in verbs for index in words_in(words, (token.idx, token.idx + len(token.text)))}


def _reading(document: Any, words: Sequence[Word], span: tuple[int, int]) -> Reading:
    inside = words_in(words, span)
    tokens = [token for token in document if token.idx < span[1] and span[0] < token.idx + len(token.text)]
    tokens = [token for token in tokens if not token.is_space]
    if not tokens:
        return Reading(span=span, left=inside[0], first=inside[0], head=inside[-1], end=inside[-1] + 1)
    token = _head(tokens)
    left = min((t.left_edge for t in token.lefts if t.dep_ in _BEFORE), key=lambda t: t.i, default=token)
    last = _last(token)
    head = words_in(words, _place(token))[-1]
    start = min(words_in(words, _place(left))[0], inside[0], head)
    end = max(words_in(words, _place(last))[-1] + 1, head + 1)
    return Reading(span=span, left=start, first=without_telling_apart(words, start, head), head=head, end=end)


def _place(token: Any) -> tuple[int, int]:
    return token.idx, token.idx + len(token.text)


def _head(tokens: list[Any]) -> Any:
    """The token that a marked noun means: the highest noun of the span, or the noun that it modifies."""
    nouns = [token for token in tokens if token.pos_ in ("NOUN", "PROPN")] or tokens
    token = min(nouns, key=lambda t: (len(list(t.ancestors)), -t.i))
    while token.dep_ in _MODIFIES and token.head.i > token.i and token.head.pos_ in ("NOUN", "PROPN", "ADJ"):
        token = token.head
    return token


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
        if reach is not None and reach.i > last.i:
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
            last = reach if reach.i > last.i else last
    return last
