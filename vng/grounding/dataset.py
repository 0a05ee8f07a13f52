"""Predictions of a grounder on a whole dataset, in the official results layout; resumable video by video."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from vng.dataset import Video, VngDataset, as_dataset
from vng.frames import inside
from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.result import write_mask_pngs
from vng.manifest import check_folder, check_same, claimed_folder, file_hash, to_json, write_atomic
from vng.masks import RLE
from vng.models.loading import fingerprint

MANIFEST = "predictions.json"


def predict(
    grounder: NarrativeGrounder, dataset: VngDataset | str | Path, out: str | Path, *, progress: bool = True
) -> int:
    """Ground every expression of a dataset; write `<out>/<video>/<expression>/<frame>.png`.

    A video's folder appears when all its expressions are written, so an interrupted run resumes with the next video.

    Args:
        grounder: the model.
        dataset: a folder, a hub id, or an opened dataset.
        out: folder to write.
        progress: whether to show a progress bar.

    Returns:
        The number of expressions.

    Raises:
        DataError: `out` holds predictions with other settings, or of another model or dataset (compared by content).
    """
    dataset, out = as_dataset(dataset), Path(out)
    check_folder(out)
    settings = {
        "model": _model_content(grounder),
        "dataset": dataset.content,
        "videos": len(dataset),
        **grounder.manifest_settings(),
    }
    with claimed_folder(out):
        check_same(out / MANIFEST, settings, out)
        write_atomic(out / MANIFEST, to_json({"settings": settings}))
        return _predict_videos(grounder, dataset, out, progress)


def _predict_videos(grounder: NarrativeGrounder, dataset: VngDataset, out: Path, progress: bool) -> int:
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


def _model_content(grounder: NarrativeGrounder) -> str:
    """An identifier of the model: hashes of its files, else its hub id, or a hash of its weights."""
    if grounder.source is None:
        return fingerprint(grounder.model)
    files = [Path(grounder.source) / name for name in ("config.json", "model.safetensors")]
    return " ".join(map(file_hash, files)) if all(file.is_file() for file in files) else grounder.source


def _predict_video(grounder: NarrativeGrounder, video: Video, folder: Path) -> None:
    for index, rles in ground_expressions(grounder, video):
        write_mask_pngs(rles, video.frame_names, folder / str(index))


def ground_expressions(grounder: NarrativeGrounder, video: Video) -> Iterator[tuple[int, tuple[RLE, ...]]]:
    """(number, mask of each frame) of all expressions of a video; one pass per narrative, for all its nouns."""
    frames = video.opened_frames()
    for number, narrative in enumerate(video.narratives):
        indices = [i for i, expression in enumerate(video.expressions) if expression.narrative == number]
        if indices:
            spans = [(video.expressions[i].start, video.expressions[i].end) for i in indices]
            yield from zip(indices, grounder.ground(frames, narrative.description, spans).rles, strict=True)
