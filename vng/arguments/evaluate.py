"""What can be said to `vng evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vng.arguments.types import command, natural, positive, split_name, trio_arguments


def add_evaluate(commands: Any) -> None:
    """`vng evaluate` and its protocols."""
    parser = commands.add_parser("evaluate", help="score predictions", description="Score predictions.")
    protocols = parser.add_subparsers(title="protocols", dest="protocol", required=True, metavar="PROTOCOL")
    vng = command(
        protocols,
        "vng",
        "evaluate_vng",
        "the official Video Narrative Grounding score: J&F over all expressions",
        "vng evaluate vng --dataset data/ovis-vng --results RESULTS --json scores.json",
    )
    vng.add_argument("--dataset", type=Path, help="VNG dataset with true masks")
    trio_arguments(vng, required=False)
    vng.add_argument("--split", type=split_name, help="only rows of this split")
    vng.add_argument(
        "--results", type=Path, required=True, help="predictions: <results>/<video>/<expression>/<frame>.png"
    )
    vng.add_argument(
        "--missing", choices=("error", "empty"), default="error", help="a prediction that is not there [error]"
    )
    vng.add_argument(
        "--against-others",
        action="store_true",
        help="control: score each prediction against another object named in the same video",
    )
    _checking(vng)
    vng.add_argument("--json", type=Path, help="write all scores to this file")
    vng.add_argument("--csv", type=Path, help="write a line an expression to this file, hardest first")
    _report_arguments(vng)
    _evaluate_vos(protocols)
    _evaluate_frame_sparsity(protocols)
    _evaluate_referring(protocols)
    _evaluate_instances(protocols)
    _evaluate_points(protocols)
    _evaluate_traces(protocols)


def _checking(parser: Any) -> None:
    strict_help = "files and folders of no frame, expression or video are errors, not notes"
    parser.add_argument("--strict", action="store_true", help=strict_help)
    processes_help = "processes that score, a video each [one for 4 videos, at most one a core and 8]"
    parser.add_argument("--processes", type=positive, metavar="N", help=processes_help)


def _evaluate_vos(protocols: Any) -> None:
    vos = command(
        protocols,
        "vos",
        "evaluate_vos",
        "video object segmentation: DAVIS 2016 and 2017, with and without first masks, YouTube-VOS, Point-VOS",
        "vng evaluate vos --dataset data/davis-val --results RESULTS --protocol davis --json scores.json\n"
        "  vng evaluate vos --dataset data/davis-val --results RESULTS --archive submission.zip",
    )
    vos.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks")
    vos.add_argument("--split", type=split_name, help="only rows of this split")
    results_help = "predictions: <results>/<video>/<frame>.png, or below points-<n>/seed-<s>/ (point-vos)"
    vos.add_argument("--results", type=Path, required=True, help=results_help)
    vos.add_argument(
        "--protocol",
        choices=("davis", "davis-2016", "davis-unsupervised", "youtube-vos", "point-vos"),
        default="davis",
        help="which objects and frames count: docs/protocols.md [davis]",
    )
    vos.add_argument(
        "--missing", choices=("error", "empty"), default="error", help="a prediction that is not there [error]"
    )
    official_help = "with davis...: the official program's faults too (decay from 256 frames on, ids)"
    vos.add_argument("--official", action="store_true", help=official_help)
    void_help = "with davis-unsupervised: annotations <void>/<video>/<frame>.png whose pixels of value 255 do not count"
    vos.add_argument("--void", type=Path, metavar="FOLDER", help=void_help)
    seen_help = "seen categories, for G: one a line, the train split's meta.json, or a VNG dataset"
    vos.add_argument("--seen", type=Path, metavar="FILE", help=seen_help)
    truth_help = "with point-vos: masks on all frames, on a few, or as YouTube-VOS; auto looks at each video [auto]"
    truths = ("auto", "dense", "sparse", "youtube-vos")
    vos.add_argument("--truth", choices=truths, default="auto", help=truth_help)
    _checking(vos)
    vos.add_argument("--json", type=Path, help="write all scores to this file")
    vos.add_argument("--csv", type=Path, help="write a line an object to this file")
    _report_arguments(vos)
    archive_help = "do not score: check the predictions and write them as the archive an evaluation server takes"
    vos.add_argument("--archive", type=Path, metavar="OUT.zip", help=archive_help)
    meta_help = "with --archive and youtube-vos: the meta.json that says which frames are wanted [all frames]"
    vos.add_argument("--meta", type=Path, metavar="META.json", help=meta_help)


def _report_arguments(parser: Any) -> None:
    html_help = "folder for index.html: intervals, tables that sort and filter, worst and best cases; stands alone"
    parser.add_argument("--html", type=Path, metavar="DIR", help=html_help)
    against_help = "other predictions of the same dataset, beside these: paired bootstrap test, cases that differ most"
    parser.add_argument("--against", type=Path, metavar="RESULTS", help=against_help)


def _evaluate_frame_sparsity(protocols: Any) -> None:
    study = command(
        protocols,
        "frame-sparsity",
        "evaluate_frame_sparsity",
        "whether a few true masks a video rank methods as all of them do (Point-VOS, Figure 8)",
        "vng evaluate frame-sparsity --dataset data/davis-val --results METHOD_A METHOD_B METHOD_C --html page",
    )
    study.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks on many frames")
    study.add_argument("--split", type=split_name, help="only rows of this split")
    study.add_argument("--results", type=Path, nargs="+", required=True, help="folders of predictions, one a method")
    frames_help = "evenly spaced frames a video [1 2 3 5 10]"
    study.add_argument("--frames", type=positive, nargs="+", default=[1, 2, 3, 5, 10], metavar="K", help=frames_help)
    study.add_argument(
        "--protocol", choices=("davis", "davis-2016", "youtube-vos"), default="davis", help="of the dense score [davis]"
    )
    study.add_argument(
        "--missing", choices=("error", "empty"), default="error", help="a prediction that is not there [error]"
    )
    study.add_argument("--seed", type=natural, default=0, help="of the resampling behind the interval [0]")
    study.add_argument("--html", type=Path, help="folder for index.html and the plot, frame-sparsity.png")
    study.add_argument("--json", type=Path, help="write all figures to this file")


def _evaluate_referring(protocols: Any) -> None:
    referring = command(
        protocols,
        "referring",
        "evaluate_referring",
        "referring expressions: Ref-YouTube-VOS, Ref-DAVIS17, MeViS",
        "vng evaluate referring --dataset data/mevis-valid_u --results RESULTS --protocol mevis --json scores.json",
    )
    referring.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks")
    referring.add_argument("--split", type=split_name, help="only rows of this split")
    results_help = (
        "predictions: <results>/<video>/<expression>/<frame>.png, or anno_<k>/<video>/<frame>.png (ref-davis)"
    )
    referring.add_argument("--results", type=Path, required=True, help=results_help)
    referring.add_argument(
        "--protocol",
        choices=("ref-youtube-vos", "ref-davis", "mevis"),
        default="ref-youtube-vos",
        help="what counts: docs/protocols.md [ref-youtube-vos]",
    )
    official_help = "with ref-davis and folders anno_<k>: the DAVIS program's faults too"
    referring.add_argument("--official", action="store_true", help=official_help)
    _checking(referring)
    _outcome(referring, "a line an expression")
    _report_arguments(referring)


def _evaluate_instances(protocols: Any) -> None:
    instances = command(
        protocols,
        "instances",
        "evaluate_instances",
        "YouTube-VIS average precision of a results.json",
        "vng evaluate instances --annotations valid.json --results results.json\n"
        "  vng evaluate instances --dataset data/ovis --results results.json --class-agnostic",
    )
    instances.add_argument("--dataset", type=Path, help="VNG dataset with true masks; results then hold its names")
    instances.add_argument("--split", type=split_name, help="only rows of this split")
    annotations_help = "YouTube-VIS annotation file: the truth, or with --dataset what the results' ids mean"
    instances.add_argument("--annotations", type=Path, metavar="FILE", help=annotations_help)
    results_help = "the published list: [{video_id, category_id, segmentations, score}]"
    instances.add_argument("--results", type=Path, required=True, metavar="FILE", help=results_help)
    instances.add_argument("--class-agnostic", action="store_true", help="categories do not count")
    _outcome(instances, "a line a category", missing="empty")


def _evaluate_points(protocols: Any) -> None:
    points = command(
        protocols,
        "points",
        "evaluate_points",
        "agreement of predictions with verified points: positives inside, negatives outside",
        "vng evaluate points --dataset data/pv-oops --results RESULTS --csv points.csv",
    )
    points.add_argument("--dataset", type=Path, required=True, help="VNG dataset whose objects have points")
    points.add_argument("--split", type=split_name, help="only rows of this split")
    points.add_argument("--results", type=Path, required=True, help="predictions: <results>/<video>/<frame>.png")
    _checking(points)
    _outcome(points, "a line an object")
    _report_arguments(points)


def _evaluate_traces(protocols: Any) -> None:
    traces = command(
        protocols,
        "traces",
        "evaluate_traces",
        "trace recall and precision: the location task of Oops-QA",
        "vng evaluate traces --questions qa_location_output.json --results RESULTS",
    )
    questions_help = "published questions; predictions are <results>/<video>/<question_hash>/<frame>.png"
    traces.add_argument("--questions", type=Path, metavar="FILE", help=questions_help)
    dataset_help = "or a VNG dataset made from traces; predictions are <results>/<video>/<expression>/<frame>.png"
    traces.add_argument("--dataset", type=Path, help=dataset_help)
    traces.add_argument("--split", type=split_name, help="only rows of this split")
    traces.add_argument("--results", type=Path, required=True, help="predictions, whose bounding boxes answer")
    _checking(traces)
    _outcome(traces, "a line a question")
    _report_arguments(traces)


def _outcome(parser: Any, lines: str, missing: str = "error") -> None:
    choices = ("error", "empty")
    parser.add_argument(
        "--missing", choices=choices, default=missing, help=f"a prediction that is not there [{missing}]"
    )
    parser.add_argument("--json", type=Path, help="write all scores to this file")
    parser.add_argument("--csv", type=Path, help=f"write {lines} to this file")
