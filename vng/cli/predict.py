"""`vng predict`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vng.cli.options import SPLIT, Option, add_options, command, natural, path, positive, setting
from vng.errors import UsageError
from vng.options import real
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS

NAME, SUMMARY = "predict", "ground a narrative in a video, or every expression of a dataset"

_SPREAD = "ground, then propagate"
PROPAGATION = (  # options -> fields of PropagationSettings
    Option(
        name="propagator_checkpoint",
        metavar="ID",
        group=_SPREAD,
        help="weights of the propagator: a folder or hub id",
    ),
    Option(
        name="propagator_set",
        type=setting,
        repeated=True,
        default=[],
        metavar="KEY=VALUE",
        group=_SPREAD,
        help="a setting of the propagator, such as every=10 (stcn); may be repeated",
    ),
    Option(
        name="anchors", type=positive, metavar="N", group=_SPREAD, help="most frames that a noun is spread from [3]"
    ),
    Option(name="confidence", type=real, metavar="P", group=_SPREAD, help="least class score of such a frame [0.5]"),
    Option(
        name="presence",
        choices=("grounder", "propagator"),
        group=_SPREAD,
        help="who decides whether a thing is in a frame: the grounder, or also the propagator [grounder]",
    ),
    Option(
        name="direction",
        choices=("both", "forwards", "backwards"),
        group=_SPREAD,
        help="from them: both, forwards or backwards [both]",
    ),
)
OPTIONS = (
    Option(name="model", required=True, help="run folder of `vng train`, or a hub id"),
    Option(name="video", type=path, help="a video file or a folder of frames"),
    Option(name="narrative", help="text with its nouns in [brackets]; where none is marked, spaCy finds them"),
    Option(
        name="nouns",
        default="en_core_web_sm",
        metavar="PIPELINE",
        help="the spaCy pipeline that finds them, by name or path [en_core_web_sm]",
    ),
    Option(name="dataset", type=path, help="ground all expressions of this dataset, in the official layout"),
    SPLIT,
    Option(name="out", type=path, required=True, help="folder to write"),
    Option(name="device", help="cpu, cuda, cuda:1, ... [cuda if there is one]"),
    Option(name="dtype", choices=("float32", "bfloat16", "float16"), help="precision [float32]"),
    Option(name="compile", flag=True, help="torch.compile: slow to start, quicker then"),
    Option(
        name="attention",
        metavar="NAME",
        help="of the text encoder and of backbones that have it: sdpa, eager, flash_attention_2, ... [sdpa]",
    ),
    Option(
        name="window",
        type=positive,
        default=24,
        metavar="N",
        help="frames that go through the network together; memory depends on it [24]",
    ),
    Option(
        name="overlap",
        type=natural,
        default=0,
        metavar="N",
        help="frames a window sees again of the one before, to match queries by their masks [0: by their number]",
    ),
    Option(
        name="propagator",
        without=DEFAULT_PROPAGATOR,
        metavar="NAME",
        group=_SPREAD,
        help=f"spread the masks of the surest frames over the video: {', '.join(PROPAGATORS)}",
    ),
    *PROPAGATION,
)


def add(commands: Any) -> None:
    """The command's parser."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng predict --model RUN --video parrots.mp4 "
        '--narrative "A green [parrot] plays with the other [parrot]." --out result',
    )
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Ground one narrative, or a dataset's."""
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if arguments.propagator is None:
        for option in PROPAGATION:
            if getattr(arguments, option.name) not in (None, []):
                raise UsageError(f"vng predict: --{option.name.replace('_', '-')} goes with --propagator")
    (_predict_video if alone else _predict_dataset)(arguments)


def _predict_dataset(arguments: argparse.Namespace) -> None:
    from vng import VngDataset, predict

    grounder = _grounder(arguments)
    dataset = VngDataset(arguments.dataset, arguments.split)
    count = predict(grounder, dataset, arguments.out, progress=not arguments.quiet)
    print(f"{arguments.out}: {count} expressions")


def _predict_video(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.narratives import nouns_in

    # A wrong call is reported before anything is loaded.
    description, spans = nouns_in(arguments.narrative, arguments.nouns)
    frames = open_frames(arguments.video)
    grounder = _grounder(arguments)
    total = grounder.passes * len(frames)
    with tqdm(total=total, desc="predict", unit="frame", disable=arguments.quiet) as bar:
        result = grounder.ground(frames, description, spans, on_frames=bar.update)
    result.save(arguments.out)
    for noun, score in zip(result.nouns, result.scores, strict=True):
        print(f"{noun}: {score:.3f}")
    print(arguments.out / "overlay.mp4")


def _grounder(arguments: argparse.Namespace) -> Any:
    from vng.grounding.ground_then_propagate import PropagationSettings
    from vng.grounding.grounder import NarrativeGrounder
    from vng.grounding.windows import WindowSettings

    propagation = None
    if arguments.propagator is not None:
        values = {option.name: getattr(arguments, option.name) for option in PROPAGATION}
        checkpoint, settings = values.pop("propagator_checkpoint"), dict(values.pop("propagator_set"))
        values = {name: value for name, value in values.items() if value is not None}
        propagation = PropagationSettings(
            propagator=arguments.propagator, checkpoint=checkpoint, options=settings, **values
        )
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
