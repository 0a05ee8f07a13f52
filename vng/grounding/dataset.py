"""Predictions of a grounder on a whole dataset, resumable video by video.

RESULTS/<video>.parquet                      compact: the masks of all expressions (`vng/compact_results.py`)
RESULTS/<video>/<expression>/<frame>.png     or the official layout, a PNG for each mask
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vng.compact_results import LAYOUTS, Layout, TrackResult, VideoResult, compact_path, write_compact
from vng.dataset import Video, VngDataset, as_dataset
from vng.errors import DataErrors, one_of
from vng.frames import inside
from vng.grounding import Grounder
from vng.grounding.result import GroundingResult, write_mask_pngs
from vng.manifest import check_folder, check_same, claimed_folder, to_json, versions, write_atomic
from vng.processes import current_processes

MANIFEST = "predictions.json"


def predict(
    grounder: Grounder,
    dataset: VngDataset | str | Path,
    out: str | Path,
    *,
    layout: Layout = "compact",
    progress: bool = True,
) -> int:
    """Ground every expression of a dataset.

    A video's file (or folder) appears when all its expressions are written, so an interrupted run resumes with the next
    video. The processes of a launcher (`torchrun`, `accelerate launch`) share the videos; all of them call this. A video
    that cannot be read is left out, and the others go on.

    Args:
        grounder: with training or without.
        dataset: a folder, a hub id, or an opened dataset.
        out: folder to write.
        layout: "compact", one file a video, or "png", the official one.
        progress: whether to show a progress bar.

    Returns:
        The number of expressions.

    Raises:
        DataError: `out` holds predictions with other settings, or of another model or dataset (compared by content).
        DataErrors: videos that could not be read, after all others have been written.
        UsageError: an unknown layout.
    """
    one_of(layout, LAYOUTS, "layout")
    dataset, out = as_dataset(dataset), Path(out)
    check_folder(out)
    settings = {
        "model": grounder.content(),
        "dataset": dataset.content,
        "videos": len(dataset),
        "layout": layout,
        **grounder.manifest_settings(),
    }

    def begin() -> None:
        check_same(out / MANIFEST, settings, out)
        write_atomic(out / MANIFEST, to_json({"settings": settings, "versions": versions()}))

    processes = current_processes()
    with ExitStack() as stack:
        processes.on_main(lambda: stack.enter_context(claimed_folder(out)))
        processes.on_main(begin)
        counts: list[int] = []

        def work(index: int) -> None:
            counts.append(_predict_video(grounder, dataset[index], out, layout))

        problems = processes.each(len(dataset), work, "predict", progress)
        total = processes.sum(sum(counts))
    if problems:
        raise DataErrors(problems)
    return total


def _predict_video(grounder: Grounder, video: Video, out: Path, layout: Layout) -> int:
    """Write a video unless it is there; returns the number of its expressions."""
    target = compact_path(out, video.video_id) if layout == "compact" else inside(out, video.video_id)
    if not video.expressions or target.exists():
        return len(video.expressions)
    if layout == "compact":
        tracks = {str(number): _track(result, n) for number, result, n in ground_expressions(grounder, video)}
        predicted = VideoResult(
            video_id=video.video_id,
            unit="expression",
            size=(video.height, video.width),
            frame_names=tuple(video.frame_names),
            tracks=dict(sorted(tracks.items(), key=lambda item: int(item[0]))),
        )
        write_compact(target, predicted)
        return len(video.expressions)
    temporary = target.with_name(target.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for number, result, n in ground_expressions(grounder, video):
        write_mask_pngs(result.rles[n], video.frame_names, temporary / str(number))
    os.replace(temporary, target)
    return len(video.expressions)


def _track(result: GroundingResult, n: int) -> TrackResult:
    details: dict[str, Any] = {"noun": result.nouns[n]} | dict(result.details[n] if result.details else {})
    return TrackResult(
        masks=result.rles[n],
        score=float(result.scores[n]),
        frame_scores=tuple(result.frame_scores[n].tolist()),
        details=details,
    )


def ground_expressions(grounder: Grounder, video: Video) -> Iterator[tuple[int, GroundingResult, int]]:
    """All expressions of a video: (number, result of its narrative, index of its noun in the result).

    Frames are read, and encoded, once for all narratives.
    """
    numbers: list[list[int]] = []
    narratives: list[tuple[str, Sequence[tuple[int, int]]]] = []
    for number, narrative in enumerate(video.narratives):
        own = [i for i, expression in enumerate(video.expressions) if expression.narrative == number]
        if own:
            numbers.append(own)
            spans = [(video.expressions[i].start, video.expressions[i].end) for i in own]
            narratives.append((narrative.description, spans))
    results = grounder.ground_all(video.opened_frames(), narratives) if narratives else []
    for own, result in zip(numbers, results, strict=True):
        for n, number in enumerate(own):
            yield number, result, n
