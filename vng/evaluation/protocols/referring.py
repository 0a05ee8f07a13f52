"""`referring`: Ref-YouTube-VOS, Ref-DAVIS17 and MeViS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vng.errors import DataError, Problem, UsageError
from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.figures import percents
from vng.evaluation.narrative.analysis import analyse_narrative
from vng.evaluation.narrative.referring import ReferringScores, annotator_runs, evaluate_referring, truth_videos
from vng.evaluation.narrative.scores import NarrativeScores
from vng.evaluation.protocols.vos import RunsEvaluation, VosRuns
from vng.evaluation.report.from_masks import opener, referring_report
from vng.evaluation.report.record import Report
from vng.evaluation.vos.runs import Run
from vng.evaluation.vos.tables import summary_figures
from vng.evaluation.vos.targets import Protocol

COLUMNS = ("video", "expression", "annotator", "object_id", "noun", "frames", "j", "f")


@dataclass(frozen=True)
class AnnotatorScores:
    """Scores of the folders `anno_<k>`, one run per annotator."""

    runs: VosRuns

    def means(self) -> dict[str, float]:
        """The figures of a run, averaged over annotators."""
        figures = [summary_figures(run.summary()) for run in self.runs]
        return {name: sum(values[name] for values in figures) / len(figures) for name in figures[0]}


class _AnnotatorRuns(RunsEvaluation):
    """Ref-DAVIS17 as in published results: each annotator's label maps with the unsupervised DAVIS protocol."""

    def __init__(self, dataset: Truth | None, official: bool, **more: Any) -> None:
        super().__init__(dataset, **more)
        self.protocol = Protocol("davis-unsupervised", official)

    def runs(self, results: Path) -> tuple[Run, ...]:
        """One run per annotator."""
        runs = annotator_runs(results)
        if not runs:
            reason, cure = (
                "expected folders anno_<k> as in the other results, got none",
                "give results of the same layout",
            )
            raise DataError(results, reason=reason, cure=cure)
        return runs


Scores = ReferringScores | AnnotatorScores


class ReferringEvaluation(Evaluation[Scores]):
    """J&F of referring expressions; with "ref-davis" and folders `anno_<k>` as scored by ReferFormer's program.

    Args:
        protocol: "ref-youtube-vos", "ref-davis" or "mevis".
        official: with folders `anno_<k>`: whether to reproduce the DAVIS program's faults.
    """

    def __init__(
        self, dataset: Truth | None, *, protocol: str = "ref-youtube-vos", official: bool = False, **more: Any
    ) -> None:
        super().__init__(dataset, **more)
        self.protocol, self.official, self._more = protocol, official, more
        self._open_video = opener(lambda: self.videos)

    @cached_property
    def _runs(self) -> _AnnotatorRuns:
        return _AnnotatorRuns(self.dataset, self.official, **self._more)

    def score(self, results: Path) -> Scores:
        """Score one folder."""
        return self.score_each([results])[0]

    def score_each(self, folders: Sequence[Path]) -> list[Scores]:
        """Score folders, all with the layout of the first."""
        if self.protocol == "ref-davis" and annotator_runs(folders[0]):
            return [AnnotatorScores(runs) for runs in self._runs.score_each(folders)]
        if self.official:
            raise UsageError("vng evaluate referring: --official requires --protocol ref-davis and folders anno_<k>")
        return [self._score(folder) for folder in folders]

    def _score(self, results: Path) -> ReferringScores:
        scores = evaluate_referring(
            self.videos,
            results,
            self.protocol,
            self.missing,
            strict=self.strict,
            processes=self.processes,
            progress=self.progress,
        )
        if not scores.expressions:
            raise DataError(self.place, field="expressions", reason="no expression has an annotated frame")
        return scores

    def notes(self, scores: Scores) -> Sequence[Problem]:
        """Notes on unexpected files and folders among the predictions."""
        return self._runs.notes(scores.runs) if isinstance(scores, AnnotatorScores) else scores.notes

    def table(self, scores: Scores) -> str:
        """The pooled line, and one line per annotator; or the table of the annotators' runs."""
        if isinstance(scores, AnnotatorScores):
            line = percents(scores.means(), "J&F", "J", "F")
            return f"{line}  (mean of {len(scores.runs)} annotators)\n{self._runs.table(scores.runs)}"
        figures = {"J&F": scores.jf, "J": scores.j, "F": scores.f}
        lines = [f"{percents(figures)}  ({len(scores.expressions):,} expressions)"]
        for number, part in scores.as_json().get("annotators", {}).items():
            lines.append(f"annotator {number}: {percents(part, 'J', 'F')}  ({part['expressions']:,} expressions)")
        return "\n".join(lines)

    def as_json(self, scores: Scores) -> dict[str, Any]:
        """Figures and expressions, or runs."""
        if isinstance(scores, AnnotatorScores):
            return scores.means() | self._runs.as_json(scores.runs)
        return scores.as_json()

    def rows(self, scores: Scores) -> list[dict[str, Any]]:
        """One row per expression, or per object of a run."""
        if isinstance(scores, AnnotatorScores):
            return self._runs.rows(scores.runs)
        return [{name: row[name] for name in COLUMNS} for row in scores.as_json()["expressions"]]

    def report(self, scores: Scores, results: Path, name: str, title: str) -> Report:
        """The report, whose cases are expressions, or objects of runs."""
        if isinstance(scores, AnnotatorScores):
            return self._runs.report(scores.runs, results, name, title)
        truth, plain = truth_videos(self.videos, self.protocol), NarrativeScores(scores.expressions)
        analysis = analyse_narrative(truth, results, plain, self.processes, self.progress)
        return referring_report(scores, analysis, results, name, title, self._open_video)
