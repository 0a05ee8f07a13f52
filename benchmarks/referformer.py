"""Time of the grounder and of the authors' ReferFormer, taking turns in one run with the same weights.

5 frames of 160 x 288, ResNet-50: a forward pass, conditioned on the sentence as theirs is; then ours conditioned on one
noun and on eight nouns of one narrative; then a training step (forward, losses of all layers, backward, clipping,
AdamW) and its peak memory, in separate processes; then the weights of both after five steps of the recipe `grounder`.

`python -m benchmarks.referformer [--reference DIR] [--threads N] [--rounds N] [--only forward|step|weights] [--json FILE]`

DIR holds the source tree `ReferFormer`, run unedited, and in `deps` the packages that it imports and that are not
installed (einops). Its CUDA operator is replaced by its own PyTorch version, torchvision's ResNet-50 is built here, the
text encoder is a small RoBERTa, and the weights are drawn from the names of the keys (`tests/golden_weights.py`).
Without DIR only ours is timed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from benchmarks.stcn import resnet50
from tests.golden_weights import referformer_state
from vng.models.referformer.configuration_referformer import ReferFormerConfig
from vng.models.referformer.import_checkpoint import from_reference
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.training.loop import make_optimizer
from vng.training.tasks import load_recipe

FRAMES, HEIGHT, WIDTH = 5, 160, 288
CAPTION = "a green parrot is playing with the other parrot beside a small red ball"
TEXT = {
    "vocab_size": 1000,
    "hidden_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "type_vocab_size": 1,
    "intermediate_size": 256,
    "max_position_embeddings": 66,
}
NOUNS = 8
STEPS = 3
ARGUMENTS = ("--with_box_refine", "--binary", "--freeze_text_encoder", "--masks", "--device", "cpu")


def tokens(captions: list[str]) -> dict[str, Tensor]:
    """Token ids from the checksums of words, between RoBERTa's special tokens."""
    ids = torch.tensor([[0, *(3 + zlib.crc32(word.encode()) % 997 for word in c.split()), 2] for c in captions])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class _Tokens(dict):
    """The part of a tokenizer's output that their program uses."""

    def to(self, _: object) -> _Tokens:
        return self

    __getattr__ = dict.__getitem__


class _Layers(nn.ModuleDict):
    """torchvision's IntermediateLayerGetter."""

    def __init__(self, model: nn.Module, return_layers: dict[str, str]) -> None:
        super().__init__(dict(model.named_children()))
        self.return_layers = return_layers

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {}
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                outputs[self.return_layers[name]] = x
        return outputs


def _module(name: str, **content: Any) -> None:
    """Register a stand-in for a module and for the packages that contain it."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        module = sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
        module.__path__ = []
        if depth > 1:
            setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)
    vars(sys.modules[name]).update(content)


def reference(folder: Path) -> tuple[Any, Any]:
    """The authors' network and criterion, with weights drawn from the names of the keys."""
    sys.path += [str(folder / "ReferFormer"), str(folder / "deps")]
    _module("torchvision.models", resnet50=lambda **options: resnet50(stages=4, **options))
    _module("torchvision.models._utils", IntermediateLayerGetter=_Layers)
    _module("torchvision.ops.boxes", box_area=lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]))
    _module("fvcore.nn.weight_init", c2_xavier_fill=lambda layer: None)
    _module("MultiScaleDeformableAttention")
    from models import referformer
    from models.ops.functions import ms_deform_attn_func
    from opts import get_args_parser

    core = ms_deform_attn_func.ms_deform_attn_core_pytorch
    ms_deform_attn_func.MSDeformAttnFunction.apply = lambda value, shapes, start, locations, weights, step: core(
        value, shapes, locations, weights
    )
    encode = types.SimpleNamespace(batch_encode_plus=lambda captions, **_: _Tokens(tokens(captions)))
    referformer.RobertaTokenizerFast = types.SimpleNamespace(from_pretrained=lambda name: encode)
    referformer.RobertaModel = types.SimpleNamespace(
        from_pretrained=lambda name: RobertaModel(RobertaConfig(**TEXT, attn_implementation="eager"))
    )
    network, criterion, _ = referformer.build(get_args_parser().parse_args(ARGUMENTS))
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(referformer_state(shapes))
    return network, criterion


def configuration(conditioning: str) -> ReferFormerConfig:
    """The configuration of our network with the settings that theirs is trained with."""
    text = {"model_type": "roberta", **TEXT}
    return ReferFormerConfig(text_config=text, conditioning=conditioning, freeze_text_encoder=True, frozen_stages=2)


def ours(folder: Path | None, conditioning: str) -> ReferFormerForVNG:
    """Our network, with their weights where their source tree is given."""
    torch.manual_seed(0)
    config = configuration(conditioning)
    return from_reference(reference(folder)[0].state_dict(), config) if folder else ReferFormerForVNG(config)


