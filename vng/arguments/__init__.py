"""What can be said to `vng`: commands, arguments, help. What is done about it stands in `cli.py`.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vng import __version__
from vng.arguments.convert import add_convert
from vng.arguments.evaluate import add_evaluate
from vng.arguments.types import command, natural, positive, setting, split_name
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS

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
    for add in (
        _demo,
        _synthesize,
        add_convert,
        _export,
        _inspect,
        _compare,
        _train,
        _import,
        _predict,
        _propagate,
        add_evaluate,
    ):
        add(commands)
    return parser


def _demo(commands: Any) -> None:
    parser = command(
        commands,
        "demo",
        "demo",
        "the whole path on the procedural world, offline, in minutes",
        "vng demo --out out/demo",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where everything is written [out/demo]")


def _synthesize(commands: Any) -> None:
    parser = command(
        commands,
        "synthesize",
        "synthesize",
        "write a procedural set in the official formats, with exact truth",
        "vng synthesize --out world --videos 50 --seed 1 --preset hard",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--videos", type=positive, required=True, help="how many videos")
    parser.add_argument("--seed", type=natural, default=0, help="the same seed gives the same bytes [0]")
    preset_help = "what the world is like: hard, easy, varied, crowded, occlusions or stills [hard]"
    parser.add_argument("--preset", default="hard", help=preset_help)
    parser.add_argument("--split", type=split_name, default="train", help="split prefix of the video names [train]")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")


def _export(commands: Any) -> None:
    parser = command(
        commands,
        "export",
        "export",
        "write a VNG dataset in another format",
        "vng export data/oops-vng --format official --out trio\n"
        "  vng export data/oops-vng --format point-png --out pngs\n"
        "  vng export data/davis --format coco --with-frames --out coco",
    )
    parser.add_argument("dataset", type=Path, help="dataset folder")
    format_help = (
        "official: the VNG JSON trio; davis: frames, palette PNGs and image sets; coco: JSON in YouTube-VIS layout; point-png: "
        "verified points as Point-VOS PNGs [official]"
    )
    formats = ("official", "davis", "coco", "point-png")
    parser.add_argument("--format", choices=formats, default="official", help=format_help)
    parser.add_argument("--with-frames", action="store_true", help="with --format coco: write the frames too, as JPEGs")
    parser.add_argument("--split", type=split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def _inspect(commands: Any) -> None:
    parser = command(
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
    parser = command(
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
    parser = command(
        commands,
        "train",
        "train",
        "train a grounder or a click segmenter from a recipe; stopped and started again it goes on where it was",
        "vng train configs/grounder.yaml data.path=data/oops-vng out=out/run optimizer.lr=5e-5\n"
        "  accelerate launch -m vng.cli train configs/grounder.yaml data.path=data/oops-vng out=out/run",
    )
    parser.add_argument("config", type=Path, help="recipe: a YAML file, or the name of a shipped one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, dotted")


def _import(commands: Any) -> None:
    parser = command(
        commands,
        "import",
        "import",
        "turn a checkpoint of the authors' ReferFormer, DynaMITe or STCN into a model folder",
        "vng import ytvos_r50.pth --model referformer --out out/referformer\n"
        "  vng import stcn.pth --model stcn --out out/stcn",
    )
    parser.add_argument("checkpoint", type=Path, help="the authors' .pth; nothing in it is executed")
    parser.add_argument("--model", choices=("referformer", "dynamite", "stcn"), required=True, help="whose it is")
    tokenizer_help = "folder or hub id of the grounder's tokenizer [FacebookAI/roberta-base]"
    parser.add_argument("--tokenizer", metavar="ID", help=tokenizer_help)
    conditioning_help = (
        "what the grounder's queries start from: the marked noun (RF-VNG), or the sentence, as it was trained [noun]"
    )
    parser.add_argument("--conditioning", choices=("noun", "sentence"), help=conditioning_help)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")


def _predict(commands: Any) -> None:
    parser = command(
        commands,
        "predict",
        "predict",
        "ground a narrative in a video, or every expression of a dataset",
        'vng predict --model RUN --video parrots.mp4 --narrative "A green [parrot] plays with the other [parrot]." --out result',
    )
    parser.add_argument("--model", required=True, help="run folder of `vng train`, or a hub id")
    parser.add_argument("--video", type=Path, help="a video file or a folder of frames")
    narrative_help = "text with its nouns in [brackets]; where none is marked, spaCy finds them"
    parser.add_argument("--narrative", help=narrative_help)
    nouns_help = "the spaCy pipeline that finds them, by name or path [en_core_web_sm]"
    parser.add_argument("--nouns", metavar="PIPELINE", default="en_core_web_sm", help=nouns_help)
    parser.add_argument("--dataset", type=Path, help="ground all expressions of this dataset, in the official layout")
    parser.add_argument("--split", type=split_name, help="only rows of this split")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... [cuda if there is one]")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision [float32]")
    parser.add_argument("--compile", action="store_true", help="torch.compile: slow to start, quicker then")
    attention_help = "of the text encoder and of backbones that have it: sdpa, eager, flash_attention_2, ... [sdpa]"
    parser.add_argument("--attention", metavar="NAME", help=attention_help)
    window_help = "frames that go through the network together; memory depends on it [24]"
    parser.add_argument("--window", type=positive, default=24, metavar="N", help=window_help)
    overlap_help = "frames a window sees again of the one before, to match queries by their masks [0: by their number]"
    parser.add_argument("--overlap", type=natural, default=0, metavar="N", help=overlap_help)
    _predict_propagation(parser)


def _predict_propagation(parser: Any) -> None:
    group = parser.add_argument_group("ground, then propagate")
    propagator_help = f"spread the masks of the surest frames over the video: {', '.join(PROPAGATORS)}"
    group.add_argument("--propagator", nargs="?", const=DEFAULT_PROPAGATOR, metavar="NAME", help=propagator_help)
    group.add_argument("--checkpoint", metavar="ID", help="weights of the propagator: a folder or hub id")
    set_help = "a setting of the propagator, such as every=10 (stcn); may be repeated"
    group.add_argument("--set", action="append", default=[], type=setting, metavar="KEY=VALUE", help=set_help)
    group.add_argument("--anchors", type=positive, metavar="N", help="most frames that a noun is spread from [3]")
    group.add_argument("--confidence", type=float, metavar="P", help="least class score of such a frame [0.5]")
    direction_help = "from them: both, forwards or backwards [both]"
    presence_help = "who says whether a thing is in a frame: the grounder, or also the propagator [grounder]"
    group.add_argument("--presence", choices=("grounder", "propagator"), help=presence_help)
    group.add_argument("--direction", choices=("both", "forwards", "backwards"), help=direction_help)


PROPAGATE_EXAMPLES = """\
vng propagate --video parrots.mp4 --points points.json --out result
  vng propagate --video frames/ --masks 00000.png --propagator stcn --checkpoint RUN --out result
  vng propagate --dataset data/davis-val-points --points-per-object 1 2 5 10 --seeds 0 1 2 --out RESULTS

