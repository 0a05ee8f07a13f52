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
    for add in (_demo, _synthesize, _convert, _export, _inspect, _compare, _train, _predict, _evaluate):
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


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


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
        "--min-agreement", type=float, default=0.0, help="leave out objects whose point agreement is lower [0]"
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
    parser.add_argument("--segmenter", help="what turns points into masks [classical]")
    parser.add_argument("--checkpoint", help="weights of the segmenter: a folder or hub id")
    settings_help = (
        "a setting of the segmenter, such as refinements=3 (sam) or negatives_of_others=never; may be repeated"
    )
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help=settings_help)
    propagator_help = "carry masks to all frames with this engine; without it only annotated frames"
    parser.add_argument("--propagator", help=propagator_help)
    nouns_help = f"noun_segments, auto (spaCy where installed), or a spaCy pipeline by name or path [{nouns}]"
    parser.add_argument("--nouns", default=nouns, help=nouns_help)
    parser.add_argument("--seed", type=_natural, default=0, help="of the held-out points [0]")


def _output_arguments(parser: Any) -> None:
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--dataset", default="", help="name in the rows [the annotations' own]")
    parser.add_argument("--split", type=_split_name, default="", help="split of the rows [the annotations' own]")
    parser.add_argument("--only", action="append", default=[], metavar="VIDEO", help="this video only; may be repeated")
    subset_help = "only what this list names, one object key or video a line (Point-VOS publishes two)"
    parser.add_argument("--subset", type=Path, metavar="FILE", help=subset_help)
    parser.add_argument("--limit", type=_positive, help="convert this many videos only")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and how long it would take; write nothing"
    )
    threads_help = "threads of each process; the result depends on it in the last digits, so scale by processes [1]"
    parser.add_argument("--threads", type=_natural, default=1, help=threads_help)
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
    from conversion.options import BuildOptions, check_options

    options = BuildOptions(
        dataset=arguments.dataset,
        split=arguments.split,
        only=tuple(arguments.only),
        subset=arguments.subset,
        limit=arguments.limit,
        link_frames=arguments.link_frames,
        threads=arguments.threads,
        progress=not arguments.quiet,
        **more,
    )
    check_options(options)
    return options


def _engine_options(arguments: argparse.Namespace, held_out: float, **more: Any) -> Any:
    from conversion.pseudo_masks import PseudoMaskSettings

    if arguments.segmenter is not None:
        more["segmenter"] = arguments.segmenter
    return _build_options(
        arguments,
        checkpoint=arguments.checkpoint,
        settings=tuple(arguments.set),
        propagator=arguments.propagator,
        nouns=arguments.nouns,
        pseudo=PseudoMaskSettings(held_out, arguments.seed),
        **more,
    )


def _run_convert_point_vos(arguments: argparse.Namespace) -> int:
    from conversion.build import point_vos_conversion

    options = _engine_options(
        arguments, arguments.held_out, use_trace=arguments.link == "name+trace", min_agreement=arguments.min_agreement
    )
    conversion = point_vos_conversion(arguments.points, arguments.narratives, arguments.frames, options)
    return _run_conversion(conversion, arguments)


def _run_convert_vidln(arguments: argparse.Namespace) -> int:
    from conversion.build import vidln_conversion

    options = _engine_options(arguments, 0.0)
    return _run_conversion(vidln_conversion(arguments.narratives, arguments.frames, options), arguments)


def _run_convert_vng(arguments: argparse.Namespace) -> int:
    from conversion.build import vng_conversion
    from conversion.official_vng import TrioFiles

    files = TrioFiles(arguments.meta, arguments.extra_masks, arguments.orig_masks)
    return _run_conversion(vng_conversion(files, arguments.frames, _build_options(arguments)), arguments)


def _run_convert_davis(arguments: argparse.Namespace) -> int:
    from conversion.build import davis_conversion

    return _run_conversion(davis_conversion(arguments.root, _build_options(arguments)), arguments)


