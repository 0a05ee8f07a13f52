"""A simulated annotator: verdicts on candidates from true masks, with errors and doubt."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from conversion.annotation.candidates import BACKGROUND, Candidate
from conversion.formats.point_vos import AnnotatedPoint
from vng.errors import UsageError
from vng.masks import RLE, decode
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE


@dataclass(frozen=True, kw_only=True)
class SimulatedAnnotator:
    """Verdicts of a person who errs and doubts.

    Raises UsageError for shares outside [0, 1].
    """

    wrong: float = 0.0  # share of wrong verdicts
    unsure: float = 0.5  # share of "unsure" answers near an outline
    unsure_distance: float = 1.5  # pixels from the outline within which a person may doubt
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("wrong", "unsure"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"simulated annotator: {name} {getattr(self, name)}: expected a share in [0, 1]")

    def verdicts(
        self,
        object_id: str,
        candidates: Iterable[Candidate],
        masks: Sequence[RLE | None],
        frame_names: Sequence[str],
    ) -> tuple[AnnotatedPoint, ...]:
        """The points of one object; candidates in frames without a true mask get no verdict.

        Drawn from (seed, object id), so that it does not depend on other objects.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(object_id.encode())])
        decoded: dict[int, np.ndarray] = {}
        points = []
        for candidate in candidates:
            rle = masks[candidate.frame]
            if rle is None:
                continue
            mask = decoded.setdefault(candidate.frame, decode(rle).astype(bool))
            label = self.verdict(candidate.x, candidate.y, mask, rng)
            name, is_fg = frame_names[candidate.frame], candidate.kind != BACKGROUND
            points.append(AnnotatedPoint(candidate.x, candidate.y, name, label, is_fg))
        return tuple(points)

    def verdict(self, x: float, y: float, mask: np.ndarray, rng: np.random.Generator) -> int:
        """The label that this person gives to a point, whose object has this true mask, bool [H, W]."""
        inside = bool(mask[int(y), int(x)])
        reach = int(np.ceil(self.unsure_distance))
        around = mask[max(0, int(y) - reach) : int(y) + reach + 1, max(0, int(x) - reach) : int(x) + reach + 1]
        near_outline = around.any() and not around.all()
        if near_outline and rng.random() < self.unsure:
            return AMBIGUOUS
        return POSITIVE if inside != (rng.random() < self.wrong) else NEGATIVE