points, as JSON or CSV; x, y in pixels of the video, a frame by its index from 0 or its name:
  {"objects": {"parrot": [{"frame": 0, "x": 120, "y": 80, "label": "positive"}, ...], ...}}
  object,frame,x,y,label
labels: positive (where none is given), negative, ambiguous. Every object needs a positive point in some frame."""


def _propagate(commands: Any) -> None:
    parser = command(
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
    parser.add_argument("--split", type=split_name, help="with --dataset: only rows of this split")
    start_help = (
        "with --dataset: what is known of an object in its first frame; say --start-from under torchrun [points]"
    )
    parser.add_argument("--start", "--start-from", choices=("points", "masks"), help=start_help)
    counts_help = "with --start points: positive points of an object, a run for each number [10]"
    parser.add_argument("--points-per-object", type=positive, nargs="+", metavar="N", help=counts_help)
    seeds_help = "with --start points: which points are drawn, a run for each seed [0]"
    parser.add_argument("--seeds", type=natural, nargs="+", metavar="S", help=seeds_help)
    propagator_help = f"{', '.join(PROPAGATORS)} [{DEFAULT_PROPAGATOR}]"
    parser.add_argument("--propagator", metavar="NAME", default=DEFAULT_PROPAGATOR, help=propagator_help)
    parser.add_argument("--checkpoint", metavar="ID", help="weights of the propagator: a folder or hub id")
    set_help = "a setting of the propagator, such as reach=32 (flow); may be repeated"
    parser.add_argument("--set", action="append", default=[], type=setting, metavar="KEY=VALUE", help=set_help)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ..., for propagators with networks [cpu]")
    threads_help = "with --dataset: threads of each process; torchrun starts several processes [1]"
    parser.add_argument("--threads", type=natural, default=1, help=threads_help)
    out_help = "folder to write: masks/, overlay.mp4, objects.json, result.json; with --dataset the VOS results layout"
    parser.add_argument("--out", type=Path, required=True, help=out_help)
    parser.add_argument("--json", action="store_true", help="print the objects, or the totals, as JSON")
