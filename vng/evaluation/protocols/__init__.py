"""The table of protocols: the name, the options and the scoring class of each.

A new protocol is one class (`vng.evaluation.evaluation.Evaluation`) and one entry here. The command line,
`vng.evaluate`, JSON, CSV and pages are made from them. Nothing slow is imported, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vng.errors import UsageError, one_of
from vng.options import Option, checked, natural, path, positive, split_name

if TYPE_CHECKING:
    from vng.dataset import Video, VngDataset
    from vng.evaluation.evaluation import Evaluated, Evaluation


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One protocol.

    Attributes:
        name: its name on the command line and for `vng.evaluate`.
        summary, example: texts of `--help`.
        home: "module:class" of its `Evaluation`.
        results: help on the predictions.
        dataset: help on the dataset with the ground truth.
        dataset_required: whether `--dataset` is required; otherwise options can give the ground truth.
        several: whether `results` are several folders.
        options: its own options, which are keyword arguments of the class.
        missing: the default for missing predictions; "" where the class has no such option.
        checks: whether the class takes `strict` and `processes`.
        csv: the item of a row of `--csv`; "" where there is no CSV.
        page: help on `--html`; "" where there is no page.
        compares: whether other results can be compared (`--against`).
    """

    name: str
    summary: str
    example: str
    home: str
    results: str
    dataset: str = "VNG dataset with true masks"
    dataset_required: bool = True
    several: bool = False
    options: tuple[Option, ...] = ()
    missing: str = "error"
    checks: bool = True
    csv: str = ""
    page: str = (
        "folder for index.html, a self-contained page: intervals, tables that sort and filter, worst and best cases"
    )
    compares: bool = True

    @property
    def scoring_options(self) -> tuple[Option, ...]:
        """The options of the class besides the ground truth: its own, and those shared with other protocols."""
        missing = Option(
            name="missing",
            choices=("error", "empty"),
            default=self.missing,
            help=f"a missing prediction is an error, or empty [{self.missing}]",
        )
        return (*self.options, *((missing,) if self.missing else ()), *(CHECKING if self.checks else ()))


CHECKING = (
    Option(
        name="strict",
        flag=True,
        help="unexpected files and folders among the predictions are errors, not notes",
    ),
    Option(
        name="processes",
        type=positive,
        metavar="N",
        help="processes that score videos [one for 4 videos, at most one per core and 8]",
    ),
)
SPLIT = Option(name="split", type=split_name, help="only rows of this split")
_OFFICIAL = "reproduce the official program's faults (decay from 256 frames on, ids)"