def _run_conversion(conversion: Any, arguments: argparse.Namespace) -> int:
    from conversion.build import convert, estimate
    from vng.errors import PROBLEMS_FILE, summarise
    from vng.processes import current_processes

    if arguments.dry_run:
        _report_estimate(estimate(conversion, arguments.out), arguments.json)
        return 0
    result = convert(conversion, arguments.out)
    left_out = [problem for problem in result.problems if problem.kind == "error"]
    if current_processes().is_main:
        _report(result.totals, arguments.json)
        if result.problems:
            notes = len(result.problems) - len(left_out)
            print(f"{arguments.out / PROBLEMS_FILE}: {len(left_out)} left out, {notes} notes", file=sys.stderr)
            print(summarise(result.problems), file=sys.stderr)
    return 1 if arguments.strict and left_out else 0


def _report_estimate(expected: Any, as_json: bool) -> None:
    from datetime import timedelta

    told = expected.as_json()
    if as_json:
        print(json.dumps(told))
        return
    print(
        f"{expected.videos:,} videos from {expected.records:,} records, {expected.problems:,} problems met while reading"
    )
    print(f"{expected.done:,} videos are converted already, {expected.videos - expected.done:,} are left")
    if told["seconds_left"] is not None:
        hours, size = timedelta(seconds=round(told["seconds_left"])), told["bytes_left"] / 2**20
        pace = f"{expected.seconds_per_video:.2f} s a video"
        print(f"about {hours} (h:mm:ss) in one process, {pace}; about {size:,.1f} MiB. Nothing was written.")
        print("n processes take an n-th of it: torchrun --nproc_per_node N -m vng.cli convert ...")


