"""Phrases of the nouns of a dataset: of each its phrase, its clause, and which nouns mean one thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vng.dataset import Video, VngDataset, as_dataset
from vng.grounding.phrases import Phrase, Pipeline, phrases_of


@dataclass(frozen=True, kw_only=True)
class NarrativePhrases:
    """The phrases of one narrative."""

    video_id: str
    split: str
    narrative: int
    actor_name: str
    description: str
    phrases: tuple[Phrase, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        nouns = [
            {
                "noun": self.description[slice(*phrase.span)],
                "span": list(phrase.span),
                "head": phrase.head,
                "phrase": phrase.text,
                "phrase_span": list(phrase.text_span),
                "clause": phrase.clause,
                "entity": phrase.entity,
                "differs_from": list(phrase.differs_from),
            }
            for phrase in self.phrases
        ]
        return {
            "video_id": self.video_id,
            "split": self.split,
            "narrative": self.narrative,
            "actor_name": self.actor_name,
            "description": self.description,
            "nouns": nouns,
        }

    def table(self) -> list[str]:
        """Lines of a table: each noun's number, phrase, clause, entity, and the nouns that it must differ from."""
        rows = [("", "noun", "phrase", "clause", "entity", "not")]
        for number, phrase in enumerate(self.phrases):
            noun, others = self.description[slice(*phrase.span)], ", ".join(map(str, phrase.differs_from))
            rows.append((str(number), noun, phrase.text, phrase.clause, str(phrase.entity), others))
        shown = [tuple(" ".join(cell.split()) for cell in row) for row in rows]  # no line breaks in a table
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def narrated_phrases(
    dataset: VngDataset | str | Path,
    pipeline: Pipeline | None = None,
    *,
    frames: str | Path | None = None,
    progress: bool = True,
) -> Iterator[NarrativePhrases]:
    """The phrases of every narrative that has a marked noun.

    Args:
        dataset: a folder, a hub id, or an opened dataset.
        pipeline: a spaCy pipeline; None: rules.
        frames: the folder of linked frames, if they were moved.
        progress: whether to show a progress bar over videos.
    """
    opened = as_dataset(dataset, frames_root=None if frames is None else Path(frames))
    for video in tqdm(opened, total=len(opened), desc="phrases", unit="video", disable=not progress):
        yield from _phrases_of_video(video, pipeline)


def _phrases_of_video(video: Video, pipeline: Pipeline | None) -> Iterator[NarrativePhrases]:
    for number, narrative in enumerate(video.narratives):
        # a noun of several objects ("the parrots") is one noun
        spans = list(dict.fromkeys((e.start, e.end) for e in video.expressions if e.narrative == number))
        if spans:
            yield NarrativePhrases(
                video_id=video.video_id,
                split=video.split,
                narrative=number,
                actor_name=narrative.actor_name,
                description=narrative.description,
                phrases=phrases_of(narrative.description, spans, pipeline),
            )
