"""The command `vng annotate`: candidates for people to verify, and a simulated annotator."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vng.cli.options import Option, add_options, command, natural, option_values, path, positive
from vng.cli.output import print_totals
from vng.options import real

if TYPE_CHECKING:
    from vng.errors import Problem

NAME, SUMMARY = "annotate", "propose points for people to verify (Point-VOS)"

PROPOSE = (
    Option(name="clips", type=path, metavar="FILE", help="own clips, one JSON line a video (docs/own-clips.md)"),
    Option(
        name="narratives", type=path, metavar="FILE", help="VidLN narratives in place of --clips: each noun's trace"
    ),
    Option(name="frames", type=path, metavar="DIR", help="folder of the videos [the folder of --clips]"),
    Option(
        name="nouns",
        default="noun_segments",
        help="with --narratives: noun_segments, auto, or a spaCy pipeline [noun_segments]",
    ),
    Option(name="out", type=path, required=True, help="folder to write: videos/<id>.json, manifest.json"),
)
DRAWN = (
    Option(name="point_frames", type=positive, default=10, help="evenly spaced frames of a video [10]"),
    Option(name="foreground", type=natural, default=7, help="candidates where the object is likely [7]"),
    Option(name="background", type=natural, default=10, help="candidates where it is unlikely [10]"),
    Option(name="uncertain", type=natural, default=3, help="candidates between the two [3]"),
    Option(name="low", type=real, default=0.1, help="largest probability of a background candidate [0.1]"),
    Option(name="high", type=real, default=0.9, help="least probability of a foreground candidate [0.9]"),
    Option(name="distance", type=real, default=20.0, help="least distance of two, pixels at 480 rows [20]"),
    Option(name="seed", type=natural, default=0, help="random seed [0]"),
)
SIMULATE = (
    Option(name="candidates", type=path, required=True, metavar="DIR", help="folder of `vng annotate propose`"),
    Option(name="dataset", type=path, required=True, help="VNG dataset with true masks of the same videos and frames"),
    Option(name="wrong", type=real, default=0.05, help="share of wrong verdicts [0.05]"),
    Option(name="unsure", type=real, default=0.5, help="share of unsure answers near an outline [0.5]"),
    Option(name="seed", type=natural, default=0, help="random seed [0]"),
    Option(name="out", type=path, required=True, help="Point-VOS points to write, .json or .jsonl"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng annotate`, with its sub-parsers."""
    parser = commands.add_parser(NAME, help=SUMMARY, description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    steps = parser.add_subparsers(title="steps", dest="step", required=True, metavar="STEP")
    from conversion.kinds import ENGINE_OPTIONS

    engines = [option for option in ENGINE_OPTIONS if option.name != "seed"]
    proposing = command(
        steps,
        "propose",
        run_propose,
        "candidate points of every object: likely, unlikely and uncertain places",
        "vng annotate propose --clips clips.jsonl --out candidates\n"
        "  vng annotate propose --narratives oops_val.jsonl --frames frames/oops_val --out candidates",
    )
    add_options(proposing, (*PROPOSE, *DRAWN, *engines))
    proposing.add_argument("--json", action="store_true", help="print the totals as JSON")
    simulating = command(
        steps,
        "simulate",
        run_simulate,
        "answer candidates from true masks, as a person who errs and doubts",
        "vng annotate simulate --candidates candidates --dataset data/true --wrong 0.05 --out points.json",
    )
    add_options(simulating, SIMULATE)
    simulating.add_argument("--json", action="store_true", help="print the totals as JSON")


def run_propose(arguments: argparse.Namespace) -> None:
    """Propose candidates; print totals and a summary of problems."""
    from conversion.annotation.candidates import CandidateSettings
    from conversion.annotation.run import propose_candidates
    from conversion.kinds import ENGINE_OPTIONS
    from conversion.options import BuildOptions

    drawn = option_values(arguments, DRAWN)
    settings = CandidateSettings(frames=drawn.pop("point_frames"), **drawn)
    engines = option_values(arguments, [option for option in ENGINE_OPTIONS if option.name != "seed"])
    options = BuildOptions.of(**engines, progress=not arguments.quiet)
    result = propose_candidates(**option_values(arguments, PROPOSE), settings=settings, options=options)
    print_totals(result.totals, arguments.json)
    _print_problems(result.problems)


def run_simulate(arguments: argparse.Namespace) -> int:
    """Answer candidates; returns 1 where no object could be matched."""
    from conversion.annotation.run import simulate_verdicts
    from conversion.annotation.simulated import SimulatedAnnotator
    from vng.dataset import VngDataset

    annotator = SimulatedAnnotator(wrong=arguments.wrong, unsure=arguments.unsure, seed=arguments.seed)
    totals = simulate_verdicts(arguments.candidates, VngDataset(arguments.dataset), arguments.out, annotator)
    print_totals(totals, arguments.json)
    return 0 if totals["objects"] else 1


def _print_problems(problems: tuple[Problem, ...]) -> None:
    from vng.errors import summarise

    if problems:
        print(f"{len(problems)} problems and notes:\n{summarise(problems)}", file=sys.stderr)
