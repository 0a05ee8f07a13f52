"""Predictions of a grounder on a whole dataset, in the official results layout; resumable video by video."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from vng.dataset import Video, VngDataset, as_dataset
from vng.frames import inside
from vng.grounding.grounder import NarrativeGrounder
from vng.grounding.result import write_mask_pngs
from vng.manifest import check_folder, check_same, claimed_folder, file_hash, to_json, write_atomic
from vng.masks import RLE
from vng.models.loading import fingerprint
from vng.processes import Processes, current_processes

MANIFEST = "predictions.json"


def predict(
    grounder: NarrativeGrounder, dataset: VngDataset | str | Path, out: str | Path, *, progress: bool = True
) -> int:
    """Ground every expression of a dataset; write `<out>/<video>/<expression>/<frame>.png`.

    A video's folder appears when all its expressions are written, so an interrupted run resumes with the next video.
    The processes of a launcher (`torchrun`, `accelerate launch`) share the videos; all of them call this.

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

    def begin() -> None:
        check_same(out / MANIFEST, settings, out)
        write_atomic(out / MANIFEST, to_json({"settings": settings}))

    processes = current_processes()
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(claimed_folder(out)))
        processes.on_main(begin)
        return processes.sum(_predict_videos(grounder, dataset, out, processes, progress))


def _predict_videos(
    grounder: NarrativeGrounder, dataset: VngDataset, out: Path, processes: Processes, progress: bool
) -> int:
    """Predict the videos of this process; returns the number of their expressions."""
    total, own = 0, range(processes.index, len(dataset), processes.count)
    for index in tqdm(own, desc="predict", unit="video", disable=not progress or not processes.is_main):
        video = dataset[index]
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
    """(number, mask of each frame) of all expressions of a video; the backbone sees it once, for all narratives."""
    numbers, narratives = [], []
    for number, narrative in enumerate(video.narratives):
        own = [i for i, expression in enumerate(video.expressions) if expression.narrative == number]
        if own:
            numbers.append(own)
            narratives.append(
                (narrative.description, [(video.expressions[i].start, video.expressions[i].end) for i in own])
            )
    results = grounder.ground_all(video.opened_frames(), narratives) if narratives else []
    for own, result in zip(numbers, results, strict=True):
        yield from zip(own, result.rles, strict=True)
