"""What can be said to `vng`: commands, arguments, help. What is done about it stands in `cli.py`.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from vng import __version__
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS
from vng.segmenters import DEFAULT, ENGINES

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
    for add in (_demo, _synthesize, _convert, _export, _inspect, _compare, _train, _predict, _propagate, _evaluate):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: str, help_: str, example: str) -> Any:
    """A command's parser; `run` is its name in `cli.RUNS`."""
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


def _frame_count(text: str) -> int | str:
    """A positive number, or "all"."""
    return text if text == "all" else _positive(text)


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
        "demo",
        "the whole path on the procedural world, offline, in minutes",
        "vng demo --out out/demo",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where everything is written [out/demo]")


def _synthesize(commands: Any) -> None:
    parser = _command(
        commands,
        "synthesize",
        "synthesize",
        "write a procedural set in the official formats, with exact truth",
        "vng synthesize --out world --videos 50 --seed 1 --preset hard",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--videos", type=_positive, required=True, help="how many videos")
    parser.add_argument("--seed", type=_natural, default=0, help="the same seed gives the same bytes [0]")
    parser.add_argument("--preset", default="hard", help="how hard the world is: hard or easy [hard]")
    parser.add_argument("--split", type=_split_name, default="train", help="split prefix of the video names [train]")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


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
        "convert_point_vos",
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
        "convert_vidln",
        "VidLN narratives alone: pseudo-masks from mouse traces",
        "vng convert vidln --narratives OVIS_train.jsonl --frames frames/OVIS_train --out data/ovis-traces",
    )
    points = _command(
        kinds,
        "points",
        "convert_points",
        "a dataset whose objects have points, such as PV-DAVIS: pseudo-masks from them",
        "vng convert points --points data/pv-davis --segmenter embedded --out data/pv-davis-pseudo",
    )
    points.add_argument("--points", type=Path, required=True, help="dataset folder")
    _engine_arguments(points)
    _narrative_arguments(point_vos, nouns="auto")
    _narrative_arguments(vidln, nouns="noun_segments")
    for sub in (point_vos, points):
        sub.add_argument("--held-out", type=float, default=0.2, help="share of points kept to measure agreement [0.2]")
        sub.add_argument(
            "--min-agreement", type=float, default=0.0, help="leave out objects whose point agreement is lower [0]"
        )
    point_vos.add_argument(
        "--link", choices=("name", "name+trace"), default="name+trace", help="how a record finds its noun [name+trace]"
    )
    vng = _command(
        kinds,
        "vng",
        "convert_vng",
        "the official VNG trio (OVIS-VNG, UVO-VNG): true masks",
        "vng convert vng --meta meta_expressions.json --extra-masks extra_masks.json --orig-masks annotations_train.json "
        "--frames frames --out data/ovis-vng",
    )
    _trio_arguments(vng, required=True)
    vng.add_argument("--frames", type=Path, help="folder of frames; without it the rows carry no pixels")
    davis = _command(
        kinds,
        "davis",
        "convert_davis",
        "DAVIS folders: true masks, or points simulated from them, without narratives",
        "vng convert davis --root DAVIS --out data/davis",
    )
    davis.add_argument("--root", type=Path, required=True, help="folder with JPEGImages/ and Annotations/")
    image_set_help = "clips of ImageSets/SET.txt, such as 2017/val; its name is the split [all clips]"
    davis.add_argument("--image-set", default="", metavar="SET", help=image_set_help)
    davis.add_argument("--merge-objects", action="store_true", help="make one object of all, as DAVIS 2016 has it")
    youtube_vos = _command(
        kinds,
        "youtube-vos",
        "convert_youtube_vos",
        "YouTube-VOS folders: true masks on annotated frames, or points simulated from them, without narratives",
        "vng convert youtube-vos --root YouTube/train --out data/pv-yt --simulate 10",
    )
    root_help = "folder of a split, with meta.json, JPEGImages/ and Annotations/"
    youtube_vos.add_argument("--root", type=Path, required=True, help=root_help)
    frames_help = "folder of VIDEO/ folders, such as train_all_frames/JPEGImages [JPEGImages/ of the root]"
    youtube_vos.add_argument("--frames", type=Path, help=frames_help)
    annotated_help = (
        "whether a label image tells of all objects, or of those that first appear in it [by the folder's name: "
        "first for valid and test]"
    )
    youtube_vos.add_argument("--annotated", choices=("all", "first"), help=annotated_help)
    for sub in (davis, youtube_vos):
        _simulation_arguments(sub)
    benchmark = _command(
        kinds,
        "point-benchmark",
        "convert_point_benchmark",
        "a VNG dataset with points: the form of the PV-Oops benchmark, points on a reference frame and few true masks",
        "vng convert point-benchmark --source data/oops-val --narratives oops_val.jsonl --out data/pv-oops",
    )
    benchmark.add_argument("--source", type=Path, required=True, help="VNG dataset whose objects have points")
    trace_help = "drop objects whose mouse trace does not come after the reference frame, and evaluate on its frame: "
    benchmark.add_argument(
        "--narratives", type=Path, help=f"{trace_help}the VidLN narratives that the dataset was converted from"
    )
    benchmark.add_argument("--trace-frames", type=Path, help="the same from a JSON object {object id: frame name}")
    for sub in (point_vos, points, vidln, vng, davis, youtube_vos, benchmark):
        _output_arguments(sub)


