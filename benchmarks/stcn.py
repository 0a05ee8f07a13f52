"""Time of STCN and of the authors' program, taking turns in one run with the same weights and memory settings.

240 x 432, 2 objects (10 for ours as well), every 5th frame in memory, top 20, as published; then the network of
configs/embedded-stcn.yaml with the default, bounded memory; then the peak memory of this network on a long and a short
video, in separate processes.

`python -m benchmarks.stcn [--reference DIR] [--frames N] [--rounds N] [--only NAME ...] [--json FILE]`
`python -m benchmarks.stcn --device cuda`: frames per second of ours in float32, bfloat16 and compiled.

DIR is the source tree of STCN, run unedited: `.cuda()` stays on the CPU, torchvision's ResNet-50 is built here, and the
weights are drawn from the names of the keys (`tests/golden_weights.py`). Without DIR only ours is timed.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import nn

from tests.golden_weights import STCN_GAINS, STCN_SMALL, drawn
from vng.frames import Frames
from vng.models.loading import device_named
from vng.models.stcn.configuration_stcn import StcnConfig
from vng.models.stcn.import_checkpoint import from_reference
from vng.models.stcn.modeling_stcn import Stcn
from vng.propagators import FramePrompts
from vng.propagators.stcn import StcnPropagator, StcnSettings

HEIGHT, WIDTH = 240, 432
PUBLISHED = StcnSettings(every=5, last=False, top_k=20, budget=None, device="cpu")
RECIPE = Path(__file__).resolve().parent.parent / "configs" / "embedded-stcn.yaml"
SHORT, LONG = 100, 600  # frames; the default memory budget is reached before the short video ends
WARM_UP = 2  # frames

Run = Callable[[int], np.ndarray]  # number of frames -> probabilities [K, T, H, W]


class Moving(Frames):
    """A texture that moves over another; frames are made when they are read and not kept."""

    def __init__(self, count: int) -> None:
        super().__init__([f"{t:05d}" for t in range(count)], "moving")
        rng = np.random.default_rng(0)
        self._below, self._above = (self._texture(rng, size) for size in ((HEIGHT, WIDTH), (70, 90)))

    @staticmethod
    def _texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        coarse = rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3), np.uint8)
        return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)

    def _read(self, index: int) -> np.ndarray:
        image = np.roll(self._below, 2 * index, 1)
        top, left = 40 + int(30 * np.sin(index / 9)), (60 + 3 * index) % (WIDTH - 90)
        image[top : top + 70, left : left + 90] = self._above
        return image


def first_masks(count: int) -> np.ndarray:
    """Masks of the first frame, bool [K, H, W]: rectangles side by side."""
    masks = np.zeros((count, HEIGHT, WIDTH), bool)
    for k in range(count):
        left = 10 + k * (WIDTH - 20) // count
        masks[k, 40 + 5 * k : 110 + 8 * k, left : left + 350 // count] = True
    return masks


class Engine(StcnPropagator):
    """The propagator with a model that is already in memory."""

    def __init__(self, model: Stcn, settings: StcnSettings) -> None:
        self.settings = settings
        self.model = model.to(device_named(settings.device)).fused(getattr(torch, settings.dtype))


def ours(engine: StcnPropagator, objects: int) -> Run:
    """A run of our engine that starts from `objects` masks of the first frame."""
    prompts = {0: FramePrompts(masks=tuple(first_masks(objects)))}

    def run(count: int) -> np.ndarray:
        return np.stack([probabilities for _, probabilities in engine(Moving(count), prompts)], 1)

    return run


class _Bottleneck(nn.Module):
    """The bottleneck of torchvision with the names that it uses; the stride is in the 3x3 convolution."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        shortcut = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
        changes_shape = inputs != 4 * width or stride != 1
        self.downsample = nn.Sequential(shortcut, norm(4 * width)) if changes_shape else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet50(
    pretrained: bool = False, norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d, stages: int = 3, **_: object
) -> nn.Module:
    """torchvision's ResNet-50 without its head; STCN uses three stages."""

    def stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
        sizes = [(inputs if not i else 4 * width, width, stride if not i else 1) for i in range(depth)]
        return nn.Sequential(*(_Bottleneck(*size, norm_layer) for size in sizes))

    table = [(64, 64, 3, 1), (256, 128, 4, 2), (512, 256, 6, 2), (1024, 512, 3, 2)][:stages]
    stem = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        "bn1": norm_layer(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    layers = {f"layer{i + 1}": stage(*sizes) for i, sizes in enumerate(table)}
    return nn.Sequential(OrderedDict({**stem, **layers}))


class _OnCpu:
    """`torch` for a module of the reference: tensors that it creates on the GPU are created on the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def zeros(*size: Any, device: str = "", **options: Any) -> torch.Tensor:
        return torch.zeros(*size, **options)


def reference(folder: Path) -> nn.Module:
    """The authors' network with weights drawn from the names of the keys."""
    sys.path.insert(0, str(folder))
    torchvision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    models.resnet50 = resnet50  # type: ignore[attr-defined]
    torchvision.models = models  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": torchvision, "torchvision.models": models}
    import inference_core
    from model import mod_resnet
    from model.eval_network import STCN

    mod_resnet.resnet18.__defaults__ = (False, *mod_resnet.resnet18.__defaults__[1:])
    mod_resnet.model_zoo = types.SimpleNamespace(load_url=lambda url: {})
    inference_core.torch = _OnCpu()
    torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign]
    network = STCN().eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({key: drawn(key, shape, STCN_GAINS, STCN_SMALL) for key, shape in shapes.items()})
    return network


