"""The cases of `benchmarks.gpu`: goldens, training and conversion here, engines in `benchmarks.gpu_engines`.

`all_cases` lists them, each small enough to be left out. Shapes: K objects, T frames, H x W pixels.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_engines import (
    ENGINES,
    TINY_GROUNDER,
    TINY_STCN,
    TINY_TEXT,
    WAYS,
    dynamite_checkpoint,
    same_as_cpu,
    speed,
    tiny_resnet,
)
from benchmarks.gpu_setup import SEED, Case, Figures, NotSupported, Pair, Setup, Skipped, differences, tf32
from conversion.build import run_conversion
from conversion.formats.point_vos import PointRecord, write_points
from conversion.formats.vidln import write_vidln
from conversion.kinds import make_conversion
from conversion.synthetic.scene import PRESETS
from conversion.synthetic.world import World, make_world
from vng.config_files import apply_setting, load_tree
from vng.dataset import Video, VngDataset
from vng.dataset_writer import write_dataset
from vng.frames import ArrayFrames, encode_jpeg
from vng.models.clicknet.configuration_clicknet import ClickNetConfig
from vng.models.clicknet.modeling_clicknet import ClickNet
from vng.models.dynamite.clicks import Prompts
from vng.models.dynamite.modeling_dynamite import instance_logits
from vng.models.stcn.configuration_stcn import KEY_BACKBONE, VALUE_BACKBONE
from vng.models.stcn.import_checkpoint import from_reference
from vng.points import POSITIVE, Points
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnSettings
from vng.training.launch import native_convolutions
from vng.training.loop import Task, make_optimizer
from vng.training.recipe import OptimizerSettings
from vng.training.tasks import build, recipe_of

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # a second, bfloat16 without sparsity, by name of device
# Whether goldens are computed with TF32, in products and in convolutions; the second is torch's default.
TF32 = {"float32": (False, False), "tf32-convolutions": (False, True), "tf32": (True, True)}


# Goldens: outputs of the authors' programs (PEERS.md), on this device.


def golden_tests(kind: str) -> Any:
    """The module of the tests that knows the goldens of a network."""
    return import_module(f"tests.models.{kind}.test_goldens")


def stcn_pairs(setup: Setup, folder: Path) -> Iterator[Pair]:
    """Probabilities of whole clips, with the settings of the authors' program."""
    tests, arrays = golden_tests("stcn"), np.load(folder / "golden_stcn.npz")
    model: Any = from_reference(tests.reference_state(folder))
    model = model.to(setup.device).fused()
    for name, (every, last, top_k) in tests.PUBLISHED.items():
        wanted, first = arrays[f"{name}/prob"][1:, :, 0], arrays[f"{name}/lab0"]
        prompts = {0: FramePrompts(masks=tuple(first == k for k in range(1, len(wanted) + 1)))}
        if name == "yv":  # its second object enters later
            third = arrays["yv/lab3"]
            prompts = {0: FramePrompts(masks=(first == 1, None)), 3: FramePrompts(masks=(None, third == 2))}
        engine = tests.InMemory(model, StcnSettings(every=every, last=last, top_k=top_k, budget=None))
        found = dict(engine(ArrayFrames(arrays[f"{name}/rgb"]), prompts))
        label = f"{name}, where memory cells tie" if name == "yv" else name
        yield Pair.cut(label, np.stack([found[t] for t in range(wanted.shape[1])], 1), wanted, 0.5)


