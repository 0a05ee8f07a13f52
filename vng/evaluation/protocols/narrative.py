"""`vng`: the official Video Narrative Grounding score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vng.dataset import VngDataset
from vng.errors import DataError, Problem, UsageError
from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.narrative.analysis import NarrativeAnalysis, analyse_narrative
from vng.evaluation.narrative.scores import NarrativeScores, evaluate_narrative, other_object, own_object
from vng.evaluation.report.from_masks import narrative_report, opener
from vng.evaluation.report.record import Report


@dataclass(frozen=True)
class NarrativeOutcome:
    """The official scores, and the additional analysis; None for the control."""

    scores: NarrativeScores
    analysis: NarrativeAnalysis | None
    truth_notes: tuple[Problem, ...] = ()  # on the ground truth

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Notes on the ground truth, and on unexpected files and folders among the predictions."""
        return self.truth_notes + self.scores.notes


class NarrativeEvaluation(Evaluation[NarrativeOutcome]):
    """J&F over all expressions, same-noun subset, swaps, presence.

    Args:
        against_others: whether to score each prediction against another object named in the same video, as a control.
    """

    def __init__(self, dataset: Truth | None, *, against_others: bool = False, **more: Any) -> None:
        if dataset is None:
            raise UsageError("vng evaluate vng: give --dataset, or --meta, --extra-masks and --orig-masks")
        super().__init__(dataset, **more)
        self.against_others = against_others
        self._open_video = opener(lambda: self.videos)

    def score(self, results: Path) -> NarrativeOutcome:
        """Score the official results layout; raises DataError where no expression has an annotated frame."""
        scores = evaluate_narrative(
            self.videos,
            results,
            self.missing,
            other_object if self.against_others else own_object,
            strict=self.strict,
            processes=self.processes,
            progress=self.progress,
        )
        if not scores.expressions:
            raise DataError(self.place, field="expressions", reason="no expression has an annotated frame")
        truth_notes = self._pseudo_truth()
        if self.against_others:
            return NarrativeOutcome(scores, None, truth_notes)
        analysis = analyse_narrative(self.videos, results, scores, self.processes, progress=self.progress)
        return NarrativeOutcome(scores, analysis, truth_notes)

    def _pseudo_truth(self) -> tuple[Problem, ...]:
        """A note where the masks of the first video were made by an engine: they are no ground truth."""
        if not isinstance(self.videos, VngDataset):
            return ()
        first = self.videos[0]
        made = sorted({item.source for item in first.objects if item.has_pseudo_masks})
        if not made:
            return ()
        reason = (
            f"its masks are pseudo-masks ({', '.join(made)}): the scores are agreement with them, not with the truth"
        )
        return (Problem(str(self.place), field="objects.source", reason=reason, kind="note"),)

    def table(self, scores: NarrativeOutcome) -> str:
        """The official line, then the other figures with their intervals."""
        line = scores.scores.line()
        return line if scores.analysis is None else f"{line}\n{scores.analysis.table()}"

    def as_json(self, scores: NarrativeOutcome) -> dict[str, Any]:
        """The official figures and expressions, and those of `NarrativeAnalysis.as_json`."""
        tree = scores.scores.as_json()
        return tree if scores.analysis is None else {**tree, **scores.analysis.as_json()}

    def rows(self, scores: NarrativeOutcome) -> list[dict[str, Any]]:
        """One row per expression, hardest first."""
        return self._analysed(scores).rows()

    def report(self, scores: NarrativeOutcome, results: Path, name: str, title: str) -> Report:
        """The report, whose cases are expressions."""
        return narrative_report(self._analysed(scores), results, name, title, self._open_video)

    def _analysed(self, scores: NarrativeOutcome) -> NarrativeAnalysis:
        if scores.analysis is None:
            raise UsageError(
                "vng evaluate vng: --against-others computes one figure only; CSV and pages are not available"
            )
        return scores.analysis
