"""`vng predict`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vng.errors import UsageError

SPREADING = ("checkpoint", "anchors", "confidence", "direction", "presence")  # options that PropagationSettings has


def run_predict(arguments: argparse.Namespace) -> None:
    """Ground one narrative, or a dataset's."""
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if arguments.propagator is None:
        for name in (*SPREADING, "set"):
            if getattr(arguments, name) not in (None, []):
                raise UsageError(f"vng predict: --{name} goes with --propagator")
    (_predict_one if alone else _predict_dataset)(arguments)


def _predict_dataset(arguments: argparse.Namespace) -> None:
    from vng.dataset import VngDataset
    from vng.grounding.dataset import predict_dataset

    grounder = _grounder(arguments)
    dataset = VngDataset(arguments.dataset, arguments.split)
    count = predict_dataset(grounder, dataset, arguments.out, arguments.model, progress=not arguments.quiet)
    print(f"{arguments.out}: {count} expressions")


def _grounder(arguments: argparse.Namespace) -> Any:
    from vng.grounding.ground_then_propagate import PropagationSettings
    from vng.grounding.grounder import NarrativeGrounder
    from vng.grounding.windows import WindowSettings

    propagation = None
    if arguments.propagator is not None:
        said = {name: value for name in SPREADING if (value := getattr(arguments, name)) is not None}
        propagation = PropagationSettings(arguments.propagator, options=dict(arguments.set), **said)
    grounder = NarrativeGrounder.from_pretrained(
        arguments.model,
        arguments.device,
        arguments.dtype,
        arguments.compile,
        arguments.attention,
        windows=WindowSettings(arguments.window, arguments.overlap),
        propagation=propagation,
    )
    if grounder.shares_features:
        print("note: backbone and propagator are one network; its features are computed once", file=sys.stderr)
    return grounder


def _predict_one(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.narratives import nouns_in

    description, spans = nouns_in(
        arguments.narrative, arguments.nouns
    )  # a wrong call is told before anything is loaded
    frames = open_frames(arguments.video)
    grounder = _grounder(arguments)
    total = grounder.passes * len(frames)
    with tqdm(total=total, desc="predict", unit="frame", disable=arguments.quiet) as bar:
        result = grounder.ground(frames, description, spans, on_frames=bar.update)
    result.save(arguments.out)
    for noun, score in zip(result.nouns, result.scores, strict=True):
        print(f"{noun}: {score:.3f}")
    print(arguments.out / "overlay.mp4")
