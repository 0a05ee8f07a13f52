"""The command `vng predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from vng.cli.options import LAYOUT, SPLIT, Option, add_options, command, natural, path, positive, setting
from vng.detectors import DEFAULT as DEFAULT_DETECTOR
from vng.detectors import ENGINES as DETECTORS
from vng.errors import UsageError, printable
from vng.options import real
from vng.propagators import DEFAULT as DEFAULT_PROPAGATOR
from vng.propagators import ENGINES as PROPAGATORS
from vng.segmenters import ENGINES as SEGMENTERS

NAME, SUMMARY = "predict", "ground a narrative in a video, or every expression of a dataset"

_GROUP = "ground, then propagate"
_WITHOUT = "ground without training"
ZERO_SHOT = (  # options that go with --zero-shot
    Option(
        name="preset",
        choices=("small", "large"),
        group=_WITHOUT,
        help="published checkpoints of all engines that are not named: docs/zero-shot.md [small]",
    ),
    Option(
        name="detector_checkpoint",
        metavar="ID",
        group=_WITHOUT,
        help="weights of the detector: a folder or hub id [the preset's]",
    ),
    Option(
        name="segmenter",
        metavar="NAME",
        group=_WITHOUT,
        help=f"engine that turns boxes into masks: {', '.join(SEGMENTERS)} [the preset's]",
    ),
    Option(
        name="segmenter_checkpoint",
        metavar="ID",
        group=_WITHOUT,
        help="weights of the segmenter: a folder or hub id [the preset's]",
    ),
    Option(
        name="image_text",
        metavar="ID",
        group=_WITHOUT,
        help="an image-text model (SigLIP 2, SigLIP, CLIP): a folder or hub id; none: without one [the preset's]",
    ),
    Option(
        name="phrases",
        metavar="PIPELINE",
        group=_WITHOUT,
        help="how phrases are read: rules, a spaCy pipeline by name or path, or auto: one where it is installed [auto]",
    ),
    Option(
        name="zero_shot_set",
        type=setting,
        repeated=True,
        default=[],
        metavar="KEY=VALUE",
        group=_WITHOUT,
        help="a setting, such as frames=8, presence=0.3 or weights.place=0; may be repeated",
    ),
    Option(
        name="explain",
        type=path,
        metavar="DIR",
        group=_WITHOUT,
        help="with --video: write a page with candidates, tracks, scores and the decision",
    ),
)
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
    Option(name="model", help="run folder of `vng train`, or a hub id"),
    Option(
        name="zero_shot",
        without=DEFAULT_DETECTOR,
        metavar="DETECTOR",
        help=f"ground without training, instead of --model: {', '.join(DETECTORS)} [{DEFAULT_DETECTOR}]",
    ),
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
        help=(
            f"propagate the masks of the most confident frames through the video: {', '.join(PROPAGATORS)}; "
            "with --zero-shot the engine that carries candidates [the preset's]"
        ),
    ),
    *PROPAGATION,
    *ZERO_SHOT,
)

_NAMES = ("dtype", "compile", "attention", "window", "overlap", "anchors", "confidence", "presence", "direction")
TRAINED = tuple(option for option in OPTIONS if option.name in (*_NAMES, "propagator_set"))  # go with --model


def add(commands: Any) -> None:
    """Add the parser of `vng predict`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng predict --model RUN --video parrots.mp4 "
        '--narrative "A green [parrot] plays with the other [parrot]." --out result\n'
        "  vng predict --zero-shot --video parrots.mp4 "
        '--narrative "A green [parrot] plays with the other [parrot]." --out result --explain why',
    )
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Ground one narrative, or all expressions of a dataset."""
    alone = arguments.video is not None and arguments.narrative is not None
    if alone == (arguments.dataset is not None) or (arguments.video is None) != (arguments.narrative is None):
        raise UsageError("vng predict: give --video and --narrative, or --dataset")
    if (arguments.model is None) == (arguments.zero_shot is None):
        raise UsageError("vng predict: give --model, or --zero-shot")
    if alone and arguments.format is not None:
        raise UsageError("vng predict: --format goes with --dataset")
    if not alone and arguments.explain is not None:
        raise UsageError("vng predict: --explain goes with --video")
    _refuse(
        arguments, ZERO_SHOT if arguments.zero_shot is None else TRAINED, "zero_shot" if arguments.model else "model"
    )
    if arguments.propagator is None and arguments.zero_shot is None:
        _refuse(arguments, PROPAGATION, "propagator")
    (_predict_video if alone else _predict_dataset)(arguments)


def _refuse(arguments: argparse.Namespace, options: Iterable[Option], goes_with: str) -> None:
    for option in options:
        if getattr(arguments, option.name) not in (None, [], False, option.default):
            names = (option.name.replace("_", "-"), goes_with.replace("_", "-"))
            raise UsageError(f"vng predict: --{names[0]} goes with --{names[1]}")


def _predict_dataset(arguments: argparse.Namespace) -> None:
    from vng import VngDataset, predict
    from vng.processes import current_processes

    processes = current_processes()  # connects the processes of a launcher before weights are loaded
    grounder = _grounder(arguments)
    dataset = VngDataset(arguments.dataset, arguments.split)
    layout: Any = arguments.format or "compact"
    count = predict(grounder, dataset, arguments.out, layout=layout, progress=not arguments.quiet)
    if processes.is_main:
        print(f"{arguments.out}: {count} expressions")


def _predict_video(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from vng.frames import open_frames
    from vng.masks import areas
    from vng.narratives import nouns_in

    # Errors of the call are reported before the model is loaded.
    description, spans = nouns_in(arguments.narrative, arguments.nouns)
    frames = open_frames(arguments.video)
    for note in frames.notes:
        print(f"note: {note}", file=sys.stderr)
    grounder = _grounder(arguments)
    total = grounder.passes(len(frames))
    with tqdm(total=total, desc="predict", unit="frame", disable=arguments.quiet) as bar:
        if arguments.explain is None:
            result = grounder.ground(frames, description, spans, on_frames=bar.update)
        else:
            [(result, evidence)] = grounder.explained(frames, [(description, spans)], on_frames=bar.update)
    result.save(arguments.out)
    for noun, score, masks in zip(result.nouns, result.scores, result.rles, strict=True):
        absent = arguments.zero_shot is not None and not areas(masks).any()
        print(f"{printable(noun)}: " + ("absent" if absent else f"{score:.3f}"))
    print(arguments.out / "overlay.mp4")
    if arguments.explain is not None:
        from vng.grounding.explanation import write_explanation

        print(write_explanation(result, evidence, arguments.explain))


def _grounder(arguments: argparse.Namespace) -> Any:
    return _trained(arguments) if arguments.zero_shot is None else _zero_shot(arguments)


def _zero_shot(arguments: argparse.Namespace) -> Any:
    from vng.grounding.zero_shot import ZeroShotGrounder, settings_of

    image_text: Any = arguments.image_text
    return ZeroShotGrounder(
        arguments.zero_shot,
        preset=arguments.preset or "small",
        detector_checkpoint=arguments.detector_checkpoint,
        segmenter=arguments.segmenter,
        segmenter_checkpoint=arguments.segmenter_checkpoint,
        propagator=arguments.propagator,
        propagator_checkpoint=arguments.propagator_checkpoint,
        image_text=False if image_text == "none" else image_text,
        settings=settings_of(dict(arguments.zero_shot_set)),
        device=arguments.device,
        pipeline=arguments.phrases or "auto",
        nouns=arguments.nouns,
    )


def _trained(arguments: argparse.Namespace) -> Any:
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
