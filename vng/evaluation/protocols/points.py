"""`points`: agreement of predictions with verified points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.figures import percents
from vng.evaluation.point_agreement import PointScore, evaluate_points
from vng.evaluation.report.from_masks import opener
from vng.evaluation.report.from_points import points_report
from vng.evaluation.report.record import Report
from vng.evaluation.vos.runs import Run, plain_run


class PointsEvaluation(Evaluation[PointScore]):
    """Point agreement: positives inside, negatives outside."""

    def __init__(self, dataset: Truth | None, **more: Any) -> None:
        super().__init__(dataset, **more)
        self._open_video = opener(lambda: self.videos)

    def _run(self, results: Path) -> Run:
        ids = getattr(self.dataset, "video_ids", None)
        return plain_run(results, [video.video_id for video in self.videos] if ids is None else ids)

    def score(self, results: Path) -> PointScore:
        """Score label maps."""
        return evaluate_points(
            self.videos,
            self._run(results),
            self.missing,
            strict=self.strict,
            processes=self.processes,
            progress=self.progress,
        )

    def table(self, scores: PointScore) -> str:
        """All measures in one line."""
        points = sum(item.positives + item.negatives for item in scores.objects)
        return f"{percents(scores.compute())}  ({points:,} points of {len(scores.objects):,} objects)"

    def as_json(self, scores: PointScore) -> dict[str, Any]:
        """The measures, and the counts of each object."""
        return scores.as_json()

    def rows(self, scores: PointScore) -> list[dict[str, Any]]:
        """One row per object."""
        objects = scores.as_json()["objects"]
        return [{name: value for name, value in row.items() if not name.startswith("frame_")} for row in objects]

    def report(self, scores: PointScore, results: Path, name: str, title: str) -> Report:
        """The report, whose cases are objects."""
        return points_report(scores, self._run(results), name, title, self._open_video)