def _export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        _run_export,
        "write a VNG dataset in another format",
        "vng export data/oops-vng --format official --out trio\n"
        "  vng export data/oops-vng --format point-png --out pngs",
    )
    parser.add_argument("dataset", type=Path, help="dataset folder")
    format_help = "official: the VNG JSON trio; point-png: verified points as Point-VOS PNGs [official]"
    parser.add_argument("--format", choices=("official", "point-png"), default="official", help=format_help)
    parser.add_argument("--split", type=_split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def _run_export(arguments: argparse.Namespace) -> None:
    from vng.dataset import VngDataset

    dataset = VngDataset(arguments.dataset, arguments.split)
    if arguments.format == "point-png":
        _export_point_pngs(dataset, arguments)
        return
    from conversion.official_vng import write_trio

    files = write_trio(dataset, arguments.out)
    for path in (files.meta, files.extra_masks, files.orig_masks):
        print(path)


def _export_point_pngs(dataset: Any, arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from conversion.point_pngs import write_point_pngs
    from vng.errors import PROBLEMS_FILE, summarise

    videos = tqdm(dataset, total=len(dataset), desc="export", unit="video", disable=arguments.quiet)
    export = write_point_pngs(videos, arguments.out)
    _report(export.totals, as_json=False)
    if export.problems:
        print(f"{arguments.out / PROBLEMS_FILE}: {len(export.problems)} problems and notes", file=sys.stderr)
        print(summarise(export.problems), file=sys.stderr)


def _inspect(commands: Any) -> None:
    parser = _command(
        commands,
        "inspect",
        _run_inspect,
        "figures, quality and problems of a dataset or of published annotations, and a page to look at",
        "vng inspect data/oops-vng --html page\n"
        "  vng inspect --points Oops/train.json --subset oops_train_subset.txt --html page",
    )
    parser.add_argument("dataset", type=Path, nargs="?", help="dataset folder")
    points_help = "instead of a dataset: Point-VOS points as published (JSON, JSON lines, PNG folder)"
    parser.add_argument("--points", type=Path, help=points_help)
    parser.add_argument("--narratives", type=Path, help="instead of, or beside --points: VidLN narratives as published")
    parser.add_argument("--subset", type=Path, help="count only what this list names: an object key or video a line")
    parser.add_argument("--html", type=Path, help="folder for index.html, which stands alone")
    parser.add_argument("--frames", type=Path, help="where linked frames of a dataset lie now, if they moved")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _run_inspect(arguments: argparse.Namespace) -> None:
    published = arguments.points is not None or arguments.narratives is not None
    if published == (arguments.dataset is not None):
        raise UsageError("vng inspect: give a dataset folder, or --points, --narratives or both")
    if arguments.subset is not None and not published:
        raise UsageError("vng inspect: --subset goes with --points or --narratives")
    (_inspect_annotations if published else _inspect_dataset)(arguments)


def _inspect_dataset(arguments: argparse.Namespace) -> None:
    from vng.dataset import MEASURES
    from vng.inspection import inspect_dataset

    inspection = inspect_dataset(arguments.dataset, arguments.html, arguments.frames, progress=not arguments.quiet)
    figures = inspection.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures["counts"].items():
        print(f"{name:24}{value:>12,}")
    for name in ("mask_area_share", *MEASURES):
        if figures[name]:
            print(f"{name:24}" + "".join(f"  {key} {value:.3f}" for key, value in figures[name].items()))
    if inspection.points.objects:
        print("\nverified points")
        _print_points(inspection.points, inspection.published(arguments.dataset))
    _print_problems(inspection.problems, arguments.html)


def _inspect_annotations(arguments: argparse.Namespace) -> None:
    from conversion.point_inspection import inspect_annotations
    from conversion.subsets import read_subset

    subset = None if arguments.subset is None else read_subset(arguments.subset)
    inspection = inspect_annotations(
        arguments.points, arguments.narratives, subset, arguments.html, progress=not arguments.quiet
    )
    if arguments.json:
        print(json.dumps(inspection.as_json()))
        return
    if inspection.points.objects:
        _print_points(inspection.points, inspection.published)
    for name, value in {**inspection.left_out, **inspection.narratives}.items():
        print(f"{name:28}{value:>12,}" + ("  (left out)" if name in inspection.left_out else ""))
    _print_problems(inspection.problems, arguments.html)


def _print_points(points: Any, published: Any) -> None:
    from vng.point_statistics import all_frames_text, table_rows

    if published is not None:
        print(f"{'':28}{'here':>12}{'published':>12}  {published.name}")
    for name, here, printed, verdict in table_rows(points, published):
        print(f"{name:28}{here:>12}{printed:>12}  {verdict}".rstrip())
    print(all_frames_text(points, published))


def _print_problems(problems: Any, html: Path | None) -> None:
    from vng.errors import summarise

    print(f"{len(problems)} problems and notes")
    if problems:
        print(summarise(problems))
    if html:
        print(html / "index.html")


def _compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        _run_compare,
        "two datasets of the same objects side by side: how alike their masks are, and which agree with the points",
        "vng compare data/oops-classical data/oops-embedded --html page",
    )
    parser.add_argument("first", type=Path, metavar="DATASET_A", help="dataset folder")
    parser.add_argument("second", type=Path, metavar="DATASET_B", help="dataset folder, of the same points")
    parser.add_argument("--html", type=Path, help="folder for index.html: the biggest disagreements")
    parser.add_argument("--frames", type=Path, help="where linked frames lie now, if they moved")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, object by object")


def _run_compare(arguments: argparse.Namespace) -> None:
    from vng.comparison import compare_datasets
    from vng.dataset import MEASURES

    compared = compare_datasets(
        arguments.first, arguments.second, arguments.html, arguments.frames, progress=not arguments.quiet
    )
    figures = compared.as_json()
    if arguments.json:
        print(json.dumps(figures))
        return
    alike = "no frame in common" if compared.iou is None else f"mean IoU {compared.iou:.3f}"
    print(f"{len(compared.objects):,} objects in both, {alike}")
    print(f"only in one: {len(compared.only_first):,} and {len(compared.only_second):,}")
    for name in MEASURES:
        if (known := figures[name]) is not None:
            interval = "{first:.3f} and {second:.3f}, difference {difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"{name:16} {interval.format(**known)} over {known['objects']:,} objects")
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
