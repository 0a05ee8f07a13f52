"""`vng ...`: parse, call the public function of the same name, turn known errors into one line and an exit status.

The only file of `vng/` that imports `conversion/`. Heavy packages are imported inside the commands that use them, so that
`--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vng import __version__
from vng.errors import DataError, UsageError, VngError
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER

EPILOG = """\
own points to own model in five commands:
  vng convert point-vos --points P.json --narratives N.jsonl --frames FRAMES --out DATA
  vng inspect DATA --html PAGE
  vng train configs/grounder.yaml data.path=DATA out=RUN
  vng predict --model RUN --dataset TEST --out RESULTS
  vng evaluate vng --dataset TEST --results RESULTS

exit status: 0 all done, 1 bad data, 2 wrong call.
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="vng",
        description="Video Narrative Grounding: given a video and a narrative, segment what each marked noun means.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vng {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for add in (_demo, _synthesize, _convert, _export, _inspect, _train, _predict, _evaluate):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], object], help_: str, example: str) -> Any:
    parser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _split_name(text: str) -> str:
    if not re.fullmatch(r"\w*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no split name: letters, digits and _ only")
    return text


def _demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        _run_demo,
        "the whole path on the procedural world, offline, in minutes",
        "vng demo --out out/demo",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where everything is written [out/demo]")


def _run_demo(arguments: argparse.Namespace) -> None:
    from vng.demo import run_demo

    run_demo(arguments.out, main)


