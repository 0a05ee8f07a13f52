"""`vng propagate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vng.commands.output import print_totals
from vng.errors import UsageError


def run_propagate(arguments: argparse.Namespace) -> None:
    """Carry prompts through one video, or a dataset's."""
    alone = arguments.video is not None
    if alone == (arguments.dataset is not None):
        raise UsageError("vng propagate: give --video, or --dataset")
    if alone and (arguments.points is None) == (arguments.masks is None):
        raise UsageError("vng propagate: with --video, give --points or --masks")
    for option in ("split", "start", "points_per_object", "seeds") if alone else ("points", "masks"):
        if getattr(arguments, option) is not None:
            goes_with = "dataset" if alone else "video"
            raise UsageError(f"vng propagate: --{option.replace('_', '-')} goes with --{goes_with}")
    (_propagate_video if alone else _propagate_dataset)(arguments)


def _propagator(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The engine, and what made it."""
    from vng.propagators import load

    given = dict(arguments.set) | ({} if arguments.device is None else {"device": arguments.device})
    said = {"checkpoint": arguments.checkpoint, "settings": given or None}
    options = {key: value for key, value in said.items() if value is not None}
    engine = load(arguments.propagator, **options)
    weights = getattr(engine, "fingerprint", None)
    return engine, {"propagator": arguments.propagator, **options} | ({"weights": weights} if weights else {})


def _propagate_video(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.manifest import content_hash
    from vng.propagation.mask_prompts import read_masks
    from vng.propagation.point_prompts import read_points
    from vng.propagation.video import FILM, check_out, propagate_to_folder

    check_out(arguments.out)
    frames = open_frames(arguments.video)
    given: Path = arguments.points or arguments.masks
    prompts = read_points(given, frames) if arguments.points else read_masks(given, frames)
    engine, settings = _propagator(arguments)
    settings |= {"video": str(arguments.video), "prompts": str(given), "prompts_sha256": content_hash(given)}
    for note in prompts.notes:
        print(f"note: {note}", file=sys.stderr)
    with tqdm(
        total=2 * len(frames), desc="propagate", unit="frame", disable=arguments.quiet
    ) as bar:  # masks, then film
        objects = propagate_to_folder(frames, prompts, engine, arguments.out, settings, on_frame=bar.update)
    if arguments.json:
        print(json.dumps(objects))
        return
    for item in objects:
        print(f"{item['name']}: seen in {item['frames_seen']} of {len(frames)} frames")
    print(arguments.out / FILM)


def _propagate_dataset(arguments: argparse.Namespace) -> None:
    from vng.dataset import VngDataset
    from vng.processes import current_processes
    from vng.propagation.dataset import Benchmark, propagate_dataset

    start = arguments.start or "points"
    if start == "masks" and (arguments.points_per_object or arguments.seeds):
        raise UsageError("vng propagate: --points-per-object and --seeds go with --start points")
    engine, settings = _propagator(arguments)
    benchmark = Benchmark(start, tuple(arguments.points_per_object or [10]), tuple(arguments.seeds or [0]))
    dataset = VngDataset(arguments.dataset, arguments.split)
    result = propagate_dataset(
        engine, dataset, arguments.out, benchmark, settings, arguments.threads, progress=not arguments.quiet
    )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    if current_processes().is_main:
        print_totals(result.totals, arguments.json)
