"""`traces`: trace recall and precision, the location task of Oops-QA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vng.errors import UsageError
from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.figures import percents
from vng.evaluation.report.from_masks import opener
from vng.evaluation.report.from_points import questions_report, traced_report
from vng.evaluation.report.record import Report
from vng.evaluation.traces import TraceScore, evaluate_questions, evaluate_traced_expressions


class TracesEvaluation(Evaluation[TraceScore]):
    """Trace recall and precision of published questions, or of the expressions of a dataset made from traces.

    Args:
        questions: the published file; None: the dataset's expressions are the questions.
    """

    def __init__(self, dataset: Truth | None, *, questions: Path | None = None, **more: Any) -> None:
        if (dataset is None) == (questions is None):
            raise UsageError("vng evaluate traces: give --questions or --dataset")
        super().__init__(dataset, **more)
        self.questions = questions
        self._open_video = opener(lambda: self.videos)

    @property
    def place(self) -> Path:
        """Path of the dataset, or of the questions."""
        return super().place if self.questions is None else self.questions

    def score(self, results: Path) -> TraceScore:
        """Score predictions, whose bounding boxes are the answers."""
        checking: dict[str, Any] = {"strict": self.strict, "progress": self.progress}
        if self.questions is not None:
            processes = self.requested_processes
            return evaluate_questions(self.questions, results, self.missing, processes=processes, **checking)
        return evaluate_traced_expressions(self.videos, results, self.missing, processes=self.processes, **checking)

    def table(self, scores: TraceScore) -> str:
        """All measures in one line."""
        return f"{percents(scores.compute())}  ({len(scores.answers):,} questions)"

    def as_json(self, scores: TraceScore) -> dict[str, Any]:
        """The measures, and the answer to each question."""
        return scores.as_json()

    def rows(self, scores: TraceScore) -> list[dict[str, Any]]:
        """One row per question."""
        return scores.as_json()["questions"]

    def report(self, scores: TraceScore, results: Path, name: str, title: str) -> Report:
        """The report, whose cases are questions."""
        if self.questions is not None:
            return questions_report(scores, self.questions, results, name, title)
        return traced_report(scores, results, name, title, self._open_video)
