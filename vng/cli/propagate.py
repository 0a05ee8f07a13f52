"""The command `vng propagate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vng.cli.options import LAYOUT, SPLIT, Option, add_options, command, natural, path, positive, setting
from vng.cli.output import print_totals
from vng.errors import UsageError, printable
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS

NAME, SUMMARY = (
    "propagate",
    "propagate points or masks of some frames through a video, or through every video of a dataset",
)

EXAMPLES = """\
vng propagate --video parrots.mp4 --points points.json --out result
  vng propagate --video frames/ --masks 00000.png --propagator stcn --propagator-checkpoint RUN --out result
  vng propagate --dataset data/davis-val-points --points-per-object 1 2 5 10 --seeds 0 1 2 --out RESULTS

points, as JSON or CSV; x, y in pixels of the video, a frame by its index from 0 or its name:
  {"objects": {"parrot": [{"frame": 0, "x": 120, "y": 80, "label": "positive"}, ...], ...}}
  object,frame,x,y,label
labels: positive (default), negative, ambiguous. Every object needs a positive point in some frame."""

OF_VIDEO = ("points", "masks")
OF_DATASET = ("split", "format", "start", "points_per_object", "seeds")
ENGINE = (
    Option(
        name="propagator",
        default=DEFAULT_PROPAGATOR,
        metavar="NAME",
        help=f"{', '.join(PROPAGATORS)}, or a YAML file such as engines/sam-pt/default.yaml [{DEFAULT_PROPAGATOR}]",
    ),
    Option(name="propagator_checkpoint", metavar="ID", help="weights of the propagator: a folder or hub id"),
    Option(
        name="propagator_set",
        type=setting,
        repeated=True,
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the propagator, such as reach=32 (flow); may be repeated",
    ),
    Option(name="device", help="cpu, cuda, cuda:1, ..., for propagators with networks [cuda if there is one]"),
)


PROMPTS = (
    Option(name="video", type=path, help="a video file or a folder of frames"),
    Option(
        name="points",
        type=path,
        metavar="FILE",
        help="with --video: points of the objects, .json, .csv, or .txt as in SAM-PT's demo",
    ),
    Option(
        name="masks",
        type=path,
        metavar="DIR",
        help="with --video: PNGs named by frame (a pixel's value is its object), or one PNG of the first frame",
    ),
    Option(name="dataset", type=path, help="all videos of this dataset, for `vng evaluate vos`"),
    SPLIT,
)
START = "with --dataset: the prompt of an object in its first frame; under torchrun use --start-from [points]"
OPTIONS = (
    Option(
        name="points_per_object",
        type=positive,
        many=True,
        metavar="N",
        help="with --start points: numbers of positive points per object, one run for each [10]",
    ),
    Option(
        name="seeds",
        type=natural,
        many=True,
        metavar="S",
        help="with --start points: seeds for drawing points, one run for each [0]",
    ),
    *ENGINE,
    Option(
        name="threads",
        type=natural,
        default=1,
        help="with --dataset: threads per process; torchrun starts several processes [1]",
    ),
    Option(
        name="out",
        type=path,
        required=True,
        help="folder to write: masks/, overlay.mp4, objects.json, result.json; with --dataset the VOS results layout",
    ),
    LAYOUT,
    Option(name="json", flag=True, help="print the objects, or the totals, as JSON"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng propagate`."""
    parser = command(commands, NAME, run, SUMMARY, EXAMPLES)
    add_options(parser, PROMPTS)
    parser.add_argument("--start", "--start-from", choices=("points", "masks"), help=START)
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Propagate prompts through one video, or through the videos of a dataset."""
    alone = arguments.video is not None
    if alone == (arguments.dataset is not None):
        raise UsageError("vng propagate: give --video, or --dataset")
    if alone and (arguments.points is None) == (arguments.masks is None):
        raise UsageError("vng propagate: with --video, give --points or --masks")
    for option in OF_DATASET if alone else OF_VIDEO:
        if getattr(arguments, option) is not None:
            goes_with = "dataset" if alone else "video"
            raise UsageError(f"vng propagate: --{option.replace('_', '-')} goes with --{goes_with}")
    (_propagate_video if alone else _propagate_dataset)(arguments)


def _propagate_video(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.manifest import content_hash
    from vng.propagation.mask_prompts import read_masks
    from vng.propagation.point_prompts import read_points
    from vng.propagation.video import FILM, check_out, propagate_to_folder

    check_out(arguments.out)
    frames = open_frames(arguments.video)
    source: Path = arguments.points or arguments.masks
    prompts = read_points(source, frames) if arguments.points else read_masks(source, frames)
    engine, settings = _engine(arguments)
    settings |= {"video": str(arguments.video), "prompts": str(source), "prompts_sha256": content_hash(source)}
    for note in (*frames.notes, *prompts.notes):
        print(f"note: {note}", file=sys.stderr)
    total = 2 * len(frames)  # masks, then overlay video
    with tqdm(total=total, desc="propagate", unit="frame", disable=arguments.quiet) as bar:
        objects = propagate_to_folder(frames, prompts, engine, arguments.out, settings, on_frame=bar.update)
    if arguments.json:
        print(json.dumps(objects))
        return
    for item in objects:
        print(f"{printable(item['name'])}: seen in {item['frames_seen']} of {len(frames)} frames")
    print(arguments.out / FILM)


def _propagate_dataset(arguments: argparse.Namespace) -> None:
    from vng.dataset import VngDataset
    from vng.processes import current_processes
    from vng.propagation.dataset import Benchmark, propagate_dataset

    start = arguments.start or "points"
    if start == "masks" and (arguments.points_per_object or arguments.seeds):
        raise UsageError("vng propagate: --points-per-object and --seeds go with --start points")
    engine, settings = _engine(arguments)
    benchmark = Benchmark(start, tuple(arguments.points_per_object or [10]), tuple(arguments.seeds or [0]))
    dataset = VngDataset(arguments.dataset, arguments.split)
    result = propagate_dataset(
        engine,
        dataset,
        arguments.out,
        benchmark,
        settings,
        arguments.threads,
        progress=not arguments.quiet,
        layout=arguments.format or "compact",
    )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if current_processes().is_main:
        print_totals(result.totals, arguments.json)


def _engine(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The engine, and its settings for the manifest."""
    from vng.engines import read_engine
    from vng.processes import current_processes
    from vng.propagators import load

    current_processes()  # connects the processes of a launcher before weights are loaded
    settings = dict(arguments.propagator_set)
    # As a setting: an engine of the CPU refuses a device that was asked for by name.
    settings |= {} if arguments.device is None else {"device": arguments.device}
    values = {"checkpoint": arguments.propagator_checkpoint, "settings": settings or None}
    options = {key: value for key, value in values.items() if value is not None}
    name, options = read_engine("propagator", arguments.propagator, options)
    engine = load(name, **options)
    weights = getattr(engine, "fingerprint", None)
    return engine, {"propagator": name, **options} | ({"weights": weights} if weights else {})