def _narrative_arguments(parser: Any, nouns: str) -> None:
    parser.add_argument("--narratives", type=Path, required=True, help="Video Localized Narratives, JSON lines")
    frames_help = "folder of VIDEO/ folders of frames, or VIDEO.mp4 files"
    parser.add_argument("--frames", type=Path, required=True, help=frames_help)
    nouns_help = f"noun_segments, auto (spaCy where installed), or a spaCy pipeline by name or path [{nouns}]"
    parser.add_argument("--nouns", default=nouns, help=nouns_help)
    _engine_arguments(parser)


def _engine_arguments(parser: Any) -> None:
    parser.add_argument(
        "--segmenter", default=DEFAULT, help=f"what turns points into masks: {', '.join(ENGINES)} [{DEFAULT}]"
    )
    parser.add_argument("--checkpoint", help="weights of the segmenter: a folder or hub id")
    settings_help = (
        "a setting of the segmenter, such as refinements=3 (sam) or negatives_of_others=never; may be repeated"
    )
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help=settings_help)
    propagator_help = (
        f"carry masks to all frames: {', '.join(PROPAGATORS)} [without a name {DEFAULT_PROPAGATOR}; without the option only "
        "annotated frames have masks]"
    )
    parser.add_argument("--propagator", nargs="?", const=DEFAULT_PROPAGATOR, metavar="NAME", help=propagator_help)
    parser.add_argument("--seed", type=_natural, default=0, help="of the held-out points [0]")


def _simulation_arguments(parser: Any) -> None:
    group = parser.add_argument_group("points from masks", "As Point-VOS draws them (Sec. 3.1); all need --simulate.")
    simulate_help = "most positive points of an object in a frame; without it, masks and no points are written"
    group.add_argument("--simulate", type=_positive, metavar="N", help=simulate_help)
    negatives_help = "most negative points, on whatever is neither the object nor void [N of --simulate]"
    group.add_argument("--negatives", type=_natural, metavar="N", help=negatives_help)
    frames_help = "this many annotated frames, or all [10]"
    group.add_argument("--point-frames", type=_frame_count, metavar="F|all", help=frames_help)
    which_help = "which frames: evenly spaced, or drawn at random (App. A) [even]"
    group.add_argument("--frame-sampling", choices=("even", "random"), help=which_help)
    sampling_help = "random, or farthest-point sampling from the middle of the region [random]"
    group.add_argument("--sampling", choices=("random", "farthest"), help=sampling_help)
    distance_help = (
        "least distance of two points of one label, in pixels at 480 rows: at 240 rows half of it, and so on; "
        "where that many points do not fit, there are fewer [20]"
    )
    group.add_argument("--distance", type=float, metavar="PIXELS", help=distance_help)
    seed_help = "a point depends on it, and on the names of video, object and frame [0]"
    group.add_argument("--point-seed", type=_natural, metavar="S", help=seed_help)
    shared_help = (
        "draw the negatives of a frame once, on the background that its objects have in common, and give them to every "
        "object (farthest always does): the published counts of PV-DAVIS and PV-YouTube are 10 a frame"
    )
    group.add_argument("--shared-negatives", action="store_true", help=shared_help)
    group.add_argument("--keep-masks", action="store_true", help="keep the masks beside the points")


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


