"""Grounding without training: a detector, a segmenter and a propagator, and one decision for all nouns.

    grounder = ZeroShotGrounder("grounding-dino")
    result = grounder("parrots.mp4", "A green [parrot] is playing with the other [parrot].")

The steps are those of `docs/zero-shot.md`: phrases (`phrases.py`), candidates in a few frames (`candidates.py`), tracks
(`tracks.py`), scores (`track_scores.py`), joint assignment (`assignment.py`). Memory does not grow with the length of a
video, but for masks as RLE. Shapes: N nouns, K tracks, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vng import detectors, propagators, segmenters
from vng.detectors import Detector, DetectorSettings
from vng.engines import checked_settings
from vng.errors import DataError, UsageError, one_of
from vng.frames import Frames
from vng.grounding import Grounder, Narrative
from vng.grounding.assignment import assign
from vng.grounding.candidates import Candidate, Queries, choose_frames, find_candidates, queries_of
from vng.grounding.image_text import ImageText
from vng.grounding.phrases import Phrase, Pipeline, find_pipeline, phrases_of
from vng.grounding.places import Geometry, places_of
from vng.grounding.result import GroundingResult
from vng.grounding.track_scores import ScoreWeights, TrackScores, looks_of, score_tracks
from vng.grounding.tracks import Track, find_tracks
from vng.grounding.zero_shot_presets import DEFAULT_PRESET, PRESETS
from vng.masks import area, empty
from vng.narratives import DEFAULT_PIPELINE
from vng.propagators import Propagator
from vng.segmenters import Segmenter

MOST_TRACKS = 40  # in all, of a video
LISTED = 3  # tracks listed in a noun's details
WEIGHT = "weights."  # begins the name of a weight on the command line


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings:
    """Settings of the grounder; raises UsageError for a value out of range."""

    frames: int = 6  # in which the detector looks
    per_noun: int = 12  # tracks of a noun, at most
    rounds: int = 3  # how often tracks are started, each time in the frame with the best candidates left
    refine: bool = False  # whether tracks are carried once more, from all candidates that joined them
    presence: float | None = None  # least steady score of a noun that is there; None: that of the detector
    weights: ScoreWeights = field(default_factory=ScoreWeights)

    def __post_init__(self) -> None:
        for name in ("frames", "per_noun", "rounds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected 1 or more")
        if self.presence is not None and not 0 <= self.presence <= 1:
            raise UsageError(f"presence={self.presence}: expected a value from 0 to 1")


def settings_of(values: Mapping[str, str]) -> ZeroShotSettings:
    """Settings from texts by name, as on a command line; a weight is `weights.NAME`.

    Raises:
        UsageError: an unknown name, or an invalid value.
    """
    weights = {name.removeprefix(WEIGHT): value for name, value in values.items() if name.startswith(WEIGHT)}
    own = {name: value for name, value in values.items() if not name.startswith(WEIGHT)}
    checked: dict[str, Any] = {"weights": checked_settings(ScoreWeights, "--zero-shot weights", weights)}
    settings: ZeroShotSettings = checked_settings(ZeroShotSettings, "--zero-shot", checked | own)
    return settings


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why a narrative was grounded as it was: everything that led to the decision."""

    phrases: tuple[Phrase, ...]
    queries: Queries
    candidates: Mapping[int, Sequence[Candidate]]  # frame -> what was found in it
    tracks: tuple[Track, ...]
    scores: TrackScores
    entities: np.ndarray  # float64 [E, K], gains of things
    presence: float
    chosen: tuple[int | None, ...]  # the track of each noun


