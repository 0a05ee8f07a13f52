"""Fine-tuning of the shipped models on three clips: losses, and J on these clips before and after.

    python -m benchmarks.fine_tuning                 # 100 steps each

The clips are procedural. The click segmenter is asked with three points of each object in each frame, the propagator
starts from the true masks of the first frame.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.commands import run
from conversion.synthetic.world import write_world
from vng.dataset import VngDataset
from vng.evaluation.metrics import jaccard
from vng.label_maps import THRESHOLD, exclusive
from vng.masks import area, decode
from vng.models.loading import SHIPPED
from vng.points import PointPrompts, sample_in_mask

VIDEOS, SEED = 3, 21
SETTINGS = {
    "embedded": ["embedded", "optimizer.lr=5e-4", "data.size=[96, 160]", "data.scale=[1.0, 1.0]"],
    "stcn": ["embedded-stcn-final", "optimizer.lr=1e-4", "data.size=[96, 160]", "supervision=masks"],
    "abs": ["embedded-abs", "optimizer.lr=3e-4", "data.size=[96, 160]", "data.frames=3", "loss.bootstrap=[1.0, 1.0]"],
}


def make_clips(folder: Path, preset: str = "hard") -> Path:
    """Three procedural clips with true masks, as a dataset."""
    write_world(folder / "world", VIDEOS, SEED, preset, progress=False)
    trio = folder / "world" / "vng"
    files = ("--meta", trio / "meta_expressions.json", "--extra-masks", trio / "extra_masks.json")
    more = ("--orig-masks", trio / "orig_masks.json", "--frames", folder / "world" / "frames")
    run("convert", "vng", *files, *more, "--out", folder / "clips", "--quiet")
    return folder / "clips"


def fine_tune(name: str, clips: Path, out: Path, steps: int) -> list[float]:
    """Fine-tune a shipped model; returns its logged losses, ten of them."""
    every = max(1, steps // 10)
    recipe, *settings = SETTINGS[name]
    settings += [f"data.sources=[{{path: {clips}}}]", f"model.init={name}", f"out={out}", "optimizer.batch_size=2"]
    settings += [f"optimizer.steps={steps}", f"log_every={every}", f"save_every={every * 100}", "precision=no"]
    run("train", recipe, *settings, "optimizer.warmup=0", "optimizer.schedule=cosine", "--quiet")
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def mean_j(name: str, clips: Path, checkpoint: Path | None) -> float:
    """Mean J of a model (None: as shipped) over all objects and frames of the clips."""
    scores: list[float] = []
    for video in VngDataset(clips):
        if name == "embedded":
            scores += _segmented(video, checkpoint)
        else:
            scores += _propagated(name, video, checkpoint)
    return float(np.mean(scores))


def _segmented(video, checkpoint: Path | None) -> list[float]:  # type: ignore[no-untyped-def]
    from vng.segmenters.embedded import EmbeddedSegmenter

    segmenter, frames = EmbeddedSegmenter(None if checkpoint is None else str(checkpoint)), video.opened_frames()
    rng, scores = np.random.default_rng(0), []
    for t in range(0, len(frames), 4):
        masks = [decode(o.segmentations[t]) for o in video.objects if o.segmentations[t] and area(o.segmentations[t])]
        prompts = [PointPrompts(sample_in_mask(mask, 3, 4, rng), np.empty((0, 2))) for mask in masks]
        found = segmenter(frames[t], prompts) > THRESHOLD
        scores += [float(jaccard(mask[None], own[None])[0]) for mask, own in zip(masks, found, strict=True)]
    return scores


def _propagated(name: str, video, checkpoint: Path | None) -> list[float]:  # type: ignore[no-untyped-def]
    from vng.propagators import FramePrompts, load

    first = tuple(decode(o.segmentations[0]) for o in video.objects)
    prompts = {0: FramePrompts(masks=first)}
    engine, scores = load(name, **({} if checkpoint is None else {"checkpoint": str(checkpoint)})), []
    for t, probabilities in engine(video.opened_frames(), prompts):
        for item, mask in zip(video.objects, exclusive(probabilities), strict=True):
            if t and item.segmentations[t]:
                scores.append(float(jaccard(decode(item.segmentations[t])[None], mask[None])[0]))
    return scores


def main() -> None:
    """Print a line for each shipped model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder))
        for name in SHIPPED:
            before, out = mean_j(name, clips, None), Path(folder) / name
            losses = fine_tune(name, clips, out, steps)
            after = mean_j(name, clips, out)
            print(
                f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f} in {steps} steps, J {before:.4f} -> {after:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
