"""The interface of a protocol for `vng evaluate NAME` and `vng.evaluate`, and the result of scoring with it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vng.dataset import Video, VngDataset
from vng.errors import Problem
from vng.evaluation.predictions import Missing
from vng.manifest import to_json, write_atomic

if TYPE_CHECKING:
    from vng.evaluation.report.record import Pairing, Report

S = TypeVar("S")
Truth = VngDataset | Iterable[Video]  # anything that can be iterated more than once


class Evaluation(Generic[S]):
    """A protocol: scores a folder of predictions, and presents the scores. S is the type of its scores.

    A subclass takes its options as keywords, has `score`, `table` and `as_json`, and, where they make sense, `rows`,
    `report` and more. It is listed in `vng.evaluation.protocols.PROTOCOLS`.

    Args:
        dataset: the ground truth.
        missing: whether a missing prediction is an error or counts as empty.
        strict: whether unexpected files and folders are errors instead of notes.
        processes: number of processes, each scoring one video at a time; None: chosen by the number of videos.
        progress: whether to show a progress bar over videos.
    """

    def __init__(
        self,
        dataset: Truth | None,
        *,
        missing: Missing = "error",
        strict: bool = False,
        processes: int | None = None,
        progress: bool = True,
    ) -> None:
        self.dataset, self.missing, self.strict, self.progress = dataset, missing, strict, progress
        self.requested_processes = processes

    @property
    def place(self) -> Path:
        """Path of the ground truth, for titles and messages."""
        return getattr(self.dataset, "path", Path("memory"))

    @property
    def videos(self) -> Truth:
        """The ground truth; empty where there is none."""
        return () if self.dataset is None else self.dataset

    @property
    def processes(self) -> int:
        """Number of processes that score."""
        from vng.evaluation.workers import known_length, processes_for

        return processes_for(self.requested_processes, known_length(self.videos))

    def score(self, results: Any) -> S:
        """Score a folder (or file) of predictions; several folders where the protocol compares methods.

        Raises:
            DataErrors: all problems of the predictions.
        """
        raise NotImplementedError

    def score_each(self, folders: Sequence[Path]) -> list[S]:
        """The scores of several results; a protocol may read the ground truth once for all of them."""
        return [self.score(folder) for folder in folders]

    def table(self, scores: S) -> str:
        """The text to print."""
        raise NotImplementedError

    def as_json(self, scores: S) -> dict[str, Any]:
        """Everything as plain values, shares in [0, 1]."""
        raise NotImplementedError

    def rows(self, scores: S) -> list[dict[str, Any]]:
        """The rows for `--csv`."""
        raise NotImplementedError

    def notes(self, scores: S) -> Sequence[Problem]:
        """Notes on unexpected files and folders among the predictions."""
        return getattr(scores, "notes", ())

    def report(self, scores: S, results: Path, name: str, title: str) -> Report:
        """The record that a page is made from.

        Args:
            scores: the scores of `results`.
            results: the predictions, for pictures.
            name: the name of the results, shown beside others.
            title: the title of the page.
        """
        raise NotImplementedError

    def write_page(self, evaluated: Evaluated[S], folder: Path, footer: str) -> Path:
        """Write `index.html` into a folder."""
        from vng.evaluation.report.page import write_report

        return write_report(evaluated.report, folder, evaluated.pairing, footer)

    def instead(self, results: Path) -> str | None:
        """Do the work that options request instead of scoring; returns a line to print, None where there is none."""
        return None


@dataclass
class Evaluated(Generic[S]):
    """The scores of results under a protocol, optionally beside those of other results.

    Attributes:
        evaluation: the protocol with its options.
        results: the predictions that were scored.
        scores: their scores, of the protocol's type.
        against: other results, or None.
        others: the scores of `against`.
    """

    evaluation: Evaluation[S]
    results: Path
    scores: S
    against: Path | None = None
    others: S | None = None

    @property
    def notes(self) -> list[Problem]:
        """Notes on unexpected files and folders of all results."""
        notes = list(self.evaluation.notes(self.scores))
        return notes + (list(self.evaluation.notes(self.others)) if self.others is not None else [])

    @cached_property
    def report(self) -> Report:
        """The record that a page is made from."""
        return self._reports[0]

    @cached_property
    def pairing(self) -> Pairing | None:
        """The paired comparison with the other results; None where there are none."""
        from vng.evaluation.report.record import pair

        return None if self.against is None else pair(self._reports[0], self._reports[1])

    @cached_property
    def _reports(self) -> list[Report]:
        from vng.evaluation.figures import folder_names

        folders = [self.results, *([] if self.against is None else [self.against])]
        names = folder_names(folders)
        title = f"{names[0]} on {self.evaluation.place.resolve().name}"
        reports = [self.evaluation.report(self.scores, self.results, names[0], title)]
        if self.against is not None and self.others is not None:
            reports.append(self.evaluation.report(self.others, self.against, names[1], title))
        return reports

    def table(self) -> str:
        """The figures as a table to print, with the paired comparison where there is one."""
        table = self.evaluation.table(self.scores)
        return table if self.pairing is None else f"{table}\n\n{self.pairing.table()}"

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values, shares in [0, 1], null for NaN."""
        tree = self.evaluation.as_json(self.scores)
        return _plain(tree if self.pairing is None else {**tree, "against": self.pairing.as_json()})

    def rows(self) -> list[dict[str, Any]]:
        """One row per item of the protocol: an expression, object, question or category."""
        return [_plain(row) for row in self.evaluation.rows(self.scores)]

    def write_json(self, path: str | Path) -> None:
        """Write `as_json` to a file."""
        write_atomic(Path(path), to_json(self.as_json()))

    def write_csv(self, path: str | Path) -> None:
        """Write `rows` to a file."""
        rows, text = self.rows(), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(Path(path), text.getvalue())

    def write_page(self, folder: str | Path, footer: str = "") -> Path:
        """Write `index.html`, a self-contained page, into a folder; returns its path."""
        return self.evaluation.write_page(self, Path(folder), footer)


def _plain(value: Any) -> Any:
    """Plain JSON values: None for NaN, lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
