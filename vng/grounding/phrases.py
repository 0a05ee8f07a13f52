"""Phrases of marked nouns: of each its head, its phrase, its clause, and which nouns mean one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vng.errors import UsageError
from vng.grounding.phrase_clauses import clauses_of, guessed_verbs
from vng.grounding.phrase_entities import entities_of
from vng.grounding.phrase_parse import read_by_parse, verbs_of
from vng.grounding.phrase_rules import read_by_rules
from vng.grounding.phrase_words import words_of
from vng.narratives import DEFAULT_PIPELINE, check_span, load_pipeline


class Pipeline(Protocol):
    """A spaCy pipeline, as far as it is used: a text to a parsed document, and where it comes from."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its language, name and version."""
        ...

    def __call__(self, text: str) -> Any:
        """The parsed document."""
        ...


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """One noun as a grounder is told of it; spans are [start, end) in characters of the description."""

    span: tuple[int, int]  # the marked noun
    head: str  # the noun that names the thing; of "[brick] borders", "borders"
    head_span: tuple[int, int]
    text: str  # "green parrot with a red beak"
    text_span: tuple[int, int]
    clause: str  # "parrot playing with the other parrot"; "" where no verb belongs to the noun
    entity: int  # nouns of a narrative with the same number mean the same thing
    differs_from: tuple[int, ...]  # numbers of the nouns that mean something else by their words ("another", "other")


def phrases_of(
    description: str, spans: Sequence[tuple[int, int]], pipeline: Pipeline | None = None
) -> tuple[Phrase, ...]:
    """The phrases of the nouns of one description, in the order of `spans`.

    Args:
        description: the text.
        spans: [start, end) of each marked noun; they may overlap, and repeat.
        pipeline: a spaCy pipeline with a parser and a tagger (English); None: a small set of rules instead.

    Raises:
        ValueError: a span outside the description.
    """
    for start, end in spans:
        check_span(description, start, end)
    if not spans:
        return ()
    words = words_of(description, spans)
    if pipeline is None:
        readings = read_by_rules(words, spans)
        verbs = guessed_verbs(words, readings)
    else:
        document = pipeline(description)
        readings = read_by_parse(document, words, spans)
        verbs = verbs_of(document, words)
    entities, apart = entities_of(words, readings)
    clauses = clauses_of(description, words, readings, verbs)
    phrases = []
    for reading, clause, entity, differs in zip(readings, clauses, entities, apart, strict=True):
        head = (words[reading.head].start, words[reading.head].end)
        text = (words[reading.first].start, words[reading.end - 1].end)
        phrases.append(
            Phrase(
                span=reading.span,
                head=description[slice(*head)],
                head_span=head,
                text=description[slice(*text)],
                text_span=text,
                clause=clause,
                entity=entity,
                differs_from=differs,
            )
        )
    return tuple(phrases)


def find_pipeline(choice: str = "auto") -> Pipeline | None:
    """A spaCy pipeline by name or path; "rules": None; "auto": the small English one where it is installed.

    Raises UsageError for a pipeline that is not installed.
    """
    if choice == "rules":
        return None
    try:
        pipeline: Pipeline = load_pipeline(DEFAULT_PIPELINE if choice == "auto" else choice)
    except OSError as error:
        if choice == "auto":
            return None
        cure = f"python -m spacy download {choice}, give a path, or use rules"
        raise UsageError(f"spaCy pipeline {choice!r} is not installed; {cure}") from error
    return pipeline