def _export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "export",
        "write a VNG dataset in another format",
        "vng export data/oops-vng --format official --out trio\n"
        "  vng export data/oops-vng --format point-png --out pngs",
    )
    parser.add_argument("dataset", type=Path, help="dataset folder")
    format_help = "official: the VNG JSON trio; point-png: verified points as Point-VOS PNGs [official]"
    parser.add_argument("--format", choices=("official", "point-png"), default="official", help=format_help)
    parser.add_argument("--split", type=_split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def _inspect(commands: Any) -> None:
    parser = _command(
        commands,
        "inspect",
        "inspect",
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


def _compare(commands: Any) -> None:
    parser = _command(
        commands,
        "compare",
        "compare",
        "two datasets of the same objects side by side: how alike their masks are, and which agree with the points",
        "vng compare data/oops-classical data/oops-embedded --html page",
    )
    parser.add_argument("first", type=Path, metavar="DATASET_A", help="dataset folder")
    parser.add_argument("second", type=Path, metavar="DATASET_B", help="dataset folder, of the same points")
    parser.add_argument("--html", type=Path, help="folder for index.html: the biggest disagreements")
    parser.add_argument("--frames", type=Path, help="where linked frames lie now, if they moved")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, object by object")


def _train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        "train",
        "train a grounder or a click segmenter from a recipe; stopped and started again it goes on where it was",
        "vng train configs/grounder.yaml data.path=data/oops-vng out=out/run optimizer.lr=5e-5\n"
        "  accelerate launch -m vng.cli train configs/grounder.yaml data.path=data/oops-vng out=out/run",
    )
    parser.add_argument("config", type=Path, help="recipe: a YAML file, or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, dotted")


def _predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        "predict",
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


PROPAGATE_EXAMPLES = """\
vng propagate --video parrots.mp4 --points points.json --out result
  vng propagate --video frames/ --masks 00000.png --propagator stcn --checkpoint RUN --out result
  vng propagate --dataset data/davis-val-points --points-per-object 1 2 5 10 --seeds 0 1 2 --out RESULTS

points, as JSON or CSV; x, y in pixels of the video, a frame by its index from 0 or its name:
  {"objects": {"parrot": [{"frame": 0, "x": 120, "y": 80, "label": "positive"}, ...], ...}}
  object,frame,x,y,label
labels: positive (where none is given), negative, ambiguous. Every object needs a positive point in some frame."""


def _propagate(commands: Any) -> None:
    parser = _command(
        commands,
        "propagate",
        "propagate",
        "carry points or masks of some frames to the whole video, or to every video of a dataset",
        PROPAGATE_EXAMPLES,
    )
    parser.add_argument("--video", type=Path, help="a video file or a folder of frames")
    parser.add_argument(
        "--points", type=Path, metavar="FILE", help="with --video: points of the objects, .json or .csv"
    )
    masks_help = "with --video: PNGs named by frame (a pixel's value is its object), or one PNG of the first frame"
    parser.add_argument("--masks", type=Path, metavar="DIR", help=masks_help)
    parser.add_argument("--dataset", type=Path, help="all videos of this dataset, for `vng evaluate vos`")
    parser.add_argument("--split", type=_split_name, help="with --dataset: only rows of this split")
    start_help = (
        "with --dataset: what is known of an object in its first frame; say --start-from under torchrun [points]"
    )
    parser.add_argument("--start", "--start-from", choices=("points", "masks"), help=start_help)
    counts_help = "with --start points: positive points of an object, a run for each number [10]"
    parser.add_argument("--points-per-object", type=_positive, nargs="+", metavar="N", help=counts_help)
    seeds_help = "with --start points: which points are drawn, a run for each seed [0]"
    parser.add_argument("--seeds", type=_natural, nargs="+", metavar="S", help=seeds_help)
    propagator_help = f"{', '.join(PROPAGATORS)} [{DEFAULT_PROPAGATOR}]"
    parser.add_argument("--propagator", metavar="NAME", default=DEFAULT_PROPAGATOR, help=propagator_help)
    parser.add_argument("--checkpoint", metavar="ID", help="weights of the propagator: a folder or hub id")
    set_help = "a setting of the propagator, such as reach=32 (flow); may be repeated"
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="KEY=VALUE", help=set_help)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ..., for propagators with networks [cpu]")
    threads_help = "with --dataset: threads of each process; torchrun starts several processes [1]"
    parser.add_argument("--threads", type=_natural, default=1, help=threads_help)
    out_help = "folder to write: masks/, overlay.mp4, objects.json, result.json; with --dataset the VOS results layout"
    parser.add_argument("--out", type=Path, required=True, help=out_help)
    parser.add_argument("--json", action="store_true", help="print the objects, or the totals, as JSON")