_ALL = (
    Entry(
        name="vng",
        summary="the official Video Narrative Grounding score: J&F over all expressions",
        example="vng evaluate vng --dataset data/ovis-vng --results RESULTS --json scores.json",
        home="vng.evaluation.protocols.narrative:NarrativeEvaluation",
        dataset_required=False,  # or the official trio of files
        results="predictions: <results>/<video>/<expression>/<frame>.png",
        options=(
            Option(
                name="against_others",
                flag=True,
                help="control: score each prediction against another object named in the same video",
            ),
        ),
        csv="an expression, hardest first",
    ),
    Entry(
        name="vos",
        summary=(
            "video object segmentation: DAVIS 2016 and 2017, with and without first masks, YouTube-VOS, Point-VOS, "
            "ClickVOS"
        ),
        example=(
            "vng evaluate vos --dataset data/davis-val --results RESULTS --protocol davis --json scores.json\n"
            "  vng evaluate vos --dataset data/davis-val --results RESULTS --archive submission.zip"
        ),
        home="vng.evaluation.protocols.vos:VosEvaluation",
        results="predictions: <results>/<video>/<frame>.png, or below points-<n>/seed-<s>/ (point-vos)",
        options=(
            Option(
                name="protocol",
                choices=("davis", "davis-2016", "davis-unsupervised", "youtube-vos", "point-vos", "click"),
                default="davis",
                help="which objects and frames count: docs/protocols.md [davis]",
            ),
            Option(name="official", flag=True, help=f"with davis...: {_OFFICIAL}"),
            Option(
                name="void",
                type=path,
                metavar="FOLDER",
                help=(
                    "with davis-unsupervised: annotations <void>/<video>/<frame>.png whose pixels of value 255 are "
                    "excluded"
                ),
            ),
            Option(
                name="seen",
                type=path,
                metavar="FILE",
                help="seen categories, for G: a file with one per line, the train split's meta.json, or a VNG dataset",
            ),
            Option(
                name="truth",
                choices=("auto", "dense", "sparse", "youtube-vos"),
                default="auto",
                help=(
                    "with point-vos: masks on all frames, on a few, or as YouTube-VOS; auto decides for each video "
                    "[auto]"
                ),
            ),
            Option(
                name="archive",
                type=path,
                metavar="OUT.zip",
                help="do not score: check the predictions and write them as an archive for an evaluation server",
            ),
            Option(
                name="meta",
                type=path,
                metavar="META.json",
                help="with --archive and youtube-vos: the meta.json that lists the required frames [all frames]",
            ),
        ),
        csv="an object",
    ),
    Entry(
        name="frame-sparsity",
        summary="agreement of method rankings from a few and from all true masks of a video (Point-VOS, Figure 8)",
        example=(
            "vng evaluate frame-sparsity --dataset data/davis-val --results METHOD_A METHOD_B METHOD_C --html page"
        ),
        home="vng.evaluation.protocols.frame_sparsity:FrameSparsityEvaluation",
        dataset="VNG dataset with true masks on many frames",
        results="folders of predictions, one per method",
        several=True,
        options=(
            Option(
                name="frame_counts",
                type=positive,
                many=True,
                default=[1, 2, 3, 5, 10],
                metavar="K",
                help="evenly spaced frames per video [1 2 3 5 10]",
            ),
            Option(
                name="protocol",
                choices=("davis", "davis-2016", "youtube-vos"),
                default="davis",
                help="protocol of the dense score [davis]",
            ),
            Option(name="seed", type=natural, default=0, help="seed of the resampling for the interval [0]"),
        ),
        checks=False,
        page="folder for index.html and the plot, frame-sparsity.png",
        compares=False,
    ),
    Entry(
        name="referring",
        summary="referring expressions: Ref-YouTube-VOS, Ref-DAVIS17, MeViS",
        example=(
            "vng evaluate referring --dataset data/mevis-valid_u --results RESULTS --protocol mevis --json scores.json"
        ),
        home="vng.evaluation.protocols.referring:ReferringEvaluation",
        results="predictions: <results>/<video>/<expression>/<frame>.png, or anno_<k>/<video>/<frame>.png (ref-davis)",
        options=(
            Option(
                name="protocol",
                choices=("ref-youtube-vos", "ref-davis", "mevis"),
                default="ref-youtube-vos",
                help="scoring rules: docs/protocols.md [ref-youtube-vos]",
            ),
            Option(
                name="official",
                flag=True,
                help="with ref-davis and folders anno_<k>: reproduce the DAVIS program's faults",
            ),
        ),
        csv="an expression",
    ),
    Entry(
        name="instances",
        summary="YouTube-VIS average precision of a results.json",
        example=(
            "vng evaluate instances --annotations valid.json --results results.json\n"
            "  vng evaluate instances --dataset data/ovis --results results.json --class-agnostic"
        ),
        home="vng.evaluation.protocols.instances:InstancesEvaluation",
        dataset="VNG dataset with true masks; results then use its names",
        dataset_required=False,
        results="the published list: [{video_id, category_id, segmentations, score}]",
        options=(
            Option(
                name="annotations",
                type=path,
                metavar="FILE",
                help="YouTube-VIS annotation file: the ground truth, or with --dataset the meaning of the results' ids",
            ),
            Option(name="class_agnostic", flag=True, help="ignore categories"),
        ),
        missing="empty",
        checks=False,
        csv="a category",
        page="",
        compares=False,
    ),
    Entry(
        name="points",
        summary="agreement of predictions with verified points: positives inside, negatives outside",
        example="vng evaluate points --dataset data/pv-oops --results RESULTS --csv points.csv",
        home="vng.evaluation.protocols.points:PointsEvaluation",
        dataset="VNG dataset whose objects have points",
        results="predictions: <results>/<video>/<frame>.png",
        csv="an object",
    ),
    Entry(
        name="traces",
        summary="trace recall and precision: the location task of Oops-QA",
        example="vng evaluate traces --questions qa_location_output.json --results RESULTS",
        home="vng.evaluation.protocols.traces:TracesEvaluation",
        dataset=(
            "instead of --questions: a VNG dataset made from traces; predictions are "
            "<results>/<video>/<expression>/<frame>.png"
        ),
        dataset_required=False,
        results="predictions; their bounding boxes are the answers",
        options=(
            Option(
                name="questions",
                type=path,
                metavar="FILE",
                help="published questions; predictions are <results>/<video>/<question_hash>/<frame>.png",
            ),
        ),
        csv="a question",
    ),
)

