"""What can be said to `vng evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vng.arguments.types import command, natural, positive, split_name, trio_arguments


def add_evaluate(commands: Any) -> None:
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
        "video object segmentation: DAVIS 2016 and 2017, YouTube-VOS, Point-VOS",
        "vng evaluate vos --dataset data/davis-val --results RESULTS --protocol davis --json scores.json\n"
        "  vng evaluate vos --dataset data/davis-val --results RESULTS --archive submission.zip",
    )
    vos.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks")
    vos.add_argument("--split", type=split_name, help="only rows of this split")
    results_help = "predictions: <results>/<video>/<frame>.png, or below points-<n>/seed-<s>/ (point-vos)"
    vos.add_argument("--results", type=Path, required=True, help=results_help)
    vos.add_argument(
        "--protocol",
        choices=("davis", "davis-2016", "youtube-vos", "point-vos"),
        default="davis",
        help="which objects and frames count: docs/protocols.md [davis]",
    )
    vos.add_argument(
        "--missing", choices=("error", "empty"), default="error", help="a prediction that is not there [error]"
    )
    official_help = "with davis or davis-2016: the official program's faults too (decay from 256 frames on, ids)"
    vos.add_argument("--official", action="store_true", help=official_help)
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
