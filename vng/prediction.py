"""Predictions of a grounder on a whole dataset, in the official results layout; resumable video by video."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tqdm import tqdm

from vng.dataset import Video, VngDataset
from vng.frames import inside
from vng.grounding import NarrativeGrounder, write_mask_pngs
from vng.manifest import check_same, to_json, write_atomic

MANIFEST = "predictions.json"


def predict_dataset(
    grounder: NarrativeGrounder, dataset: VngDataset, out: Path, model_name: str, progress: bool = True
) -> int:
    """Ground every expression of a dataset; write `<out>/<video>/<expression>/<frame>.png`.

    A video's folder appears when all its expressions are written, so a stopped run goes on with the next video.

    Returns:
        The number of expressions.

    Raises:
        DataError: `out` holds predictions of another model or dataset.
    """
    settings = {"model": model_name, "dataset": str(dataset.path)}
    check_same(out / MANIFEST, settings, out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / MANIFEST, to_json({"settings": settings}))
    total = 0
    for video in tqdm(dataset, total=len(dataset), desc="predict", unit="video", disable=not progress):
        total += len(video.expressions)
        target = inside(out, video.video_id)
        if not target.exists() and video.expressions:
            temporary = target.with_name(target.name + ".tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            _predict_video(grounder, video, temporary)
            os.replace(temporary, target)
    return total


def _predict_video(grounder: NarrativeGrounder, video: Video, folder: Path) -> None:
    """All expressions of a video: one pass a narrative, for all its nouns."""
    frames = video.opened_frames()
    for number, narrative in enumerate(video.narratives):
        indices = [i for i, expression in enumerate(video.expressions) if expression.narrative == number]
        if not indices:
            continue
        spans = [(video.expressions[i].start, video.expressions[i].end) for i in indices]
        result = grounder.ground(frames, narrative.description, spans)
        for index, rles in zip(indices, result.rles, strict=True):
            write_mask_pngs(rles, video.frame_names, folder / str(index))