def clip() -> tuple[Tensor, Tensor]:
    """Pixels, float [1, T, 3, H, W], and masks of one object, bool [1, T, H, W]."""
    pixels = torch.randn(1, FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for t in range(FRAMES):
        masks[:, t, 40:110, 60 + 10 * t : 150 + 10 * t] = True
    return pixels, masks


def their_targets(masks: Tensor) -> list[dict[str, Tensor]]:
    """The targets of the clip in the form of their program."""
    rows, columns = masks[0].any(2).float(), masks[0].any(1).float()
    y0, x0 = rows.argmax(1), columns.argmax(1)
    y1, x1 = y0 + rows.sum(1) - 1, x0 + columns.sum(1) - 1
    size = torch.tensor([HEIGHT, WIDTH])
    boxes = torch.stack([(x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT], -1)
    return [
        {
            "labels": torch.zeros(FRAMES, dtype=torch.long),
            "boxes": boxes,
            "masks": masks[0].float(),
            "valid": torch.ones(FRAMES, dtype=torch.long),
            "size": size,
        }
    ]


def our_batch(nouns: int) -> dict[str, Tensor]:
    """The clip and the narrative, with its first `nouns` words as nouns (0: conditioned on the sentence)."""
    batch = {"pixel_values": clip()[0], **tokens([CAPTION])}
    if nouns:
        batch["noun_tokens"] = torch.eye(batch["input_ids"].shape[1], dtype=torch.bool)[None, 1 : nouns + 1]
    return batch


def forward(folder: Path | None, rounds: int) -> dict[str, float]:
    """Processor and wall seconds of a forward pass, the models taking turns, and the largest difference of masks."""
    runs: dict[str, Callable[[], Tensor]] = {}
    sentence, noun = ours(folder, "sentence").eval().fused(), ours(folder, "noun").eval().fused()
    if folder:
        network = reference(folder)[0].eval()
        pixels, masks = clip()
        targets = their_targets(masks)
        runs["theirs"] = lambda: network(list(pixels), [CAPTION], targets)["pred_masks"]
    runs["ours"] = lambda: sentence(**our_batch(0)).masks[:, 0]
    runs["ours, 1 noun"] = lambda: noun(**our_batch(1)).masks[:, 0]
    runs[f"ours, {NOUNS} nouns"] = lambda: noun(**our_batch(NOUNS)).masks[:, 0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    masks_of = {}
    with torch.inference_mode():
        # the first round only warms up
        for index in range(rounds + 1):
            for name, run in runs.items():
                processor, wall = time.process_time(), time.perf_counter()
                masks_of[name] = run()
                if index:
                    times[name].append((time.process_time() - processor, time.perf_counter() - wall))
    print(f"forward, {FRAMES} x {HEIGHT} x {WIDTH}, {torch.get_num_threads()} threads, medians of {rounds}")
    figures = table(times, [("ours", "theirs"), (f"ours, {NOUNS} nouns", "ours, 1 noun")])
    if folder:
        figures["largest_difference"] = float((masks_of["ours"] - masks_of["theirs"]).abs().max())
        print(f"mask logits differ by {figures['largest_difference']:.1e} at most")
    return figures


def table(times: dict[str, list[tuple[float, float]]], pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Print and return medians and ratios."""
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    print(f"{'seconds':24}{'processor':>10}{'wall':>8}")
    figures = {}
    for name, row in medians.items():
        print(f"{name:24}{row[0]:10.3f}{row[1]:8.3f}")
        figures |= {f"{name}, {clock} s": value for clock, value in zip(("processor", "wall"), row, strict=True)}
    for one, other in pairs:
        if one in medians and other in medians:
            ratios = [a / b for a, b in zip(medians[one], medians[other], strict=True)]
            print(f"{f'{one} / {other}':24}{ratios[0]:10.2f}{ratios[1]:8.2f}")
            figures |= {f"{one} / {other}, {c}": r for c, r in zip(("processor", "wall"), ratios, strict=True)}
    return figures


def step(who: str, folder: Path | None) -> dict[str, list[float]]:
    """Processor and wall seconds of training steps in this process, their losses, and the peak memory, MiB."""
    pixels, masks = clip()
    if who == "theirs":
        assert folder is not None
        network, criterion = reference(folder)
        targets = their_targets(masks)

        def loss() -> Tensor:
            losses = criterion(network(list(pixels), [CAPTION], targets), targets)
            return sum(criterion.weight_dict[name] * value for name, value in losses.items())

    else:
        network = ours(folder, "sentence")
        batch = our_batch(0) | {"target_masks": masks[:, None], "target_annotated": torch.ones(1, 1, FRAMES).bool()}

        def loss() -> Tensor:
            return network(**batch).loss

    network.train()
    trained = [p for p in network.parameters() if p.requires_grad]
    rates, decay = [{"params": trained, "lr": 1e-5}], 5e-4
    optimizer = torch.optim.AdamW(rates, weight_decay=decay, fused=who == "ours")
    record: dict[str, list[float]] = {"processor": [], "wall": [], "loss": []}
    for _ in range(STEPS):
        processor, wall = time.process_time(), time.perf_counter()
        value = loss()
        # their loop clears gradients before the backward pass, ours after the step
        if who == "theirs":
            optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        if who == "ours":
            optimizer.zero_grad()
        record["processor"].append(time.process_time() - processor)
        record["wall"].append(time.perf_counter() - wall)
        record["loss"].append(float(value.detach()))
    record["peak"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    return record


def without_dropout(network: nn.Module) -> nn.Module:
    """The network in training mode, without its random part."""
    for module in network.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return network


def weights_after_steps(folder: Path, count: int = 5) -> dict[str, float]:
    """Distance of our weights from theirs after steps of both programs, over the distance that theirs have moved.

    Ours are trained as the recipe `grounder` resolves, theirs with the groups and rates of their main.py.
    """
    recipe: Any = load_recipe(Path("grounder"), [])
    text = {"model_type": "roberta", **TEXT}
    config = ReferFormerConfig(text_config=text, conditioning="sentence", **recipe.model.sizes)
    theirs, criterion = reference(folder)
    start = from_reference(theirs.state_dict(), config)
    network = without_dropout(from_reference(theirs.state_dict(), config))
    without_dropout(theirs)
    pixels, masks = clip()
    targets = their_targets(masks)
    batch = our_batch(0) | {"target_masks": masks[:, None], "target_annotated": torch.ones(1, 1, FRAMES).bool()}
    o = recipe.optimizer
    named = [(name, p) for name, p in theirs.named_parameters() if p.requires_grad]
    of_backbone = [p for name, p in named if "backbone.0" in name]
    rest = [p for name, p in named if "backbone.0" not in name and "text_encoder" not in name]
    groups = [{"params": rest, "lr": 1e-4}, {"params": of_backbone, "lr": 5e-5}]
    both = {
        "theirs": (theirs, torch.optim.AdamW(groups, lr=1e-4, weight_decay=5e-4)),
        "ours": (network, make_optimizer(network, o)),
    }
    for _ in range(count):
        for who, (model, optimizer) in both.items():
            if who == "theirs":
                losses = criterion(theirs(list(pixels), [CAPTION], targets), targets)
                loss = sum(criterion.weight_dict[name] * value for name, value in losses.items())
            else:
                loss = network(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 0.1)
            optimizer.step()
    end = dict(from_reference(theirs.state_dict(), config).named_parameters())
    before, after = dict(start.named_parameters()), dict(network.named_parameters())
    apart, moved = (
        sum(float((one[n].detach().double() - other[n].detach().double()).square().sum()) for n in end) ** 0.5
        for one, other in ((after, end), (end, before))
    )
    print(f"weights after {count} steps: {apart:.3e} apart, {moved:.3e} moved, {apart / moved:.2e} of it")
    return {"weights apart over moved": apart / moved}


def steps(folder: Path | None, rounds: int, threads: int) -> dict[str, float]:
    """Training steps in separate processes, taking turns."""
    times: dict[str, list[tuple[float, float]]] = {}
    peaks: dict[str, list[float]] = {}
    for _ in range(rounds):
        for who in ("theirs", "ours") if folder else ("ours",):
            command = [sys.executable, "-m", "benchmarks.referformer", "--step", who, "--threads", str(threads)]
            command += ["--reference", str(folder)] if folder else []
            record = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            times.setdefault(who, []).append((min(record["processor"]), min(record["wall"])))
            peaks.setdefault(who, []).append(record["peak"][0])
            print(f"{who}: losses {', '.join(f'{value:.3f}' for value in record['loss'])}")
    print(f"training step, {FRAMES} x {HEIGHT} x {WIDTH}, {threads} threads, medians of {rounds} processes' best steps")
    figures = table(times, [("ours", "theirs")])
    peak = {who: statistics.median(values) for who, values in peaks.items()}
    print("peak, MiB: " + ", ".join(f"{who} {value:.0f}" for who, value in peak.items()))
    figures = {f"step, {name}": value for name, value in figures.items()}
    figures |= {f"step, {who}, peak MiB": value for who, value in peak.items()}
    if folder:
        figures["step, ours / theirs, peak"] = peak["ours"] / peak["theirs"]
        print(f"ours / theirs, peak {figures['step, ours / theirs, peak']:.2f}")
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("forward", "step", "weights"))
    parser.add_argument("--step", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.reference and arguments.reference.resolve()
    if arguments.step:
        print(json.dumps(step(arguments.step, folder)))
        return
    figures: dict[str, float] = {}
    if arguments.only in (None, "forward"):
        figures |= forward(folder, arguments.rounds)
    if arguments.only in (None, "step"):
        figures |= steps(folder, arguments.rounds, arguments.threads)
    if folder and arguments.only in (None, "weights"):
        figures |= weights_after_steps(folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