def theirs(network: nn.Module, objects: int) -> Run:
    """A run of their engine; frames are normalised beforehand, as in their loader."""
    from inference_core import InferenceCore

    masks = torch.from_numpy(first_masks(objects)).float()[:, None]

    def run(count: int) -> np.ndarray:
        core = InferenceCore(network, _normalised(count), objects, top_k=20, mem_every=5)
        with torch.no_grad():
            core.interact(masks, 0, count)
        return core.prob[1:, :, 0].numpy()

    return run


@functools.cache
def _normalised(count: int) -> torch.Tensor:
    frames = torch.from_numpy(np.stack(list(Moving(count)))).permute(0, 3, 1, 2)
    return Stcn.normalise(frames)[None]


def embedded() -> Stcn:
    """The network of the recipe embedded-stcn with random weights."""
    settings = yaml.safe_load(RECIPE.read_text())["model"]
    torch.manual_seed(0)
    return Stcn(StcnConfig(settings["key_backbone"], settings["value_backbone"], **settings["sizes"]))


def write_fixture(folder: Path, path: Path) -> None:
    """Write the authors' probabilities on the clip of `tests/models/stcn/test_reference.py`, at every third pixel."""
    from tests.models.stcn.test_reference import COUNT, EVERY, THINNED, clip, first_labels

    network = reference(folder)
    from inference_core import InferenceCore

    frames, labels = torch.from_numpy(clip()).permute(0, 3, 1, 2), torch.from_numpy(first_labels())
    core = InferenceCore(network, Stcn.normalise(frames)[None], 2, top_k=20, mem_every=EVERY, include_last=True)
    with torch.no_grad():
        core.interact(torch.stack([labels == 1, labels == 2]).float()[:, None], 0, COUNT)
    probabilities = core.prob[1:, :, 0, ::THINNED, ::THINNED].numpy()
    keys = json.dumps({key: list(value.shape) for key, value in network.state_dict().items()})
    np.savez_compressed(path, keys=keys, probabilities=probabilities)


def speed(folder: Path | None, count: int, rounds: int, only: list[str]) -> dict[str, float]:
    """Processor and wall milliseconds per frame, the engines taking turns."""
    torch.manual_seed(0)
    runs: dict[str, Run] = {}
    network = reference(folder) if folder else None
    model = from_reference(network.state_dict()) if network else Stcn(StcnConfig())
    engine = Engine(model.eval(), PUBLISHED)
    if network is not None:
        runs["theirs"] = theirs(network, 2)
    runs |= {"ours": ours(engine, 2), "ours, 10 objects": ours(engine, 10)}
    small = Engine(embedded().eval(), StcnSettings(short_side=0, device="cpu"))
    runs |= {"small": ours(small, 2), "small, 10 objects": ours(small, 10)}
    runs = {name: run for name, run in runs.items() if not only or name in only}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    probabilities: dict[str, np.ndarray] = {}
    for run in runs.values():
        run(WARM_UP)
    for _ in range(rounds):
        for name, run in runs.items():
            processor, wall = time.process_time(), time.perf_counter()
            probabilities[name] = run(count)
            times[name].append(((time.process_time() - processor) / count, (time.perf_counter() - wall) / count))
    return report(times, probabilities, count)