class ZeroShotGrounder(Grounder):
    """A grounder that needs no training; see `vng.grounding.Grounder` for the calls.

    Args:
        detector: an engine or its name.
        preset: checkpoints of all that is not given: "small" or "large" (`zero_shot_presets.py`).
        detector_checkpoint, segmenter_checkpoint, propagator_checkpoint: folders or hub ids instead of the preset's.
        segmenter, propagator: engines or names instead of the preset's.
        image_text: an image-text model, its checkpoint, None for the preset's, or False for none.
        settings: None: the defaults.
        device: None: a GPU if there is one.
        pipeline: how phrases are read: "auto", "rules", or a spaCy pipeline by name or path.
        nouns: the spaCy pipeline that finds nouns if none is marked.

    Raises:
        UsageError: an unknown engine, preset, device or pipeline.
        DataError: a checkpoint that is not in reach, is gated, or does not fit.
    """

    def __init__(
        self,
        detector: str | Detector = detectors.DEFAULT,
        *,
        preset: str = DEFAULT_PRESET,
        detector_checkpoint: str | Path | None = None,
        segmenter: str | Segmenter | None = None,
        segmenter_checkpoint: str | Path | None = None,
        propagator: str | Propagator | None = None,
        propagator_checkpoint: str | Path | None = None,
        image_text: str | Path | ImageText | bool | None = None,
        settings: ZeroShotSettings | None = None,
        device: str | None = None,
        pipeline: str = "auto",
        nouns: str = DEFAULT_PIPELINE,
    ) -> None:
        chosen = PRESETS[one_of(preset, PRESETS, "preset")]
        self.settings, self.nouns = settings or ZeroShotSettings(), nouns
        self.pipeline: Pipeline | None = find_pipeline(pipeline)
        self.detector = self._detector(detector, detector_checkpoint or chosen.detectors.get(str(detector)), device)
        own = segmenter is None or segmenter == chosen.segmenter
        self.segmenter = _segmenter(
            segmenter or chosen.segmenter,
            segmenter_checkpoint or (chosen.segmenter_checkpoint if own else None),
            device,
        )
        own = propagator is None or propagator == chosen.propagator
        self.propagator = _propagator(
            propagator or chosen.propagator,
            propagator_checkpoint or (chosen.propagator_checkpoint if own else None),
            device,
        )
        self.image_text: ImageText | None = None
        if isinstance(image_text, ImageText):
            self.image_text = image_text
        elif image_text is not False and self.settings.weights.image_text:
            checkpoint = chosen.image_text if image_text in (None, True) else image_text
            self.image_text = ImageText(checkpoint, device)  # type: ignore[arg-type]

    @staticmethod
    def _detector(detector: str | Detector, checkpoint: str | Path | None, device: str | None) -> Detector:
        if not isinstance(detector, str):
            return detector
        options: dict[str, Any] = {} if checkpoint is None else {"checkpoint": checkpoint}
        return detectors.load(detector, settings=DetectorSettings(device=device), **options)

    def passes(self, frames: int) -> int:
        """See `Grounder`: the frames that the detector sees, and all frames for each round of tracks, at most."""
        return min(self.settings.frames, frames) + (self.settings.rounds + self.settings.refine) * frames

    def content(self) -> str:
        """See `Grounder`: hashes of the weights of all engines."""
        engines = (self.detector, self.segmenter, self.propagator, self.image_text)
        return " ".join(str(getattr(engine, "fingerprint", type(engine).__name__)) for engine in engines if engine)

    def manifest_settings(self) -> dict[str, Any]:
        """See `Grounder`."""
        reader = (
            None if self.pipeline is None else f"{self.pipeline.meta.get('name')} {self.pipeline.meta.get('version')}"
        )
        return {"zero_shot": asdict(self.settings), "phrases": reader or "rules", "presence": self._presence}

    @property
    def _presence(self) -> float:
        return self.detector.presence if self.settings.presence is None else self.settings.presence

    def ground_all(
        self, frames: Frames, narratives: Sequence[Narrative], on_frames: Callable[[int], object] | None = None
    ) -> list[GroundingResult]:
        """See `Grounder`: detector and tracks serve all narratives."""
        return [result for result, _ in self.explained(frames, narratives, on_frames)]

    def explained(
        self, frames: Frames, narratives: Sequence[Narrative], on_frames: Callable[[int], object] | None = None
    ) -> list[tuple[GroundingResult, Evidence]]:
        """As `ground_all`, each result with what led to it."""
        if not narratives:
            return []
        if any(not spans for _, spans in narratives):
            raise UsageError("no noun span to ground")
        if not len(frames):
            raise DataError(frames.source, reason="this video has no frames", cure="check that it plays")
        report = _Report(on_frames, self.passes(len(frames)))
        phrases = [phrases_of(description, spans, self.pipeline) for description, spans in narratives]
        queries = queries_of([phrase for own in phrases for phrase in own])
        candidates = self._candidates(frames, queries, report)
        tracks = find_tracks(
            frames,
            candidates,
            self.propagator,
            queries.naming,
            most=min(MOST_TRACKS, self.settings.per_noun * len(queries.naming)),
            rounds=self.settings.rounds,
            least_score=self._presence,
            refine=self.settings.refine,
            on_frames=report,
        )
        geometry = Geometry([track.masks for track in tracks], frames.size)
        looks: Sequence[np.ndarray | None] = [None] * len(phrases)
        if self.image_text is not None and tracks:
            looks = looks_of(frames, tracks, phrases, self.image_text)
        results, done = [], 0
        for (description, spans), own, look in zip(narratives, phrases, looks, strict=True):
            asked = Queries(queries.texts, queries.nouns[done : done + len(own)])
            done += len(own)
            places = places_of(description, own)
            scores = score_tracks(own, places, asked, tracks, geometry, look, self.settings.weights)
            evidence = self._decided(own, asked, candidates, tracks, scores)
            results.append((_result(frames, description, spans, evidence), evidence))
        report.finish()
        return results

    def _candidates(self, frames: Frames, queries: Queries, report: _Report) -> dict[int, list[Candidate]]:
        found = {}
        for t in choose_frames(frames, self.settings.frames):
            most = self.settings.per_noun
            found[t] = find_candidates(frames[t], t, queries, self.detector, self.segmenter, most)
            report(1)
        return found

    def _decided(
        self,
        phrases: Sequence[Phrase],
        queries: Queries,
        candidates: Mapping[int, Sequence[Candidate]],
        tracks: Sequence[Track],
        scores: TrackScores,
    ) -> Evidence:
        """Nouns of one entity are one thing, whose scores are the means of theirs."""
        numbers = np.array([phrase.entity for phrase in phrases])
        members = [np.flatnonzero(numbers == entity) for entity in range(int(numbers.max()) + 1)]
        gains = np.array([scores.gain[own].mean(0) for own in members]).reshape(len(members), len(tracks))
        named = np.array([scores.named[own].mean(0) for own in members]).reshape(gains.shape)
        relations = [
            type(relation)(int(numbers[relation.first]), int(numbers[relation.second]), relation.fits, relation.weight)
            for relation in scores.relations
            if numbers[relation.first] != numbers[relation.second]
        ]
        chosen = assign(gains, named >= self._presence, relations)
        return Evidence(
            phrases=tuple(phrases),
            queries=queries,
            candidates=candidates,
            tracks=tuple(tracks),
            scores=scores,
            entities=gains,
            presence=self._presence,
            chosen=tuple(chosen[entity] for entity in numbers),
        )


