"""The command `vng import`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vng.cli.options import Option, add_options, command, path
from vng.errors import DataError, UsageError

NAME, SUMMARY = (
    "import",
    "convert a published checkpoint (ReferFormer, DynaMITe, STCN, EfficientNet-Lite0) to a model folder",
)

DEFAULT_TOKENIZER = "FacebookAI/roberta-base"  # used to train the authors' ReferFormer
OPTIONS = (
    Option(
        name="model",
        choices=("referformer", "dynamite", "stcn", "efficientnet-lite"),
        required=True,
        help="network of the checkpoint",
    ),
    Option(
        name="tokenizer",
        metavar="ID",
        help=f"folder or hub id of the grounder's tokenizer [{DEFAULT_TOKENIZER}]",
    ),
    Option(
        name="conditioning",
        choices=("noun", "sentence"),
        help="input of the grounder's queries: the marked noun (RF-VNG), or the sentence, as in its training [noun]",
    ),
    Option(name="out", type=path, required=True, help="folder to write"),
)


def add(commands: Any) -> None:
    """Add the parser of `vng import`."""
    parser = command(
        commands,
        NAME,
        run,
        SUMMARY,
        "vng import ytvos_r50.pth --model referformer --out out/referformer\n"
        "  vng import stcn.pth --model stcn --out out/stcn\n"
        "  vng import efficientnet-lite0-57934424.pth --model efficientnet-lite --out data/efficientnet-lite0",
    )
    parser.add_argument("checkpoint", type=path, help="the authors' .pth; nothing in it is executed")
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Convert a checkpoint of the authors to a folder that `from_pretrained` loads."""
    grounds = arguments.model == "referformer"
    for option in ("tokenizer", "conditioning"):
        if not grounds and getattr(arguments, option) is not None:
            raise UsageError(f"vng import: --{option} goes with --model referformer")
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; choose another --out")
    for part in (_referformer if grounds else _model_only)(arguments):
        part.save_pretrained(out)
    print(out)


def _referformer(arguments: argparse.Namespace) -> list[Any]:
    """The grounder and its processor."""
    from transformers import AutoTokenizer

    from vng.models.loading import load_or_raise
    from vng.models.referformer.import_checkpoint import from_file
    from vng.models.referformer.processing_referformer import ReferFormerProcessor

    name = arguments.tokenizer or DEFAULT_TOKENIZER
    cure = "give --tokenizer: a folder or hub id of the tokenizer it was trained with"
    tokenizer = load_or_raise(name, lambda: AutoTokenizer.from_pretrained(name), cure)
    model = from_file(arguments.checkpoint, conditioning=arguments.conditioning or "noun")
    supported = model.config.text_config.vocab_size
    if len(tokenizer) > supported:
        raise DataError(
            name, reason=f"has {len(tokenizer)} tokens, the checkpoint's text encoder supports {supported}", cure=cure
        )
    return [model, ReferFormerProcessor(tokenizer)]


def _model_only(arguments: argparse.Namespace) -> list[Any]:
    """A model without a processor."""
    from importlib import import_module

    module = f"vng.models.{arguments.model.replace('-', '_')}.import_checkpoint"
    return [import_module(module).from_file(arguments.checkpoint)]
