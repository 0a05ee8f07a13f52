"""The command `vng predict`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vng.cli.options import LAYOUT, SPLIT, Option, add_options, command, natural, path, positive, setting
from vng.errors import UsageError, printable
from vng.options import real
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS

NAME, SUMMARY = "predict", "ground a narrative in a video, or every expression of a dataset"

_GROUP = "ground, then propagate"
PROPAGATION = (  # options -> fields of PropagationSettings
    Option(
        name="propagator_checkpoint",
        metavar="ID",
        group=_GROUP,
        help="weights of the propagator: a folder or hub id",
    ),
    Option(
        name="propagator_set",
        type=setting,
        repeated=True,
        default=[],
        metavar="KEY=VALUE",
        group=_GROUP,
        help="a setting of the propagator, such as every=10 (stcn); may be repeated",
    ),
    Option(
        name="anchors",
        type=positive,
        metavar="N",
        group=_GROUP,
        help="maximum number of anchors, the frames from which a noun's masks are propagated [3]",
    ),
    Option(name="confidence", type=real, metavar="P", group=_GROUP, help="minimum class score of an anchor [0.5]"),
    Option(
        name="presence",
        choices=("grounder", "propagator"),
        group=_GROUP,
        help="engine that decides whether an object is in a frame: the grounder, or the propagator too [grounder]",
    ),
    Option(
        name="direction",
        choices=("both", "forwards", "backwards"),
        group=_GROUP,
        help="direction of propagation from the anchors: both, forwards or backwards [both]",
    ),
)
OPTIONS = (
    Option(name="model", required=True, help="run folder of `vng train`, or a hub id"),
    Option(name="video", type=path, help="a video file or a folder of frames"),
    Option(name="narrative", help="text with its nouns in [brackets]; without brackets, spaCy finds the nouns"),
    Option(
        name="nouns",
        default="en_core_web_sm",
        metavar="PIPELINE",
        help="the spaCy pipeline that finds nouns, by name or path [en_core_web_sm]",
    ),
    Option(name="dataset", type=path, help="ground all expressions of this dataset, for `vng evaluate vng`"),
    SPLIT,
    Option(name="out", type=path, required=True, help="folder to write"),
    LAYOUT,
    Option(name="device", help="cpu, cuda, cuda:1, ... [cuda if there is one]"),
    Option(name="dtype", choices=("float32", "bfloat16", "float16"), help="precision [float32]"),
    Option(name="compile", flag=True, help="use torch.compile: slow to start, faster afterwards"),
    Option(
        name="attention",
        metavar="NAME",
        help="attention of the text encoder and of backbones that use it: sdpa, eager, flash_attention_2, ... [sdpa]",
    ),
    Option(
        name="window",
        type=natural,
        default=24,
        metavar="N",
        help="number of frames the network processes together, which determines memory; 0: all, as ReferFormer [24]",
    ),
    Option(
        name="overlap",
        type=natural,
        default=0,
        metavar="N",
        help="number of frames a window shares with the previous one, to match queries by masks [0: match by number]",
    ),
    Option(
        name="propagator",
        without=DEFAULT_PROPAGATOR,
        metavar="NAME",
        group=_GROUP,
        help=f"propagate the masks of the most confident frames through the video: {', '.join(PROPAGATORS)}",
    ),
    *PROPAGATION,
)


def add(commands: Any) -> None:
    """Add the parser of `vng predict`."""
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
    """Ground one narrative, or all expressions of a dataset."""
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if alone and arguments.format is not None:
        raise UsageError("vng predict: --format goes with --dataset")
    if arguments.propagator is None:
        for option in PROPAGATION:
            if getattr(arguments, option.name) not in (None, []):
                raise UsageError(f"vng predict: --{option.name.replace('_', '-')} goes with --propagator")
    (_predict_video if alone else _predict_dataset)(arguments)


def _predict_dataset(arguments: argparse.Namespace) -> None:
    from vng import VngDataset, predict
    from vng.processes import current_processes

    processes = current_processes()  # assigns each process its accelerator before weights are loaded onto it
    grounder = _grounder(arguments)
    dataset = VngDataset(arguments.dataset, arguments.split)
    layout: Any = arguments.format or "compact"
    count = predict(grounder, dataset, arguments.out, layout=layout, progress=not arguments.quiet)
    if processes.is_main:
        print(f"{arguments.out}: {count} expressions")


def _predict_video(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.narratives import nouns_in

    # Errors of the call are reported before the model is loaded.
    description, spans = nouns_in(arguments.narrative, arguments.nouns)
    frames = open_frames(arguments.video)
    for note in frames.notes:
        print(f"note: {note}", file=sys.stderr)
    grounder = _grounder(arguments)
    total = grounder.passes(len(frames))
    with tqdm(total=total, desc="predict", unit="frame", disable=arguments.quiet) as bar:
        result = grounder.ground(frames, description, spans, on_frames=bar.update)
    result.save(arguments.out)
    for noun, score in zip(result.nouns, result.scores, strict=True):
        print(f"{printable(noun)}: {score:.3f}")
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