def referformer_pairs(setup: Setup, folder: Path) -> Iterator[Pair]:
    """Logits, boxes and mask logits of the last layer."""
    tests, arrays = golden_tests("referformer"), dict(np.load(folder / "golden_rf.npz"))
    text = json.loads((folder / "golden_rf.json").read_text())["text_encoder"]
    for name, changes in tests.CASES.items():
        model = tests.golden_model(folder, text, changes).to(setup.device)
        batch = {key: value.to(setup.device) for key, value in tests.inputs(arrays, name).items()}
        prefixes, nouns = [f"{name}/"], None
        if name == "narrative_nouns":
            prefixes = [f"{name}/noun0/", f"{name}/noun1/"]
            nouns = torch.zeros(1, 2, batch["input_ids"].shape[1], dtype=torch.bool, device=setup.device)
            for noun, prefix in enumerate(prefixes):
                nouns[0, noun, torch.from_numpy(arrays[f"{prefix}token_positions"])] = True
        with torch.inference_mode():
            logits, boxes, masks, _ = model.decode(model.encode(**batch), nouns)[-1]
        for noun, prefix in enumerate(prefixes):
            for kind, found in (("logits", logits[..., None]), ("boxes", boxes)):
                yield Pair(f"{prefix}{kind}", found[:, noun].cpu().numpy(), arrays[f"{prefix}pred_{kind}"])
            yield Pair.cut(f"{prefix}masks", masks[:, noun].cpu().numpy(), arrays[f"{prefix}pred_masks"], 0)


def dynamite_pairs(setup: Setup, folder: Path) -> Iterator[Pair]:
    """Mask logits from the image, and the objects that win the pixels.

    Attention masks are bits: where a logit rounds to the other side of zero, mask logits move by about 0.01.
    """
    tests = golden_tests("dynamite")
    golden = tests.Golden(folder)
    model = golden.model("full").to(setup.device)
    mean, std = tests.MEAN.view(3, 1, 1), tests.STD.view(3, 1, 1)
    pixels = (torch.from_numpy(golden.arrays["in/image"]).float() - mean) / std
    with torch.inference_mode():
        encoded = model.encode_image(pixels[None].to(setup.device))
        for case in tests.CASES["full"]:
            prefix = f"r50/full/{case}"
            output = model.segment(encoded, Prompts.of([golden.clicks(prefix)], setup.device))
            winner = instance_logits(output.mask_logits[0], output.owners[0], 2, (160, 224)).argmax(0).cpu().numpy()
            masks = np.stack([winner == k for k in range(2)]), golden.arrays[f"{prefix}/final"].astype(bool)
            yield Pair(case, output.mask_logits.cpu().numpy(), golden.arrays[f"{prefix}/pred_masks"], masks)


def goldens(kind: str, way: str, setup: Setup) -> Figures:
    """How far the outputs of a network are from its goldens, with or without TF32."""
    folder = setup.data / "goldens" / kind
    if setup.tiny:
        raise Skipped("--tiny reads no goldens")
    if not folder.exists():
        raise Skipped(f"no goldens in {folder}; name the folder that holds goldens/ with --data")
    if way != "float32" and setup.device.type != "cuda":
        raise NotSupported("only a GPU has TF32")
    makers = {"stcn": stcn_pairs, "referformer": referformer_pairs, "dynamite": dynamite_pairs}
    with tf32(*TF32[way]):
        return differences(makers[kind](setup, folder))


# Training steps, with models and batches as the training tasks make them.