def _synthesize(commands: Any) -> None:
    parser = _command(
        commands,
        "synthesize",
        _run_synthesize,
        "write a procedural set in the official formats, with exact truth",
        "vng synthesize --out world --videos 50 --seed 1 --preset hard",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--videos", type=_positive, required=True, help="how many videos")
    parser.add_argument("--seed", type=_natural, default=0, help="the same seed gives the same bytes [0]")
    parser.add_argument("--preset", default="hard", help="how hard the world is: hard or easy [hard]")
    parser.add_argument("--split", type=_split_name, default="train", help="split prefix of the video names [train]")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


def _run_synthesize(arguments: argparse.Namespace) -> None:
    from conversion.synthetic import synthesize

    totals = synthesize(
        arguments.out, arguments.videos, arguments.seed, arguments.preset, arguments.split, progress=not arguments.quiet
    )
    _report(totals, arguments.json)


def _convert(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="make a VNG dataset from annotations",
        description="Make a VNG dataset (Parquet that `datasets.load_dataset` opens) from annotations.",
    )
    kinds = parser.add_subparsers(title="annotations", dest="kind", required=True, metavar="KIND")
    point_vos = _command(
        kinds,
        "point-vos",
        _run_convert_point_vos,
        "Point-VOS points and VidLN narratives: pseudo-masks from points",
        "vng convert point-vos --points oops_train.json --narratives oops_train.jsonl --frames frames/oops_train "
        "--out data/oops-vng",
    )
    point_vos.add_argument(
        "--points", type=Path, required=True, help="Point-VOS points: Oops JSON or Kinetics JSON lines"
    )
    vidln = _command(
        kinds,
        "vidln",
        _run_convert_vidln,
        "VidLN narratives alone: pseudo-masks from mouse traces",
        "vng convert vidln --narratives OVIS_train.jsonl --frames frames/OVIS_train --out data/ovis-traces",
    )
    _engine_arguments(point_vos, nouns="auto")
    _engine_arguments(vidln, nouns="noun_segments")
    point_vos.add_argument(
        "--held-out", type=float, default=0.2, help="share of points kept to measure agreement [0.2]"
    )
    point_vos.add_argument(
        "--link", choices=("name", "name+trace"), default="name+trace", help="how a record finds its noun [name+trace]"
    )
    vng = _command(
        kinds,
        "vng",
        _run_convert_vng,
        "the official VNG trio (OVIS-VNG, UVO-VNG): true masks",
        "vng convert vng --meta meta_expressions.json --extra-masks extra_masks.json --orig-masks annotations_train.json "
        "--frames frames --out data/ovis-vng",
    )
    _trio_arguments(vng, required=True)
    vng.add_argument("--frames", type=Path, help="folder of frames; without it the rows carry no pixels")
    davis = _command(
        kinds,
        "davis",
        _run_convert_davis,
        "DAVIS folders: true masks without narratives, to train a click segmenter on",
        "vng convert davis --root DAVIS --out data/davis",
    )
    davis.add_argument("--root", type=Path, required=True, help="folder with JPEGImages/ and Annotations/")
    for sub in (point_vos, vidln, vng, davis):
        _output_arguments(sub)


def _engine_arguments(parser: Any, nouns: str) -> None:
    parser.add_argument("--narratives", type=Path, required=True, help="Video Localized Narratives, JSON lines")
    frames_help = "folder of VIDEO/ folders of frames, or VIDEO.mp4 files"
    parser.add_argument("--frames", type=Path, required=True, help=frames_help)
    parser.add_argument(
        "--segmenter", default=DEFAULT_SEGMENTER, help=f"what turns points into masks [{DEFAULT_SEGMENTER}]"
    )
    parser.add_argument("--checkpoint", help="weights of the segmenter: a folder or hub id [its own, where it has any]")
    propagator_help = "carry masks to all frames with this engine; without it only annotated frames"
    parser.add_argument("--propagator", help=propagator_help)
    nouns_help = f"noun_segments, auto (spaCy where installed), or a spaCy pipeline by name or path [{nouns}]"
    parser.add_argument("--nouns", default=nouns, help=nouns_help)
    parser.add_argument("--seed", type=_natural, default=0, help="of the held-out points [0]")


def _output_arguments(parser: Any) -> None:
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--dataset", default="", help="name in the rows [the annotations' own]")
    parser.add_argument("--split", type=_split_name, default="", help="split of the rows [the annotations' own]")
    parser.add_argument("--limit", type=_positive, help="convert this many videos only")
    parser.add_argument("--link-frames", action="store_true", help="refer to frames by path instead of embedding them")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when anything was left out")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


def _trio_arguments(parser: Any, required: bool) -> None:
    parser.add_argument("--meta", type=Path, required=required, help="meta_expressions.json")
    parser.add_argument("--extra-masks", type=Path, required=required, help="extra_masks.json")
    parser.add_argument(
        "--orig-masks", type=Path, required=required, help="the data set's own masks (YouTube-VIS layout)"
    )


def _build_options(arguments: argparse.Namespace, **more: Any) -> Any:
    from conversion.build import BuildOptions

    return BuildOptions(
        dataset=arguments.dataset,
        split=arguments.split,
        limit=arguments.limit,
        link_frames=arguments.link_frames,
        progress=not arguments.quiet,
        **more,
    )


def _engine_options(arguments: argparse.Namespace, held_out: float, use_trace: bool) -> Any:
    from conversion.build import check_engines
    from conversion.pseudo_masks import PseudoMaskSettings

    options = _build_options(
        arguments,
        segmenter=arguments.segmenter,
        checkpoint=arguments.checkpoint,
        propagator=arguments.propagator,
        nouns=arguments.nouns,
        use_trace=use_trace,
        pseudo=PseudoMaskSettings(held_out, arguments.seed),
    )
    check_engines(options)
    return options


def _run_convert_point_vos(arguments: argparse.Namespace) -> int:
    from conversion.build import convert_point_vos

    options = _engine_options(arguments, arguments.held_out, arguments.link == "name+trace")
    result = convert_point_vos(arguments.points, arguments.narratives, arguments.frames, arguments.out, options)
    return _report_conversion(result, arguments)


def _run_convert_vidln(arguments: argparse.Namespace) -> int:
    from conversion.build import convert_vidln

    result = convert_vidln(arguments.narratives, arguments.frames, arguments.out, _engine_options(arguments, 0.0, True))
    return _report_conversion(result, arguments)


def _run_convert_vng(arguments: argparse.Namespace) -> int:
    from conversion.build import convert_vng
    from conversion.official_vng import TrioFiles

    files = TrioFiles(arguments.meta, arguments.extra_masks, arguments.orig_masks)
    result = convert_vng(files, arguments.frames, arguments.out, _build_options(arguments))
    return _report_conversion(result, arguments)


def _run_convert_davis(arguments: argparse.Namespace) -> int:
    from conversion.vos_datasets import convert_davis

    return _report_conversion(convert_davis(arguments.root, arguments.out, _build_options(arguments)), arguments)


def _report_conversion(result: Any, arguments: argparse.Namespace) -> int:
    from vng.errors import PROBLEMS_FILE, summarise

    _report(result.totals, arguments.json)
    left_out = [problem for problem in result.problems if problem.kind == "error"]
    if result.problems:
        print(
            f"{arguments.out / PROBLEMS_FILE}: {len(left_out)} left out, {len(result.problems) - len(left_out)} notes",
            file=sys.stderr,
        )
        print(summarise(result.problems), file=sys.stderr)
    return 1 if arguments.strict and left_out else 0


def _export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        _run_export,
        "write a VNG dataset in another format",
        "vng export data/oops-vng --format official --out trio",
    )
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("--format", choices=("official",), default="official", help="official: the VNG JSON trio")
    parser.add_argument("--split", type=_split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def _run_export(arguments: argparse.Namespace) -> None:
    from conversion.official_vng import write_trio
    from vng.dataset import VngDataset

    files = write_trio(VngDataset(arguments.dataset, arguments.split), arguments.out)
    for path in (files.meta, files.extra_masks, files.orig_masks):
        print(path)


def _inspect(commands: Any) -> None:
    parser = _command(
        commands,
        "inspect",
        _run_inspect,
        "figures, quality and problems of a dataset, and a page to look at",
        "vng inspect data/oops-vng --html page",
    )
    parser.add_argument("dataset", type=Path, help="dataset folder")
    parser.add_argument("--html", type=Path, help="folder for index.html, which stands alone")
    parser.add_argument("--frames", type=Path, help="where linked frames lie now, if they moved")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _run_inspect(arguments: argparse.Namespace) -> None:
    from vng.errors import summarise
    from vng.inspection import inspect_dataset

    inspection = inspect_dataset(arguments.dataset, arguments.html, arguments.frames, progress=not arguments.quiet)
    figures = inspection.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures["counts"].items():
        print(f"{name:24}{value:>12,}")
    for name in ("point_agreement", "mask_area_share"):
        if figures[name]:
            print(f"{name:24}" + "".join(f"  {key} {value:.3f}" for key, value in figures[name].items()))
    print(f"{len(inspection.problems)} problems and notes")
    if inspection.problems:
        print(summarise(inspection.problems))
    if arguments.html:
        print(arguments.html / "index.html")


def _train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _run_train,
        "train a grounder or a click segmenter from a recipe; stopped and started again it goes on where it was",
        "vng train configs/grounder.yaml data.path=data/oops-vng out=out/run optimizer.lr=5e-5\n"
        "  accelerate launch -m vng.cli train configs/grounder.yaml data.path=data/oops-vng out=out/run",
    )
    parser.add_argument("config", type=Path, help="recipe: a YAML file, or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, dotted")


def _run_train(arguments: argparse.Namespace) -> None:
    from vng.training.tasks import build, load_recipe

    recipe = load_recipe(arguments.config, arguments.overrides)
    from vng.training.loop import train

    loss = train(recipe, build, progress=not arguments.quiet)
    print(f"{recipe.out}: trained, loss {loss:.4f}")


def _predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        _run_predict,
        "ground a narrative in a video, or every expression of a dataset",
        'vng predict --model RUN --video parrots.mp4 --narrative "A green [parrot] plays with the other [parrot]." --out result',
    )
    parser.add_argument("--model", required=True, help="run folder of `vng train`, or a hub id")
    parser.add_argument("--video", type=Path, help="a video file or a folder of frames")
    parser.add_argument("--narrative", help="text with its nouns in [brackets]")
    parser.add_argument("--dataset", type=Path, help="ground all expressions of this dataset, in the official layout")
    parser.add_argument("--split", type=_split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... [cuda if there is one]")


def _run_predict(arguments: argparse.Namespace) -> None:
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if alone:
        _predict_one(arguments)
        return
    from vng.dataset import VngDataset
    from vng.grounding import NarrativeGrounder
    from vng.prediction import predict_dataset

    grounder = NarrativeGrounder.from_pretrained(arguments.model, arguments.device)
    dataset = VngDataset(arguments.dataset, arguments.split)
    count = predict_dataset(grounder, dataset, arguments.out, arguments.model, progress=not arguments.quiet)
    print(f"{arguments.out}: {count} expressions")


def _predict_one(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.narratives import parse_nouns

    description, spans = parse_nouns(arguments.narrative)  # a wrong call is told before anything is loaded
    frames = open_frames(arguments.video)
    from vng.grounding import NarrativeGrounder

    grounder = NarrativeGrounder.from_pretrained(arguments.model, arguments.device)
    with tqdm(total=len(frames), desc="predict", unit="frame", disable=arguments.quiet) as bar:
        result = grounder.ground(frames, description, spans, on_frames=bar.update)
    result.save(arguments.out)
    for noun, score in zip(result.nouns, result.scores, strict=True):
        print(f"{noun}: {score:.3f}")
    print(arguments.out / "overlay.mp4")


def _evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="score predictions", description="Score predictions.")
    protocols = parser.add_subparsers(title="protocols", dest="protocol", required=True, metavar="PROTOCOL")
    vng = _command(
        protocols,
        "vng",
        _run_evaluate_vng,
        "the official Video Narrative Grounding score: J&F over all expressions",
        "vng evaluate vng --dataset data/ovis-vng --results RESULTS --json scores.json",
    )
    vng.add_argument("--dataset", type=Path, help="VNG dataset with true masks")
    _trio_arguments(vng, required=False)
    vng.add_argument("--split", type=_split_name, help="only rows of this split")
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
    vng.add_argument("--json", type=Path, help="write all scores to this file")


def _run_evaluate_vng(arguments: argparse.Namespace) -> None:
    from conversion.official_vng import TrioFiles, read_trio
    from vng.dataset import VngDataset
    from vng.evaluation.narrative import evaluate_narrative, other_object, own_object
    from vng.manifest import to_json, write_atomic

    trio = [arguments.meta, arguments.extra_masks, arguments.orig_masks]
    if (arguments.dataset is None) == (None in trio):
        raise UsageError("vng evaluate vng: give --dataset, or --meta, --extra-masks and --orig-masks")
    videos: Any
    if arguments.dataset is not None:
        videos = VngDataset(arguments.dataset, arguments.split)
    else:
        videos = read_trio(TrioFiles(*trio))
    from tqdm import tqdm

    shown = tqdm(videos, desc="evaluate", unit="video", disable=arguments.quiet)
    truth_of = other_object if arguments.against_others else own_object
    scores = evaluate_narrative(shown, arguments.results, arguments.missing, truth_of)
    if not scores.expressions:
        raise DataError(arguments.dataset or arguments.meta, "", "expressions", "no expression has an annotated frame")
    if arguments.json is not None:
        write_atomic(arguments.json, to_json(scores.as_json()))
    print(
        f"J&F {100 * scores.jf:.2f}  J {100 * scores.j:.2f}  F {100 * scores.f:.2f}  ({len(scores.expressions)} expressions)"
    )


def _report(totals: dict[str, int], as_json: bool) -> None:
    print(json.dumps(totals) if as_json else ", ".join(f"{value:,} {name}" for name, value in totals.items()))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """As argparse, but overrides may stand on both sides of an option (argparse takes one run of them only)."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = getattr(arguments, "overrides", None)
    if rest and (overrides is None or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*(overrides or []), *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "transformers", "datasets", "absl"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        arguments = _parse(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return int(stop.code or 0)
    try:
        return arguments.run(arguments) or 0
    except VngError as error:
        for line in str(error).splitlines():
            print(f"vng: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("vng: stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def entry_point() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
