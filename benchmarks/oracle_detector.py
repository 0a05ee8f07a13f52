"""A detector that knows the truth, with faults of a set size: it stands in for weights that cannot be had here.

It finds things by their bare noun: some are missed, some boxes are of nothing, all jitter. Scores of phrases say which
thing is meant only on average. Used by `benchmarks.zero_shot` and by tests.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vng.dataset import Video
from vng.detectors import Detections, Detector
from vng.detectors.boxes import to_pixels
from vng.grounding.phrases import Pipeline, phrases_of
from vng.masks import area, bounding_box


@dataclass(frozen=True, kw_only=True)
class OracleFaults:
    """The size of the faults; scores are those of a usual detector."""

    missed: float = 0.1  # share of visible things that are not found in a frame
    false: float = 0.1  # boxes of nothing, for each thing that is found
    jitter: float = 0.05  # of a box's sides, standard deviation
    score: float = 0.6  # mean of a thing that is found by its noun
    false_score: float = 0.35
    told: float = 0.12  # what a phrase adds for the thing that it means, and takes from its twins
    clause_told: float = 0.0  # what a clause adds: nothing, as single frames do not show what a thing does
    noise: float = 0.12  # standard deviation of what a phrase says of a thing, in all frames the same
    frame_noise: float = 0.05  # and of each score in each frame


class OracleDetector(Detector):
    """Boxes from the true masks of one video; see `vng.detectors.Detector` for the call.

    Args:
        video: with frames, true masks, narratives and expressions.
        seed: of the faults.
        faults: their size.
        pipeline: that reads the narratives, as in the grounder that asks.
    """

    presence = 0.25
    fingerprint = "oracle"

    def __init__(
        self, video: Video, seed: int = 0, faults: OracleFaults | None = None, pipeline: Pipeline | None = None
    ) -> None:
        self.video, self.seed, self.faults = video, seed, faults or OracleFaults()
        self.calls = 0
        frames = video.opened_frames()
        self._places = {_key(frames[t]): t for t in range(len(frames))}
        self._nouns: dict[str, set[str]] = {}  # bare noun -> objects that it names
        self._meant: dict[str, set[str]] = {}  # phrase or clause -> objects that it means
        self._clauses: set[str] = set()
        for number, narrative in enumerate(video.narratives):
            own = [e for e in video.expressions if e.narrative == number]
            for expression, phrase in zip(
                own, phrases_of(narrative.description, [(e.start, e.end) for e in own], pipeline), strict=True
            ):
                self._nouns.setdefault(phrase.head.lower(), set()).add(expression.object_id)
                self._clauses.add(phrase.clause.lower())
                for text in {phrase.text.lower(), phrase.clause.lower()} - {"", phrase.head.lower()}:
                    self._meant.setdefault(text, set()).add(expression.object_id)
        for item in video.objects:
            if item.name:
                self._nouns.setdefault(item.name.lower().split()[-1], set()).add(item.object_id)

    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> list[Detections]:
        """See `Detector`."""
        self.calls += 1
        t = self._places[_key(image)]
        found = {o: box for o in self._visible(t) if (box := self._box(o, t)) is not None}
        return [self._of(phrase, t, found, image.shape[:2]) for phrase in phrases]

    def _visible(self, t: int) -> list[str]:
        rles = {item.object_id: item.segmentations[t] for item in self.video.objects}
        return [o for o, rle in rles.items() if rle is not None and area(rle) > 0]

    def _box(self, object_id: str, t: int) -> np.ndarray | None:
        """The box of a thing with jitter, in edges of pixels; None where it is missed."""
        rng = self._rng("box", object_id, t)
        if rng.random() < self.faults.missed:
            return None
        rle = self.video.object_by_id[object_id].segmentations[t]
        assert rle is not None
        x, y, across, down = bounding_box(rle)
        jitter = rng.normal(0, self.faults.jitter, 4) * [across, down, across, down]
        return np.array([x, y, x + across, y + down]) + jitter

    def _of(self, phrase: str, t: int, found: dict[str, np.ndarray], size: tuple[int, int]) -> Detections:
        noun = next((word for word in phrase.split() if word in self._nouns), "")
        if phrase in self._nouns:
            noun = phrase
        named = [o for o in found if o in self._nouns.get(noun, ())]
        rows = [(found[o], self._score(phrase, o, t)) for o in named]
        rng = self._rng("false", phrase, t)
        height, width = size
        for _ in range(rng.binomial(max(len(named), 1), self.faults.false)):
            corner = rng.uniform(0, 0.8, 2) * [width, height]
            box = np.concatenate([corner, corner + rng.uniform(0.08, 0.25) * height])
            rows.append((box, rng.normal(self.faults.false_score, 0.1)))
        rows.sort(key=lambda row: -row[1])
        boxes = to_pixels(np.array([box for box, _ in rows]).reshape(-1, 4), height, width)
        return Detections(boxes, np.clip([score for _, score in rows], 0.01, 0.99).astype(np.float32))

    def _score(self, phrase: str, object_id: str, t: int) -> float:
        faults = self.faults
        score = faults.score + self._rng("frame", phrase, object_id, t).normal(0, faults.frame_noise)
        if phrase in self._nouns:
            return float(score)
        told = faults.clause_told if phrase in self._clauses else faults.told
        told = told if object_id in self._meant.get(phrase, ()) else -told
        return float(score + told + self._rng("told", phrase, object_id).normal(0, faults.noise))

    def _rng(self, *words: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(repr((self.video.video_id, *words)).encode())])


def _key(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image).tobytes())
