"""`vos`: video object segmentation as DAVIS, YouTube-VOS and Point-VOS score it, and submission archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vng.errors import Problem, UsageError
from vng.evaluation.evaluation import Evaluation, Truth
from vng.evaluation.report.from_masks import opener, vos_report
from vng.evaluation.report.record import Report
from vng.evaluation.vos.archive import required_frames, write_archive
from vng.evaluation.vos.runs import Run, find_runs, plain_run
from vng.evaluation.vos.scores import VosScores, evaluate_vos
from vng.evaluation.vos.tables import as_json, check_categories, csv_rows, read_seen, table
from vng.evaluation.vos.targets import Protocol

VosRuns = tuple[VosScores, ...]  # scores of each run of a folder


class RunsEvaluation(Evaluation[VosRuns]):
    """Base class of protocols over runs of label maps; a subclass has `runs` and `protocol`."""

    protocol: Protocol
    seen: frozenset[str] | None = None

    def __init__(self, dataset: Truth | None, **more: Any) -> None:
        super().__init__(dataset, **more)
        self._open_video = opener(lambda: self.videos)

    def runs(self, results: Path) -> tuple[Run, ...]:
        """The runs of a folder."""
        raise NotImplementedError

    def score(self, results: Path) -> VosRuns:
        """Score all runs of a folder."""
        return self.score_each([results])[0]

    def score_each(self, folders: Sequence[Path]) -> list[VosRuns]:
        """Score all runs of all folders; each video's ground truth is read once."""
        runs = [self.runs(folder) for folder in folders]
        scores = evaluate_vos(
            self.videos,
            [run for folder_runs in runs for run in folder_runs],
            self.protocol,
            self.missing,
            strict=self.strict,
            processes=self.processes,
            progress=self.progress,
        )
        by_folder, begin = [], 0
        for folder_runs in runs:
            by_folder.append(scores[begin : begin + len(folder_runs)])
            begin += len(folder_runs)
        if self.seen is not None:
            check_categories(by_folder[0][0])
        return by_folder

    def notes(self, scores: VosRuns) -> Sequence[Problem]:
        """The notes of all runs."""
        return [note for score in scores for note in score.notes]

    def table(self, scores: VosRuns) -> str:
        """Overall figures, then sequences or runs."""
        return table(scores, self.seen)

    def as_json(self, scores: VosRuns) -> dict[str, Any]:
        """Runs, sequences, and objects with each frame."""
        return as_json(scores, self.seen)

    def rows(self, scores: VosRuns) -> list[dict[str, Any]]:
        """One row per object and run."""
        return csv_rows(scores, self.seen)

    def report(self, scores: VosRuns, results: Path, name: str, title: str) -> Report:
        """The report, whose cases are objects of runs."""
        return vos_report(scores, self.seen, name, title, self._open_video)


class VosEvaluation(RunsEvaluation):
    """DAVIS 2016 and 2017, with and without first masks, YouTube-VOS, Point-VOS.

    Args:
        protocol: which objects and frames count.
        official: whether to reproduce the official program's faults.
        void: folder of annotations whose pixels of value 255 are excluded ("davis-unsupervised").
        seen: a file of seen categories, for G ("youtube-vos", "point-vos").
        truth: how "point-vos" reads the ground truth.
        archive: file to write the predictions to, in the format of a server, instead of scoring.
        meta: with `archive` and "youtube-vos": a meta.json with the required frames.
    """

    def __init__(
        self,
        dataset: Truth | None,
        *,
        protocol: str = "davis",
        official: bool = False,
        void: Path | None = None,
        seen: Path | None = None,
        truth: str = "auto",
        archive: Path | None = None,
        meta: Path | None = None,
        **more: Any,
    ) -> None:
        if seen is not None and protocol not in ("youtube-vos", "point-vos"):
            raise UsageError("vng evaluate vos: --seen requires --protocol youtube-vos or point-vos")
        if meta is not None and archive is None:
            raise UsageError("vng evaluate vos: --meta requires --archive")
        if archive is not None:
            scoring = {"seen": seen, "void": void, "official": official, "truth": truth != "auto"}
            scoring |= {"strict": more.get("strict"), "processes": more.get("processes")}
            scoring |= {"missing": more.get("missing", "error") != "error"}
            _check_archive(protocol, meta, [name for name, value in scoring.items() if value])
        super().__init__(dataset, **more)
        self.point_vos, self.archive, self.meta = protocol == "point-vos", archive, meta
        by_category = self.point_vos and seen is not None and truth == "auto"
        kind: Any = "youtube-vos" if by_category else truth
        self.protocol = Protocol(protocol, official, kind, void)
        self.seen = None if seen is None else read_seen(seen)

    def runs(self, results: Path) -> tuple[Run, ...]:
        """With "point-vos" the runs over numbers of points and seeds, else the folder as one run."""
        ids = getattr(self.dataset, "video_ids", None) or [video.video_id for video in self.videos]
        return find_runs(results, ids) if self.point_vos else (plain_run(results, ids),)

    def instead(self, results: Path) -> str | None:
        """Write the archive, if requested."""
        if self.archive is None:
            return None
        from tqdm import tqdm

        required = None if self.meta is None else required_frames(self.meta)
        (run,) = self.runs(results)
        videos = tqdm(self.videos, desc="archive", unit="video", disable=not self.progress)
        count = write_archive(videos, run, self.archive, self.protocol.name, required)
        return f"{self.archive}: {len(self.videos)} videos, {count:,} frames"  # type: ignore[arg-type]


def _check_archive(protocol: str, meta: Path | None, scoring: Sequence[str]) -> None:
    if protocol in ("point-vos", "davis-unsupervised"):
        raise UsageError("vng evaluate vos: --archive requires --protocol davis, davis-2016 or youtube-vos")
    if meta is not None and protocol != "youtube-vos":
        raise UsageError("vng evaluate vos: --meta requires --protocol youtube-vos")
    if scoring:
        flags = ", ".join(f"--{name}" for name in scoring)
        raise UsageError(f"vng evaluate vos: --archive does not score; leave out {flags}")
