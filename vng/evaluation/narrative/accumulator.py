"""J&F of expressions whose masks are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vng.evaluation.accumulator import Accumulator, Masks, size_of
from vng.evaluation.metrics import Mask, frame_scores
from vng.evaluation.narrative.referring import ReferringScores, annotator_of, referring_protocol
from vng.evaluation.narrative.scores import ExpressionScore
from vng.evaluation.predictions import Missing
from vng.masks import empty


@dataclass
class NarrativeScore(Accumulator[ExpressionScore]):
    """J&F of expressions: each is scored on its annotated frames, then all are pooled.

    Args:
        protocol: "vng", "ref-youtube-vos", "ref-davis" or "mevis" (`referring.PROTOCOLS`).
        missing: whether None in a prediction is an error or an empty mask.
    """

    protocol: str = "vng"
    missing: Missing = "error"
    _parts: dict[tuple[str, int], ExpressionScore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rules = referring_protocol(self.protocol)

    def add(
        self,
        video_id: str,
        expression: int,
        truth: Masks,
        prediction: Masks,
        *,
        noun: str = "",
        object_id: str = "",
    ) -> None:
        """Add an expression.

        Args:
            video_id, expression: the video, and the number of the expression in it.
            truth: masks of its object; None where unannotated (with "mevis": absent).
            prediction: masks of the same frames.
            noun, object_id: for tables; "ref-davis" takes the expressions of one object as those of different
                annotators.

        Raises:
            ValueError: an expression added twice, numbers of frames or sizes that differ, a missing prediction.
        """
        key = (video_id, expression)
        self._check_new(key, f"expression {expression} of video {video_id!r}")
        if len(truth) != len(prediction):
            raise ValueError(f"video {video_id!r}: {len(truth)} true and {len(prediction)} predicted masks")
        if self._rules.null_is_absent:
            size = next((size_of(mask) for mask in (*truth, *prediction) if mask is not None), (0, 0))
            truth = [empty(*size) if mask is None else mask for mask in truth]
        annotated = [(t, mask) for t, mask in enumerate(truth) if mask is not None]
        rows = [frame_scores([mask], [self._prediction(key, mask, prediction[t], t)]) for t, mask in annotated]
        if not rows:
            return  # no annotated frame
        j, f = (np.array([row[which][0] for row in rows]) for which in (0, 1))
        names = tuple(str(t) for t, _ in annotated)
        self._parts[key] = ExpressionScore(
            video=video_id,
            expression=expression,
            noun=noun,
            object_id=object_id,
            j=float(j.mean()),
            f=float(f.mean()),
            frames=len(annotated),
            frame_names=names,
            j_frames=tuple(j.tolist()),
            f_frames=tuple(f.tolist()),
        )

    def rules(self) -> Any:
        """The protocol, which two scores must share to be merged."""
        return self.protocol

    def scores(self) -> ReferringScores:
        """All scores: those of each expression on each frame."""
        ordered = tuple(self._parts[key] for key in sorted(self._parts))
        return ReferringScores(self.protocol, ordered, annotator_of(ordered))

    def compute(self) -> dict[str, float]:
        """{"J&F", "J", "F"}, shares in [0, 1]; NaN where nothing was scored."""
        scores = self.scores()
        return {"J&F": scores.jf, "J": scores.j, "F": scores.f}

    def _prediction(self, key: tuple[str, int], truth: Mask, predicted: Mask | None, t: int) -> Mask:
        if predicted is None and self.missing == "error":
            raise ValueError(f"video {key[0]!r}: no prediction of expression {key[1]} in frame {t}")
        return empty(*size_of(truth)) if predicted is None else predicted