def _evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="score predictions", description="Score predictions.")
    protocols = parser.add_subparsers(title="protocols", dest="protocol", required=True, metavar="PROTOCOL")
    vng = _command(
        protocols,
        "vng",
        "evaluate_vng",
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
    _evaluate_vos(protocols)
    _evaluate_frame_sparsity(protocols)


def _evaluate_vos(protocols: Any) -> None:
    vos = _command(
        protocols,
        "vos",
        "evaluate_vos",
        "video object segmentation: DAVIS 2016 and 2017, YouTube-VOS, Point-VOS",
        "vng evaluate vos --dataset data/davis-val --results RESULTS --protocol davis --json scores.json\n"
        "  vng evaluate vos --dataset data/davis-val --results RESULTS --archive submission.zip",
    )
    vos.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks")
    vos.add_argument("--split", type=_split_name, help="only rows of this split")
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
    vos.add_argument("--json", type=Path, help="write all scores to this file")
    vos.add_argument("--csv", type=Path, help="write a line an object to this file")
    archive_help = "do not score: check the predictions and write them as the archive an evaluation server takes"
    vos.add_argument("--archive", type=Path, metavar="OUT.zip", help=archive_help)
    meta_help = "with --archive and youtube-vos: the meta.json that says which frames are wanted [all frames]"
    vos.add_argument("--meta", type=Path, metavar="META.json", help=meta_help)


def _evaluate_frame_sparsity(protocols: Any) -> None:
    study = _command(
        protocols,
        "frame-sparsity",
        "evaluate_frame_sparsity",
        "whether a few true masks a video rank methods as all of them do (Point-VOS, Figure 8)",
        "vng evaluate frame-sparsity --dataset data/davis-val --results METHOD_A METHOD_B METHOD_C --html page",
    )
    study.add_argument("--dataset", type=Path, required=True, help="VNG dataset with true masks on many frames")
    study.add_argument("--split", type=_split_name, help="only rows of this split")
    study.add_argument("--results", type=Path, nargs="+", required=True, help="folders of predictions, one a method")
    frames_help = "evenly spaced frames a video [1 2 3 5 10]"
    study.add_argument("--frames", type=_positive, nargs="+", default=[1, 2, 3, 5, 10], metavar="K", help=frames_help)
    study.add_argument(
        "--protocol", choices=("davis", "davis-2016", "youtube-vos"), default="davis", help="of the dense score [davis]"
    )
    study.add_argument(
        "--missing", choices=("error", "empty"), default="error", help="a prediction that is not there [error]"
    )
    study.add_argument("--seed", type=_natural, default=0, help="of the resampling behind the interval [0]")
    study.add_argument("--html", type=Path, help="folder for index.html and the plot, frame-sparsity.png")
    study.add_argument("--json", type=Path, help="write all figures to this file")