PROTOCOLS = {entry.name: entry for entry in _ALL}


def make_evaluation(
    protocol: str, dataset: Any, split: str | None = None, progress: bool = True, /, **options: Any
) -> Evaluation[Any]:
    """A protocol with its options, ready to score.

    Raises:
        UsageError: an unknown protocol or option, options that cannot be combined.
        DataError: no such dataset.
    """
    entry = PROTOCOLS[one_of(protocol, PROTOCOLS, "protocol")]
    values = checked(entry.scoring_options, options, f"evaluate {protocol}")
    if entry.checks:
        from vng.evaluation.workers import prepare

        prepare(values["processes"])
    if dataset is None and entry.dataset_required:
        raise UsageError(f"evaluate {protocol}: give a dataset")
    module, _, name = entry.home.partition(":")
    return getattr(import_module(module), name)(_truth(dataset, split), progress=progress, **values)


def _truth(dataset: Any, split: str | None) -> Any:
    """The dataset for a name or a `datasets.Dataset`; anything else that yields videos is returned unchanged."""
    if dataset is None:
        return None
    from datasets import Dataset

    from vng.dataset import as_dataset

    openable = isinstance(dataset, (str, Path, Dataset))
    return as_dataset(dataset, split) if openable else dataset


def evaluate(
    protocol: str,
    dataset: VngDataset | str | Path | Iterable[Video] | None,
    results: str | Path | Sequence[str | Path],
    /,
    *,
    split: str | None = None,
    against: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Evaluated[Any]:
    """Score predictions.

    print(evaluate("vng", "data/ovis-vng", "results").table())

    Args:
        protocol: a name in `PROTOCOLS`: "vng", "vos", "referring", "instances", "points", "traces", "frame-sparsity".
        dataset: the ground truth: a folder, a hub id, an opened dataset, or anything that yields `Video` records each
            time it is iterated; None where an option gives the ground truth.
        results: the folder (or file) of predictions; several folders with "frame-sparsity".
        split: only rows of this split.
        against: other predictions of the same dataset to compare with: a paired test, and the cases that differ most.
        progress: whether to show a progress bar over videos.
        options: those of `vng evaluate PROTOCOL --help`, with _ for -.

    Returns:
        Scores with `table()`, `as_json()`, `rows()`, `notes`, `write_json`, `write_csv` and `write_page`.

    Raises:
        UsageError: an unknown protocol or option.
        DataErrors: all problems of the predictions.
        DataError: no such dataset, or nothing in it to score.
    """
    evaluation = make_evaluation(protocol, dataset, split, progress, **options)
    return score(evaluation, results, against)


def score(
    evaluation: Evaluation[Any], results: str | Path | Sequence[str | Path], against: str | Path | None = None
) -> Evaluated[Any]:
    """Score predictions, optionally beside others, with a protocol from `make_evaluation`."""
    from vng.evaluation.evaluation import Evaluated

    if not isinstance(results, (str, Path)):
        return Evaluated(evaluation, Path(results[0]), evaluation.score([Path(item) for item in results]))
    folder = Path(results)
    if against is None:
        return Evaluated(evaluation, folder, evaluation.score(folder))
    other = Path(against)
    scores, others = evaluation.score_each([folder, other])
    return Evaluated(evaluation, folder, scores, other, others)