BACKBONES = {
    "resnet50": {"model_type": "resnet"},
    "swin-large": {"model_type": "swin", "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
}
ROBERTA = {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}


def worlds(setup: Setup) -> list[World]:
    """Procedural videos; those of clips of full size have half of it."""
    height, width = setup.size
    return worlds_of(height, width, True) if setup.tiny else worlds_of(height // 2, width // 2, False)


@cache
def worlds_of(height: int, width: int, tiny: bool) -> list[World]:
    """Two procedural videos; at 480 rows, drawing their points would take half a minute, at 240 a few seconds."""
    preset = PRESETS["easy" if tiny else "hard"]
    settings = replace(preset, height=height, width=width, frames=3 if tiny else 10)
    return [make_world(index, SEED, settings) for index in range(2)]


def with_points(world: World) -> Video:
    """The record of a procedural video with its frames, its true masks and its points."""
    objects = []
    for item, record in zip(world.record.objects, world.points, strict=True):
        rows = [(int(str(p.frame_id)), (p.x, p.y), p.label) for p in record.points]
        objects.append(replace(item, points=Points.of_lists(*map(list, zip(*rows, strict=True)))))
    return replace(world.record, objects=tuple(objects), frames=ArrayFrames(world.frames))


def training_task(setup: Setup, recipe: str, changes: Mapping[str, Any]) -> tuple[Task, OptimizerSettings]:
    """The task of a shipped recipe with changed settings, on procedural videos."""
    data = setup.folder / "dataset"
    if not data.exists():
        write_dataset(data, [with_points(world) for world in worlds(setup)], "procedural")
    tree = load_tree(Path(recipe))
    for key, value in {**changes, "data.sources": [{"path": str(data)}], "seed": SEED}.items():
        apply_setting(tree, key, value)
    tree["data"].pop("path", None)
    typed = recipe_of(tree, recipe)
    return build(typed, {}), typed.optimizer


def grounder_training(backbone: str, setup: Setup) -> Figures:
    """The recipe `grounder` at one size of frames, its encoders with random weights."""
    changes: dict[str, Any] = {"model.tokenizer": "train", "data.crop": 0.0, "data.short_sides": []}
    changes |= {"model.backbone": BACKBONES[backbone], "model.text_encoder": ROBERTA}
    if setup.tiny:
        swin = {"model_type": "swin", "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 2, 2, 2], "window_size": 4}
        changes |= {"data.short_side": 0, "data.frames": 2, "model.text_encoder": TINY_TEXT, "model.vocab_size": 300}
        changes |= {"model.backbone": tiny_resnet() if backbone == "resnet50" else swin}
        changes |= {f"model.sizes.{name}": value for name, value in TINY_GROUNDER.items()}
    return training(setup, *training_task(setup, "grounder", changes))


def stcn_training(setup: Setup) -> Figures:
    """The recipe `point-vos/points` with random weights."""
    changes: dict[str, Any] = {"model.init": None}
    changes |= {"model.key_backbone": KEY_BACKBONE, "model.value_backbone": VALUE_BACKBONE}
    if setup.tiny:
        value = tiny_resnet(3, num_channels=5, out_features=["stage3"])
        changes |= {"model.key_backbone": tiny_resnet(3), "model.value_backbone": value, "model.sizes": TINY_STCN}
        changes |= {"data.size": [64, 96], "optimizer.batch_size": 2}
    return training(setup, *training_task(setup, "point-vos/points", changes))


def peak_flops(device: torch.device) -> float | None:
    """The most bfloat16 FLOP a second of a known GPU."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((value for key, value in PEAK_FLOPS.items() if key in name), None)


def training(setup: Setup, task: Task, settings: OptimizerSettings) -> Figures:
    """Steps a second under autocast in bfloat16 on one batch, and the share of the device's peak that they reach.

    FLOP are those of the products and convolutions of a forward and a backward pass, what is computed twice included.
    """
    samples = task.samples(settings.batch_size)
    batch = task.collate([samples[index] for index in range(settings.batch_size)])
    batch = {name: value.to(setup.device) for name, value in batch.items()}
    model = task.model.float().to(setup.device).train()
    optimizer = make_optimizer(model, settings)
    losses: list[torch.Tensor] = []

    def backward() -> None:
        with torch.autocast(setup.device.type, torch.bfloat16):
            output = model(**batch)
        losses.append(output.loss.detach())
        output.loss.backward()

    def step() -> None:
        backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    with native_convolutions(model):
        with FlopCounterMode(display=False) as counter:
            backward()
        optimizer.zero_grad()
        for _ in range(0 if setup.tiny else 3):
            step()
        done, seconds = setup.rate(step, 30, 8.0)
    flops, peak = counter.get_total_flops(), peak_flops(setup.device)
    return {
        "steps a second": done / seconds,
        "clips a second": done * settings.batch_size / seconds,
        "share of peak FLOP/s": None if peak is None else flops * done / seconds / peak,
        "FLOP a step": flops,
        "peak FLOP/s": peak,
        "steps": done,
        "batch": " x ".join(map(str, batch["pixel_values"].shape)),
        "weights": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "last loss": float(losses[-1]),
    }


# Conversion of points to masks, through the door of `conversion.convert`.


def write_annotations(setup: Setup, folder: Path) -> None:
    """The procedural videos in the formats of Point-VOS and VidLN, enlarged to the size of the clips."""
    records: list[PointRecord] = []
    for world in worlds(setup):
        images, factor = folder / "frames" / world.record.video_id, setup.size[0] // world.record.height
        images.mkdir(parents=True)
        for name, image in zip(world.record.frame_names, world.frames, strict=True):
            (images / f"{name}.jpg").write_bytes(encode_jpeg(cv2.resize(image, setup.size[::-1])))
        for record in world.points:
            points = [replace(point, x=factor * point.x, y=factor * point.y) for point in record.points]
            records.append(replace(record, points=tuple(points)))
    write_points(records, folder / "points.json")
    write_vidln([world.vidln for world in worlds(setup)], folder / "vidln.jsonl")


def conversion(segmenter: str, setup: Setup) -> Figures:
    """Masks of objects in frames a second, from points and frames on disk to a dataset; engines are loaded before."""
    source = setup.folder / "annotations"
    if not source.exists():
        write_annotations(setup, source)
    inputs = {"points": source / "points.json", "narratives": source / "vidln.jsonl", "frames": source / "frames"}
    options: dict[str, Any] = {"segmenter": segmenter, "nouns": "noun_segments"}
    if segmenter == "dynamite":
        options["segmenter_checkpoint"] = dynamite_checkpoint(setup)
    elif setup.tiny:
        options["segmenter_checkpoint"] = setup.saved("embedded", lambda: ClickNet(ClickNetConfig()))
    with tempfile.TemporaryDirectory(dir=setup.scratch) as folder:
        for attempt in range(1 if setup.tiny else 2):  # the first of two warms up
            made, out = make_conversion("point-vos", Path(folder) / str(attempt), False, **inputs, **options)
            setup.wait()
            start = time.perf_counter()
            run_conversion(made, out)
            seconds = time.perf_counter() - start
        objects = [item for video in VngDataset(out) for item in video.objects]
        masks = sum(len(np.unique(item.points.of(POSITIVE).frame)) for item in objects)
    return {
        "objects x frames a second": masks / seconds,
        "objects x frames": masks,
        "objects": len(objects),
        "seconds of the conversion": seconds,
        "on": str(getattr(made.engines and made.engines.segmenter, "device", "cpu")),
    }


def all_cases() -> list[Case]:
    """The cases, most valuable first; compilers come last, as they are slow to start."""
    cases = []
    for kind in ("stcn", "referformer", "dynamite"):
        for way in TF32:
            cases.append(Case(name=f"goldens/{kind}/{way}", seconds=25, measure=partial(goldens, kind, way)))
    cases.append(Case(name="same-as-cpu/tiny", seconds=20, measure=same_as_cpu))
    ways = [(name, way) for way in WAYS for name in ENGINES]
    speeds = [
        Case(name=f"speed/{n}/{w}", seconds=70 if w == "compiled" else 15, measure=partial(speed, n, w))
        for n, w in ways
    ]
    cases += [case for case in speeds if not case.name.endswith("compiled")]
    for backbone in BACKBONES:
        name = f"train/grounder-{backbone}"
        cases.append(Case(name=name, seconds=30, measure=partial(grounder_training, backbone)))
    cases.append(Case(name="train/point-stcn", seconds=25, measure=stcn_training))
    for segmenter in ("embedded", "dynamite"):
        name = f"convert/{segmenter}"
        cases.append(Case(name=name, seconds=30, measure=partial(conversion, segmenter)))
    return cases + [case for case in speeds if case.name.endswith("compiled")]