def report(
    times: dict[str, list[tuple[float, float]]], probabilities: dict[str, np.ndarray], count: int
) -> dict[str, float]:
    """Print and return medians, their ratios, and the differences of probabilities."""
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    print(f"STCN, {HEIGHT} x {WIDTH}, {count} frames, one thread, medians of {len(next(iter(times.values())))}")
    print(f"{'ms a frame':20}{'processor':>10}{'wall':>8}")
    figures: dict[str, float] = {}
    for name, (processor, wall) in medians.items():
        print(f"{name:20}{1000 * processor:10.0f}{1000 * wall:8.0f}")
        key = name.replace(", ", "_").replace(" ", "_")
        figures |= {f"{key}_processor_ms": 1000 * processor, f"{key}_wall_ms": 1000 * wall}
    pairs = {
        "ours / theirs": ("ours", "theirs"),
        "10 objects / 2": ("ours, 10 objects", "ours"),
        "small, 10 / 2": ("small, 10 objects", "small"),
    }
    for label, (one, other) in pairs.items():
        if one in medians and other in medians:
            ratio = medians[one][0] / medians[other][0]
            print(f"{label:20}{ratio:10.2f}")
            figures[label] = ratio
    if {"ours", "theirs"} <= probabilities.keys():
        figures |= _differences(probabilities["ours"], probabilities["theirs"])
    return figures


def _differences(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    gap = np.abs(one - other)
    swapped = ((one > 0.5) != (other > 0.5)).mean()
    largest, mean = float(gap.max()), float(gap.mean())
    print(f"probabilities differ by {largest:.1e} at most, {mean:.1e} on average; masks on {swapped:.1e} of pixels")
    return {"largest_difference": largest, "mean_difference": mean, "masks_differ": float(swapped)}


def growth() -> dict[str, float]:
    """Peak memory of the embedded network on a short and a long video, MiB, each in a new process."""
    figures = {}
    for count in (SHORT, LONG):
        command = [sys.executable, "-m", "benchmarks.stcn", "--peak", str(count)]
        figures[f"peak_{count}_MiB"] = float(subprocess.run(command, check=True, capture_output=True).stdout)
    figures["peak_ratio"] = figures[f"peak_{LONG}_MiB"] / figures[f"peak_{SHORT}_MiB"]
    print(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    return figures


def peak(count: int) -> float:
    """Peak memory while a video of `count` frames is segmented, MiB; loading is not counted."""
    engine = Engine(embedded().eval(), StcnSettings(short_side=0, device="cpu"))
    prompts = {0: FramePrompts(masks=tuple(first_masks(2)))}
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    for _ in engine(Moving(count), prompts):
        pass
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def on_device(device: str, count: int) -> dict[str, float]:
    """Frames per second of our engine on an accelerator."""
    if not torch.cuda.is_available():
        raise SystemExit(f"--device {device}: torch finds no GPU here")
    figures: dict[str, float] = {}
    for name, dtype, compiled in (
        ("float32", "float32", False),
        ("bfloat16", "bfloat16", False),
        ("compiled", "bfloat16", True),
    ):
        torch.manual_seed(0)
        engine = Engine(Stcn(StcnConfig()).eval(), StcnSettings(device=device, dtype=dtype))
        if compiled:
            for part in ("encode_key", "encode_value", "decode"):
                setattr(engine.model, part, torch.compile(getattr(engine.model, part)))
        for objects in (2, 10):
            run = ours(engine, objects)
            run(2 * PUBLISHED.every)
            start = time.perf_counter()
            run(count)  # masks are copied to the CPU, so the GPU has finished
            figures[f"{name}_{objects}_objects_fps"] = count / (time.perf_counter() - start)
            print(f"{name:10}{objects:3} objects{figures[f'{name}_{objects}_objects_fps']:8.1f} frames a second")
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="DIR")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="rows of the table, or memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fixture", type=Path, metavar="FILE", help="write only the reference for the tests")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(peak(arguments.peak))
        return
    if arguments.fixture:
        write_fixture(arguments.reference.resolve(), arguments.fixture)
        return
    if arguments.device != "cpu":
        figures = on_device(arguments.device, arguments.frames)
    else:
        folder, only = arguments.reference and arguments.reference.resolve(), arguments.only
        figures = speed(folder, arguments.frames, arguments.rounds, only) if only != ["memory"] else {}
        figures |= growth() if not only or "memory" in only else {}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
