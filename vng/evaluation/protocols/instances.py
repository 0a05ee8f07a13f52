"""`instances`: YouTube-VIS average precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vng.errors import UsageError
from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.figures import percents
from vng.evaluation.instance_files import dataset_videos, evaluate_instances, read_annotations, read_results
from vng.evaluation.instances import InstanceScore


@dataclass(frozen=True)
class InstanceOutcome:
    """Average precision, the names of its categories, and the number of videos."""

    score: InstanceScore
    names: dict[Any, str]
    videos: int

    def by_category(self) -> dict[str, dict[str, float]]:
        """The measures of each category, by its name."""
        return {str(self.names.get(key, key)): value for key, value in self.score.by_category().items()}


class InstancesEvaluation(Evaluation[InstanceOutcome]):
    """Average precision of a `results.json`.

    Args:
        annotations: the ground truth, or with a dataset the meaning of the results' ids.
        class_agnostic: whether to ignore categories.
    """

    def __init__(
        self,
        dataset: Truth | None,
        *,
        annotations: Path | None = None,
        class_agnostic: bool = False,
        **more: Any,
    ) -> None:
        if dataset is None and annotations is None:
            raise UsageError("vng evaluate instances: give --dataset, --annotations, or both")
        super().__init__(dataset, **more)
        self.class_agnostic = class_agnostic
        self.catalogue = None if annotations is None else read_annotations(annotations)

    def score(self, results: Path) -> InstanceOutcome:
        """Score a file of results."""
        detections, catalogue = read_results(results), self.catalogue
        videos: Any = self.videos if self.dataset is not None or catalogue is None else catalogue.videos
        shown = tqdm(videos, desc="evaluate", unit="video", disable=not self.progress)
        truth = shown if self.dataset is None else dataset_videos(shown, catalogue, self.class_agnostic)
        names = None if catalogue is None else catalogue.categories
        score = evaluate_instances(truth, detections, names, self.class_agnostic, self.missing)
        return InstanceOutcome(score, dict(names or {}), len(videos))

    def table(self, scores: InstanceOutcome) -> str:
        """All measures in one line."""
        return f"{percents(scores.score.compute())}  ({scores.videos:,} videos)"

    def as_json(self, scores: InstanceOutcome) -> dict[str, Any]:
        """The measures, and those of each category unless categories are ignored."""
        tree = {**scores.score.compute(), "videos": scores.videos, "class_agnostic": self.class_agnostic}
        return tree if self.class_agnostic else {**tree, "categories": scores.by_category()}

    def rows(self, scores: InstanceOutcome) -> list[dict[str, Any]]:
        """One row per category."""
        return [{"category": name, **value} for name, value in scores.by_category().items()]
