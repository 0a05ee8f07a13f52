"""Annotations in, VNG datasets out.

    import conversion

    conversion.convert("point-vos", points="oops_train.json", narratives="oops_train.jsonl", frames="frames", out="data/oops-vng")
    conversion.export("data/oops-vng", "official", "trio")
    conversion.synthesize("world", videos=50, seed=1)

Each function does what the command of its name does, and takes its options as keywords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from conversion.build import BuildResult, Estimate
    from conversion.export_formats import ExportResult

__all__ = ["convert", "estimate", "export", "synthesize"]


def convert(kind: str, out: str | Path, *, progress: bool = True, **options: Any) -> BuildResult:
    """Make a VNG dataset from annotations, resume a conversion that was interrupted, or repair a damaged dataset.

    Under `torchrun` or `accelerate launch` every process calls this and takes its share of the videos; the bytes of the
    result do not depend on their number.

    Args:
        kind: of annotations, a name in `conversion.kinds.KINDS`: "point-vos", "vidln", "vng", "davis", ...
        out: the dataset folder to write.
        progress: whether a bar counts videos.
        options: those of `vng convert KIND --help`, with _ for -; paths may be text.

    Returns:
        Totals, and the problems that were met: `problems.jsonl` in `out` has them too.

    Raises:
        UsageError: an unknown kind, engine or option, a value out of range.
        DataError: nothing could be converted, or `out` holds something else.
    """
    from conversion.build import run_conversion
    from conversion.kinds import make_conversion

    return run_conversion(*make_conversion(kind, out, progress, **options))


def estimate(kind: str, out: str | Path, *, progress: bool = True, **options: Any) -> Estimate:
    """What `convert` would do with these arguments, and how long it would take; nothing is written to `out`."""
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
    """Write a VNG dataset in another format.

    Args:
        dataset: a folder, a hub id, or a `VngDataset`.
        format: a name in `conversion.export_formats.FORMATS`: "official", "davis", "coco" or "point-png".
        out: folder to write.
        split: only rows of this split.
        with_frames: with "coco", write the frames too, as JPEGs.
        progress: whether a bar counts videos.

    Raises:
        UsageError: an unknown format, or `with_frames` where it means nothing.
        DataError: `out` holds something else.
    """
    from conversion.export_formats import export_dataset

    return export_dataset(dataset, format, out, split=split, with_frames=with_frames, progress=progress)


def synthesize(
    out: str | Path,
    videos: int,
    *,
    seed: int = 0,
    preset: str = "hard",
    split: str = "train",
    progress: bool = True,
) -> dict[str, int]:
    """Write a procedural set in the official formats, with exact truth; the same arguments give the same bytes.

    Args:
        out: folder to write.
        videos: how many.
        seed: of everything that is drawn.
        preset: what the world is like: "hard", "easy", "varied", "crowded", "occlusions" or "stills".
        split: prefix of the video names.
        progress: whether a bar counts videos.

    Returns:
        Totals by name.

    Raises:
        UsageError: an unknown preset.
    """
    from pathlib import Path

    from conversion.synthetic.world import write_world

    return write_world(Path(out), videos, seed, preset, split, progress=progress)