class _Report:
    """Counts frames for a progress bar, never more than were promised."""

    def __init__(self, on_frames: Callable[[int], object] | None, total: int) -> None:
        self._on_frames, self._left = on_frames or (lambda count: None), total

    def __call__(self, count: int) -> None:
        count = min(count, self._left)
        self._left -= count
        if count:
            self._on_frames(count)

    def finish(self) -> None:
        """Count what was not needed."""
        self(self._left)


def _segmenter(engine: str | Segmenter, checkpoint: str | Path | None, device: str | None) -> Segmenter:
    if not isinstance(engine, str):
        return engine
    options: dict[str, Any] = {} if checkpoint is None else {"checkpoint": checkpoint}
    return segmenters.load(engine, device=device, **options)


def _propagator(engine: str | Propagator, checkpoint: str | Path | None, device: str | None) -> Propagator:
    if not isinstance(engine, str):
        return engine
    options: dict[str, Any] = {} if checkpoint is None else {"checkpoint": checkpoint}
    return propagators.load(engine, device=device, **options)


def _result(frames: Frames, description: str, spans: Sequence[tuple[int, int]], evidence: Evidence) -> GroundingResult:
    absent = (empty(*frames.size),) * len(frames)
    masks = [absent if k is None else evidence.tracks[k].masks for k in evidence.chosen]
    scores = np.array(
        [0.0 if k is None else evidence.scores.total[n, k] for n, k in enumerate(evidence.chosen)], np.float64
    )
    seen = np.array([[area(rle) > 0 for rle in row] for row in masks], bool)
    return GroundingResult(
        frames=frames,
        description=description,
        spans=tuple(spans),
        rles=tuple(masks),
        scores=scores,
        frame_scores=scores[:, None] * seen,
        details=tuple(_details(n, evidence) for n in range(len(spans))),
    )


def _details(n: int, evidence: Evidence) -> dict[str, Any]:
    """Why noun n has the masks it has, as plain values: its phrase, its track, and the scores of the best tracks."""
    phrase, scores = evidence.phrases[n], evidence.scores

    def described(k: int) -> dict[str, Any]:
        parts = {name: round(float(v[n, k]), 4) for name, v in scores.parts.items() if not np.isnan(v[n, k])}
        return {"track": k, "total": round(float(scores.total[n, k]), 4), "scores": parts}

    best = np.argsort(-scores.total[n], kind="stable")[:LISTED].tolist()
    return {
        "phrase": phrase.text,
        "clause": phrase.clause,
        "entity": phrase.entity,
        "track": evidence.chosen[n],
        "tracks": [described(k) for k in best],
        "presence": evidence.presence,
    }
