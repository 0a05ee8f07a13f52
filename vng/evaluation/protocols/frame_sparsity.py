"""`frame-sparsity`: agreement of method rankings from a few and from all true masks of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vng.errors import UsageError
from vng.evaluation.evaluation import Evaluated, Evaluation, Truth
from vng.evaluation.vos.frame_sparsity import (
    FrameSparsity,
    sparsity_table,
    study_frame_sparsity,
    write_sparsity_page,
)
from vng.evaluation.vos.runs import plain_run
from vng.evaluation.vos.targets import Protocol


class FrameSparsityEvaluation(Evaluation[FrameSparsity]):
    """Scores of a few frames beside those of all, over several methods (Point-VOS, Figure 8).

    Args:
        frame_counts: numbers of evenly spaced frames per video.
        protocol: protocol of the dense score.
        seed: seed of the resampling for the interval.
    """

    def __init__(
        self,
        dataset: Truth | None,
        *,
        frame_counts: Sequence[int] = (1, 2, 3, 5, 10),
        protocol: str = "davis",
        seed: int = 0,
        **more: Any,
    ) -> None:
        super().__init__(dataset, **more)
        self.counts, self.protocol, self.seed = sorted(set(frame_counts)), Protocol(protocol), seed

    def score(self, results: Sequence[Path]) -> FrameSparsity:
        """Compare the orders of methods; each folder has the predictions of one."""
        if len(results) < 2:
            raise UsageError("vng evaluate frame-sparsity: give two or more folders of --results, one per method")
        ids = [video.video_id for video in self.videos] if not hasattr(self.dataset, "video_ids") else None
        runs = [plain_run(folder, ids or self.dataset.video_ids) for folder in results]  # type: ignore[union-attr]
        videos = tqdm(self.videos, desc="evaluate", unit="video", disable=not self.progress)
        return study_frame_sparsity(videos, runs, self.counts, self.protocol, self.missing, self.seed)

    def table(self, scores: FrameSparsity) -> str:
        """Agreement of the orders by number of frames."""
        return sparsity_table(scores)

    def as_json(self, scores: FrameSparsity) -> dict[str, Any]:
        """All figures."""
        return scores.as_json()

    def write_page(self, evaluated: Evaluated[FrameSparsity], folder: Path, footer: str) -> Path:
        """Write the page of the study, with the plot."""
        write_sparsity_page(evaluated.scores, folder)
        return folder / "index.html"
