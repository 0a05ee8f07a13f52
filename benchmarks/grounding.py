"""Grounding: the gain of ground-then-propagate, memory by length of the video, and the time saved by shared features.

`python -m benchmarks.grounding --model RUN [--figure gain|memory|sharing|narratives ...] [--out DIR] [--json FILE]`

gain: `vng predict` and `vng evaluate vng` on procedural videos with occlusions (`vng synthesize --preset occlusions`),
without a propagator and with each. RUN is a grounder of the easy procedural world, such as `vng demo` trains. Settings
were chosen on `--seed 22`; the default, 21, is for reporting.
memory: peak resident memory of `vng predict` on a video of 60 frames and on one of 600, each in a separate process;
median over rounds.
sharing: processor time of ground-then-propagate with the features of one network computed once and twice, in
alternating rounds; the model is a new grounder whose backbone is the key encoder of the shipped STCN.
narratives: processor time of a video with 4 narratives beside 1, together (`ground_all`) and one after another, and how often
the backbone sees each frame; the model is a new ReferFormer with a ResNet-50, without trained weights, 8 frames of `--size`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import run
from vng.errors import VngError

FIGURES = ("gain", "memory", "sharing", "narratives")
NARRATIVE = "A red [ball] moves to the left past the blue [ball]."
PEAK = """
import resource, sys
from vng.cli import main
status = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def occlusion_set(out: Path, videos: int, seed: int) -> Path:
    """A dataset of procedural videos whose objects occlude each other, pass behind pillars, leave and return."""
    world, data = out / f"world-{seed}", out / f"occlusions-{seed}"
    if not (data / "data").exists():
        run("synthesize", "--out", world, "--videos", videos, "--seed", seed, "--preset", "occlusions", "--quiet")
        trio = world / "vng"
        inputs = ["--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json"]
        inputs += ["--orig-masks", trio / "orig_masks.json", "--frames", world / "frames"]
        run("convert", "vng", *inputs, "--out", data, "--name", "procedural", "--split", "train", "--quiet")
    return data


def predict_options(arguments: argparse.Namespace) -> dict[str, list[object]]:
    """Options of `vng predict` for grounding alone and for grounding with each propagator."""
    options: dict[str, list[object]] = {"grounding": []}
    for name in arguments.propagator:
        settings = [word for option in arguments.set if name == "stcn" for word in ("--propagator-set", option)]
        options[name] = ["--propagator", name, "--anchors", arguments.anchors, *settings]
    return options


def gain(arguments: argparse.Namespace) -> dict[str, float]:
    """J&F and processor seconds of grounding alone and with each propagator."""
    data = occlusion_set(arguments.out, arguments.videos, arguments.seed)
    figures: dict[str, float] = {}
    print(f"\nprocedural videos with occlusions, seed {arguments.seed}\n{'':14}{'J&F':>8}{'J':>8}{'F':>8}{'CPU s':>9}")
    for name, options in predict_options(arguments).items():
        results, report = arguments.out / f"results-{arguments.seed}-{name}", arguments.out / f"{name}.json"
        started = time.process_time()
        run("predict", "--model", arguments.model, "--dataset", data, "--out", results, "--quiet", *options)
        seconds = time.process_time() - started
        run("evaluate", "vng", "--dataset", data, "--results", results, "--json", report, "--quiet")
        scores = json.loads(report.read_text())
        print(f"{name:14}" + "".join(f"{100 * scores[k]:8.2f}" for k in ("J&F", "J", "F")) + f"{seconds:9.0f}")
        figures |= {f"JF_{name}": 100 * scores["J&F"], f"cpu_seconds_{name}": seconds}
    for name in arguments.propagator:
        figures[f"gain_{name}"] = figures[f"JF_{name}"] - figures["JF_grounding"]
        print(f"gain of {name}: {figures[f'gain_{name}']:+.2f} (goal: +3)")
    return figures


def memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory of `vng predict` on 60 and on 600 frames, for grounding alone and with each propagator."""
    from vng.viewer import write_video

    figures: dict[str, float] = {}
    height, width = arguments.size
    videos = {length: arguments.out / f"{length}-{height}x{width}.mp4" for length in (60, 600)}
    for length, video in videos.items():
        if not video.exists():
            write_video(_moving_square(length, height, width), video)
    predict = ["predict", "--model", arguments.model, "--narrative", NARRATIVE, "--out", arguments.out / "result"]
    for name, options in predict_options(arguments).items():
        peaks: dict[int, list[float]] = {length: [] for length in videos}
        # the peaks vary by a few per cent from run to run with the memory allocator
        for _ in range(arguments.rounds):
            for length, video in videos.items():
                peaks[length].append(_peak(*predict, "--video", video, "--quiet", *options))
        short, long = (float(np.median(peaks[length])) for length in videos)
        figures |= {f"peak_MiB_{name}_60": short, f"peak_MiB_{name}_600": long, f"peak_ratio_{name}": long / short}
        print(f"{name}: peak {short:.0f} MiB with 60 frames, {long:.0f} MiB with 600: {long / short:.3f} (goal: 1.05)")
    return figures


def _peak(*arguments: object) -> float:
    """Peak resident memory of a `vng` command in a separate process, MiB."""
    ended = subprocess.run([sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True)
    if ended.returncode:
        raise VngError(f"vng {' '.join(map(str, arguments))}: {ended.stderr[-500:]}")
    return int(ended.stdout.split("peak ")[1]) / 1024


def _moving_square(length: int, height: int, width: int) -> Any:
    """Frames of a red square that moves from left to right over noise, uint8 [H, W, 3] each."""
    rng = np.random.default_rng(0)
    background = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    for t in range(length):
        image = background.copy()
        left = int((width - height // 3) * t / length)
        image[height // 3 : 2 * height // 3, left : left + height // 3] = (200, 40, 40)
        yield image


def sharing(arguments: argparse.Namespace) -> dict[str, float]:
    """Processor seconds with features computed once and twice, in alternating rounds on one thread."""
    import torch

    from vng.frames import ArrayFrames
    from vng.grounding.ground_then_propagate import PropagationSettings
    from vng.grounding.grounder import NarrativeGrounder
    from vng.models.loading import load_strictly, shipped_weights
    from vng.models.referformer.configuration_referformer import ReferFormerConfig
    from vng.models.referformer.loading import load_model, load_processor
    from vng.models.referformer.modeling_referformer import ReferFormerForVNG
    from vng.models.stcn.modeling_stcn import Stcn
    from vng.narratives import nouns_in

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stcn = load_strictly(Stcn, shipped_weights("stcn")).float()
    config: ReferFormerConfig = load_model(arguments.model).config
    config.backbone_config = stcn.config.key_backbone
    # the shipped weights are half precision
    model = ReferFormerForVNG(config).float()
    model.backbone.load_state_dict(stcn.key_encoder.state_dict())
    processor = load_processor(arguments.model)
    frames = ArrayFrames(np.stack(list(_moving_square(24, *arguments.size))))
    description, spans = nouns_in(NARRATIVE)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    # without sharing, the propagator gets frames of the same size, so that only the sharing differs
    side = str(min(processor.target_size(*arguments.size)))
    for _ in range(arguments.rounds):
        for share in seconds:
            settings = PropagationSettings(propagator="stcn", options={"short_side": side}, confidence=0, share=share)
            grounder = NarrativeGrounder(model, processor, "cpu", propagation=settings)
            if grounder.shares_features != share:
                raise VngError("sharing: the backbone and the key encoder hold different weights")
            started = time.process_time()
            grounder.ground(frames, description, spans)
            seconds[share].append(time.process_time() - started)
    once, twice = float(np.median(seconds[True])), float(np.median(seconds[False]))
    print(f"features computed once {once:.1f} s, twice {twice:.1f} s: {once / twice:.2f}")
    return {"cpu_seconds_shared": once, "cpu_seconds_apart": twice, "ratio_shared": once / twice}


def narratives(arguments: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of 1 and of 4 narratives, median over rounds, on one thread."""
    import torch

    from benchmarks.referformer import configuration
    from vng.frames import ArrayFrames
    from vng.grounding.grounder import NarrativeGrounder
    from vng.models.referformer.loading import load_processor
    from vng.models.referformer.modeling_referformer import ReferFormerForVNG
    from vng.narratives import nouns_in

    torch.set_num_threads(1)
    torch.manual_seed(0)
    grounder = NarrativeGrounder(ReferFormerForVNG(configuration("noun")), load_processor(arguments.model), "cpu")
    frames, narrative = ArrayFrames(np.stack(list(_moving_square(8, *arguments.size)))), nouns_in(NARRATIVE)
    seen: list[int] = []
    backbone = grounder.model.backbone.forward
    grounder.model.backbone.forward = lambda pixels: seen.append(len(pixels)) or backbone(pixels)
    kinds = {
        "one": lambda: grounder.ground_all(frames, [narrative]),
        "together": lambda: grounder.ground_all(frames, [narrative] * 4),
        "apart": lambda: [grounder.ground_all(frames, [narrative]) for _ in range(4)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    passes: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for name, call in kinds.items():
            seen.clear()
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
            passes[name] = sum(seen) / len(frames)
    one, together, apart = (float(np.median(seconds[name])) for name in kinds)
    print(f"1 narrative {one:.1f} s; 4 together {together:.1f} s ({together / one:.2f}x), apart {apart:.1f} s")
    print(f"times that the backbone sees a frame: {passes}")
    return {
        "narratives_together_ratio": together / one,
        "narratives_apart_ratio": apart / one,
        "backbone_passes_together": passes["together"],
    }


def main() -> None:
    """Measure and print the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="run folder of a grounder of the easy procedural world")
    parser.add_argument("--figure", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--propagator", nargs="+", default=["stcn", "flow"])
    parser.add_argument("--set", nargs="+", default=["short_side=192"], metavar="KEY=VALUE", help="settings of stcn")
    parser.add_argument("--anchors", type=int, default=3)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--size", type=int, nargs=2, default=[96, 160], metavar=("H", "W"), help="of all but gain")
    parser.add_argument("--rounds", type=int, default=3, help="of all but gain")
    parser.add_argument("--out", type=Path, default=Path("out/grounding"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    for name in arguments.figure:
        figures |= {"gain": gain, "memory": memory, "sharing": sharing, "narratives": narratives}[name](arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
