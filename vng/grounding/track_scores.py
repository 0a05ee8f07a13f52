"""How well each track fits each noun of a narrative: every score by its name, and their weighted mean.

Shapes: N nouns, K tracks, X texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from vng.errors import UsageError
from vng.frames import Frames
from vng.grounding.assignment import Relation
from vng.grounding.candidates import Queries
from vng.grounding.image_text import ImageText, faded_crop
from vng.grounding.phrases import Phrase
from vng.grounding.places import Geometry, Place
from vng.grounding.tracks import Track
from vng.masks import area, decode

CROPS = 3  # of a track: where it began, and where it is largest
LARGE = 0.09  # share of the frame from which on a thing counts as large


@dataclass(frozen=True, kw_only=True)
class ScoreWeights:
    """The weight of each score in the weighted mean; 0 leaves one out. Raises UsageError for a negative weight."""

    noun: float = 0.2  # the detector, asked for the bare noun, which does not tell its things apart
    phrase: float = 1.0  # the detector, asked for the phrase
    clause: float = 0.25  # the detector, asked for what the thing does, which single frames hardly show
    image_text: float = 1.0  # the image-text model: this phrase rather than the narrative's others
    place: float = 0.7  # "on the left", "moving to the left"
    relation: float = 0.3  # "behind the [car]"; of pairs, added to the sum of joint assignment
    seen: float = 0.1  # how long the thing is seen, and how large it is: people name what is there to be seen

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise UsageError(f"weight {field.name}={getattr(self, field.name)}: expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class TrackScores:
    """The scores of all tracks for the nouns of a narrative.

    Attributes:
        parts: name -> float64 [N, K] in [0, 1]; NaN where a score does not apply to a noun.
        total: float64 [N, K], their weighted mean, for people.
        gain: float64 [N, K], their weighted sum, for joint assignment: a noun of which little is told has little to say.
        named: float64 [N, K], the detector's score of the noun or phrase, which says whether the thing is there.
        relations: of pairs of nouns.
    """

    parts: Mapping[str, np.ndarray]
    total: np.ndarray
    gain: np.ndarray
    named: np.ndarray
    relations: tuple[Relation, ...]


def score_tracks(
    phrases: Sequence[Phrase],
    places: Sequence[Sequence[Place]],
    queries: Queries,
    tracks: Sequence[Track],
    geometry: Geometry,
    looks: np.ndarray | None,
    weights: ScoreWeights,
) -> TrackScores:
    """The scores of one narrative.

    Args:
        phrases, places: of its nouns.
        queries: the texts of its nouns, as they were asked for.
        tracks: K tracks, with the detector's scores for the texts.
        geometry: of the tracks.
        looks: float [N, K] of the image-text model, or None.
        weights: of the scores.
    """
    count = len(tracks)
    means, found = (
        np.array([getattr(track, name) for track in tracks], float).reshape(count, len(queries.texts))
        for name in ("steady_scores", "found_scores")
    )
    nothing = np.full(count, np.nan)

    def of(number: int | None) -> np.ndarray:
        return nothing if number is None else found[:, number]

    parts = {
        "noun": np.array([means[:, noun.noun] for noun in queries.nouns]),
        "phrase": np.array([of(noun.phrase) for noun in queries.nouns]),
        "clause": np.array([of(noun.clause) for noun in queries.nouns]),
        "image_text": np.full((len(phrases), count), np.nan) if looks is None else looks,
        "place": np.array([_place(own, rivals_of(queries, n, means), geometry) for n, own in enumerate(places)]),
        "seen": np.array([_seen(geometry)] * len(phrases)),
    }
    parts = {name: values.reshape(len(phrases), count) for name, values in parts.items()}
    stacked = np.stack([parts[name] for name in parts])
    own_weights = np.array([getattr(weights, name) for name in parts])[:, None, None] * ~np.isnan(stacked)
    gain = (np.nan_to_num(stacked) * own_weights).sum(0)
    total = gain / np.maximum(own_weights.sum(0), 1e-9)
    named = np.array(
        [np.maximum(means[:, n.noun], means[:, n.noun if n.phrase is None else n.phrase]) for n in queries.nouns]
    ).reshape(total.shape)
    relations = [
        Relation(n, place.other, geometry.relates(place.kind), weights.relation)
        for n, own in enumerate(places)
        for place in own
        if place.other is not None and weights.relation
    ]
    return TrackScores(parts=parts, total=total, gain=gain, named=named, relations=tuple(relations))


def rivals_of(queries: Queries, n: int, means: np.ndarray) -> list[int]:
    """Tracks that may be meant by a noun: those that were found for it in at least one frame."""
    return [int(k) for k in np.flatnonzero(means[:, queries.nouns[n].noun] > 0)] if len(means) else []


def _place(places: Sequence[Place], rivals: Sequence[int], geometry: Geometry) -> np.ndarray:
    fits = [geometry.fits(place.kind, rivals) for place in places if place.other is None]
    return np.mean(fits, axis=0) if fits else np.full(len(geometry.boxes), np.nan)


def _seen(geometry: Geometry) -> np.ndarray:
    seen, shares = geometry.seen, geometry.shares
    largest = shares.max(1) if shares.size else np.zeros(len(shares))
    long = seen.mean(1) if seen.size else np.zeros(len(seen))
    return np.asarray((long + np.minimum(np.sqrt(largest / LARGE), 1)) / 2)


def looks_of(
    frames: Frames, tracks: Sequence[Track], narratives: Sequence[Sequence[Phrase]], model: ImageText
) -> list[np.ndarray | None]:
    """The image-text model's scores for each narrative, float64 [N, K]; None where a narrative has only one phrase.

    Frames are read one after the other; of each, the crops of all tracks are taken together.
    """
    wanted: dict[int, list[int]] = {}
    rows = sorted({track.seed.frame for track in tracks})
    for k, track in enumerate(tracks):
        for t in _shown(track, rows):
            wanted.setdefault(t, []).append(k)
    texts = [list(dict.fromkeys(phrase.text for phrase in phrases)) for phrases in narratives]
    sums = [np.zeros((len(tracks), len(own))) for own in texts]
    counts = np.zeros(len(tracks))
    for t, own in sorted(wanted.items()):
        image = frames[t]
        crops = [faded_crop(image, decode(tracks[k].masks[t])) for k in own]
        counts[own] += 1
        for total, words in zip(sums, texts, strict=True):
            if len(words) > 1:
                total[own] += model(crops, words)
    result: list[np.ndarray | None] = []
    for phrases, words, total in zip(narratives, texts, sums, strict=True):
        shares = total / np.maximum(counts, 1)[:, None]
        result.append(None if len(words) < 2 else np.array([shares[:, words.index(p.text)] for p in phrases]))
    return result


def _shown(track: Track, rows: Sequence[int]) -> list[int]:
    """Frames in which a track is shown to the image-text model: where it began, and others of `rows` where it is seen."""
    seen = [t for t in rows if area(track.masks[t])]
    first = [track.seed.frame] if area(track.masks[track.seed.frame]) else []
    others = sorted((t for t in seen if t not in first), key=lambda t: -area(track.masks[t]))
    return (first + others)[:CROPS]
