"""Conversion of annotations into VNG datasets, and export of the datasets to other formats.

    import conversion

    conversion.convert(
        "point-vos", points="oops_train.json", narratives="oops_train.jsonl", frames="frames", out="data/oops-vng"
    )
    conversion.export("data/oops-vng", "official", "trio")
    conversion.synthesize("world", videos=50, seed=1)

Each function does what the command of the same name does, and takes the command's options as keywords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import supervision

    from conversion.annotation.steps import StepResult
    from conversion.build import BuildResult, Estimate
    from conversion.export_formats import ExportResult
    from vng.dataset import Video

__all__ = ["annotate", "convert", "detections", "estimate", "export", "synthesize"]


def convert(kind: str, out: str | Path, *, progress: bool = True, **options: Any) -> BuildResult:
    """Convert annotations to a VNG dataset, resume an interrupted conversion, or repair a damaged dataset.

    Under `torchrun` or `accelerate launch` every process calls this and takes its share of the videos; the output is
    identical for any number of processes.

    Args:
        kind: the kind of annotations, a name in `conversion.kinds.KINDS`: "point-vos", "vidln", "vng", "davis", ...
        out: the dataset folder to write.
        progress: whether to show a progress bar.
        options: the options of `vng convert KIND --help`, with _ for -; paths may be strings.

    Returns:
        Totals and problems; `problems.jsonl` in `out` lists the problems too.

    Raises:
        UsageError: an unknown kind, engine or option, a value out of range.
        DataError: nothing could be converted, or `out` holds other files.
    """
    from conversion.build import run_conversion
    from conversion.kinds import make_conversion

    return run_conversion(*make_conversion(kind, out, progress, **options))


def annotate(step: str, *, progress: bool = True, **options: Any) -> StepResult:
    """Points made by people: propose candidates, serve the page, export what was made, or simulate an annotator.

    Args:
        step: "propose", "serve" (until it is interrupted), "export" or "simulate".
        progress: whether to show a progress bar.
        options: the options of `vng annotate STEP --help`, with _ for -; paths may be strings.

    Raises:
        UsageError: an unknown step or option, a value out of range.
        DataError: nothing could be used, or `out` holds candidates of other settings.
    """
    from conversion.annotation.steps import run_step

    return run_step(step, progress, **options)


def estimate(kind: str, out: str | Path, *, progress: bool = True, **options: Any) -> Estimate:
    """Estimate the work, time and disk space of `convert` with the same arguments; writes nothing to `out`."""
    from conversion.build import estimate_conversion
    from conversion.kinds import make_conversion

    return estimate_conversion(*make_conversion(kind, out, progress, **options))


def export(
    dataset: Any,
    format: str,
    out: str | Path,
    *,
    split: str | None = None,
    with_frames: bool = False,
    progress: bool = True,
) -> ExportResult:
    """Write a VNG dataset in another format, or results of `vng.predict` in the other layout.

    Args:
        dataset: a folder, a hub id, or a `VngDataset`; with "png" and "compact" a folder of results.
        format: a name in `conversion.export_formats.FORMATS`: "official", "davis", "coco", "point-png", "own",
            "cvat" or "coco-images"; or of results "png" or "compact".
        out: folder to write.
        split: export only the rows of this split.
        with_frames: with "coco", "own", "cvat" and "coco-images", write the frames too, as JPEGs.
        progress: whether to show a progress bar.

    Raises:
        UsageError: an unknown format, or `with_frames` with a format that does not support it.
        DataError: `out` holds other files.
    """
    from conversion.export_formats import export_dataset

    return export_dataset(dataset, format, out, split=split, with_frames=with_frames, progress=progress)


def detections(video: Video) -> Iterator[tuple[str, supervision.Detections]]:
    """The objects of each annotated frame of a video, for the package `supervision`.

    Yields:
        name of the frame, and its detections, see `conversion.formats.supervision_detections`.

    Raises:
        UsageError: the package is not installed (`pip install 'vng[import]'`).
    """
    from conversion.formats.supervision_detections import detections as of_video

    return of_video(video)


def synthesize(
    out: str | Path,
    videos: int,
    *,
    seed: int = 0,
    preset: str = "hard",
    split: str = "train",
    progress: bool = True,
) -> dict[str, int]:
    """Write a procedural dataset in the official formats, with exact ground truth; same arguments, identical output.

    Args:
        out: folder to write.
        videos: number of videos.
        seed: random seed.
        preset: settings of the scenes: "hard", "easy", "varied", "crowded", "occlusions" or "stills".
        split: prefix of the video names.
        progress: whether to show a progress bar.

    Returns:
        Totals by name.

    Raises:
        UsageError: an unknown preset.
    """
    from pathlib import Path

    from conversion.synthetic.world import write_world

    return write_world(Path(out), videos, seed, preset, split, progress=progress)
