"""Predictions of a grounder on a whole dataset, in the official results layout; resumable video by video."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from vng.dataset import Video, VngDataset
from vng.frames import inside
from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.result import write_mask_pngs
from vng.manifest import check_folder, check_same, file_hash, to_json, write_atomic
from vng.masks import RLE

MANIFEST = "predictions.json"


def predict_dataset(
    grounder: NarrativeGrounder, dataset: VngDataset, out: Path, model: str, progress: bool = True
) -> int:
    """Ground every expression of a dataset; write `<out>/<video>/<expression>/<frame>.png`.

    A video's folder appears when all its expressions are written, so a stopped run goes on with the next video.

    Args:
        model: where the grounder came from, a folder or hub id.

    Returns:
        The number of expressions.

    Raises:
        DataError: `out` holds predictions of another model or dataset, by content, or made with other settings.
    """
    check_folder(out)
    settings = {
        "model": _content(Path(model), ("config.json", "model.safetensors")) or model,
        "dataset": _content(dataset.path, ("manifest.json",)) or str(dataset.path),
        "videos": len(dataset),
        **grounder.told(),
    }
    check_same(out / MANIFEST, settings, out)
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


def _content(folder: Path, names: tuple[str, ...]) -> str:
    """Hashes of files that say what a folder holds; "" where they are not all there."""
    files = [folder / name for name in names]
    return " ".join(file_hash(file) for file in files) if all(file.is_file() for file in files) else ""


def _predict_video(grounder: NarrativeGrounder, video: Video, folder: Path) -> None:
    for index, rles in ground_expressions(grounder, video):
        write_mask_pngs(rles, video.frame_names, folder / str(index))


def ground_expressions(grounder: NarrativeGrounder, video: Video) -> Iterator[tuple[int, tuple[RLE, ...]]]:
    """All expressions of a video, (number, mask of each frame): one pass a narrative, for all its nouns."""
    frames = video.opened_frames()
    for number, narrative in enumerate(video.narratives):
        indices = [i for i, expression in enumerate(video.expressions) if expression.narrative == number]
        if indices:
            spans = [(video.expressions[i].start, video.expressions[i].end) for i in indices]
            yield from zip(indices, grounder.ground(frames, narrative.description, spans).rles, strict=True)
