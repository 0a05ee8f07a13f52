"""Comparison of two datasets with the same objects, such as masks of two engines from the same points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vng.dataset import MEASURES, Video, VideoObject, VngDataset, as_dataset
from vng.errors import DataError
from vng.evaluation.bootstrap import Ratio, paired_difference
from vng.masks import intersection_over_union
from vng.pages import embed_image, render_page
from vng.viewer import grid, object_tile

MAX_CARDS = 30


@dataclass(frozen=True, kw_only=True)
class ObjectDifference:
    """Comparison of one object that both datasets have."""

    video_id: str
    object_id: str
    name: str
    frames: int  # frames annotated in both
    only_first: int  # frames annotated only in the first
    only_second: int  # frames annotated only in the second
    iou: float | None  # mean over frames annotated in both; None where there are none
    worst_frame: str  # the frame of the lowest IoU
    worst_iou: float | None
    first: dict[str, float | None]  # measures of quality
    second: dict[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """Comparison of all objects of two datasets, and the objects of only one of them ("video/object")."""

    objects: list[ObjectDifference]
    only_first: list[str]
    only_second: list[str]

    @property
    def iou(self) -> float | None:
        """Mean IoU over objects that have a frame annotated in both."""
        values = [item.iou for item in self.objects if item.iou is not None]
        return float(np.mean(values)) if values else None

    def measure(self, name: str) -> dict[str, float] | None:
        """Means of a quality measure, and the paired difference with its bootstrap interval over objects (seed 0)."""
        pairs = [(item.first[name], item.second[name]) for item in self.objects]
        measured = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        if not len(measured):
            return None
        first, second = (Ratio.of(range(len(measured)), measured[:, i]) for i in (0, 1))
        paired = paired_difference(second, first)
        return {
            "objects": len(measured),
            "first": paired.second,
            "second": paired.first,
            "difference": paired.difference,
            "low": paired.low,
            "high": paired.high,
        }

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "objects": len(self.objects),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "iou": self.iou,
            **{name: self.measure(name) for name in MEASURES},
            "per_object": [asdict(item) for item in self.objects],
        }


def compare(
    first: VngDataset | str | Path,
    second: VngDataset | str | Path,
    html: str | Path | None = None,
    *,
    frames: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare the masks of two datasets, object by object.

    Objects are matched by video and object id, frames by name.

    Args:
        first, second: folders, hub ids, or opened datasets.
        html: a folder for a page with the objects that differ most, each in its worst frame.
        frames: the folder of linked frames, if they were moved.
        progress: whether to show a progress bar over videos.

    Raises:
        DataError: the datasets have no object in common, or frames of different sizes.
    """
    root = None if frames is None else Path(frames)
    one, other = as_dataset(first, frames_root=root), as_dataset(second, frames_root=root)
    first, second = one.path, other.path
    place = {name: index for index, name in enumerate(other.video_ids)}
    objects: list[ObjectDifference] = []
    only_first: list[str] = []
    only_second = _names(other, set(other.video_ids) - set(one.video_ids))
    for name, video in zip(tqdm(one.video_ids, desc="compare", unit="video", disable=not progress), one, strict=True):
        if name not in place:
            only_first += [f"{name}/{item.object_id}" for item in video.objects]
            continue
        rival = other[place[name]]
        objects += [_difference(video, rival, item.object_id, second) for item in _shared(video, rival)]
        only_first += [f"{name}/{key}" for key in video.object_by_id if key not in rival.object_by_id]
        only_second += [f"{name}/{key}" for key in rival.object_by_id if key not in video.object_by_id]
    if not objects:
        raise DataError(
            second,
            field="objects",
            reason=f"no object in common with {first}",
            cure="compare datasets of the same points",
        )
    comparison = Comparison(objects, only_first, only_second)
    if html is not None:
        _write_page(comparison, one, other, Path(html))
    return comparison


def _names(dataset: VngDataset, videos: set[str]) -> list[str]:
    indices = [index for index, name in enumerate(dataset.video_ids) if name in videos]
    return [f"{dataset.video_ids[i]}/{item.object_id}" for i in indices for item in dataset[i].objects]


def _shared(video: Video, rival: Video) -> list[VideoObject]:
    return [item for item in video.objects if item.object_id in rival.object_by_id]


def _difference(video: Video, rival: Video, key: str, path: Path) -> ObjectDifference:
    if (video.height, video.width) != (rival.height, rival.width):
        reason = f"frames of {(video.height, video.width)} in one dataset, {(rival.height, rival.width)} in the other"
        raise DataError(
            path, record=video.video_id, field="size", reason=reason, cure="compare datasets made from the same frames"
        )
    item, other_item = video.object_by_id[key], rival.object_by_id[key]
    first_masks = dict(zip(video.frame_names, item.segmentations, strict=True))
    second_masks = dict(zip(rival.frame_names, other_item.segmentations, strict=True))
    in_first = {name: rle for name, rle in first_masks.items() if rle is not None}
    in_second = {name: rle for name, rle in second_masks.items() if rle is not None}
    ious = {name: intersection_over_union(in_first[name], in_second[name]) for name in in_first if name in in_second}
    worst = min(ious, key=lambda name: ious[name], default="")
    return ObjectDifference(
        video_id=video.video_id,
        object_id=key,
        name=item.name,
        frames=len(ious),
        only_first=len(in_first) - len(ious),
        only_second=len(in_second) - len(ious),
        iou=float(np.mean(list(ious.values()))) if ious else None,
        worst_frame=worst,
        worst_iou=ious.get(worst),
        first={name: getattr(item.quality, name) for name in MEASURES},
        second={name: getattr(other_item.quality, name) for name in MEASURES},
    )


def _write_page(comparison: Comparison, one: VngDataset, other: VngDataset, html: Path) -> None:
    first, second = one.path.name, other.path.name
    if first == second:
        first, second = str(one.path), str(other.path)
    ranked = sorted((item for item in comparison.objects if item.iou is not None), key=lambda item: item.iou or 0.0)
    cards = [_card(item, one, other, (first, second)) for item in ranked[:MAX_CARDS]]
    rows = []
    for name in MEASURES:
        measured = comparison.measure(name)
        if measured is not None:
            interval = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**measured)
            label = name.replace("_", " ")
            rows.append((label, f"{measured['first']:.3f}", f"{measured['second']:.3f}", interval, measured["objects"]))
    figures = [
        ("objects in both", f"{len(comparison.objects):,}"),
        ("mean IoU", "none" if comparison.iou is None else f"{comparison.iou:.3f}"),
        (f"only in {first}", f"{len(comparison.only_first):,}"),
        (f"only in {second}", f"{len(comparison.only_second):,}"),
    ]
    sections: list[dict[str, Any]] = [
        {
            "title": "Quality",
            "text": "Means over the objects for which both are known; the paired difference with its 95 % interval.",
            "header": ("measure", first, second, "difference", "objects"),
            "rows": rows,
        },
        {
            "title": "Biggest disagreements",
            "text": f"The {len(cards)} objects of lowest IoU, each in its worst frame: {first} left, {second} right.",
            "cards": cards,
        },
    ]
    lead = "The same objects, segmented by two engines. IoU says how alike the masks are, agreement which is right."
    title = f"{first} against {second}"
    footer = f"vng compare {one.path} {other.path}"
    render_page(html / "index.html", title=title, lead=lead, figures=figures, sections=sections, footer=footer)


def _card(item: ObjectDifference, one: VngDataset, other: VngDataset, names: tuple[str, str]) -> dict[str, Any]:
    tiles = []
    for dataset, name in zip((one, other), names, strict=True):
        video = dataset[dataset.video_ids.index(item.video_id)]
        objects = [i for i, o in enumerate(video.objects) if o.object_id == item.object_id]
        shown = f"{name}: {item.worst_frame}"
        tiles.append(object_tile(video, video.frame_names.index(item.worst_frame), objects, label=shown))
    agreement = " and ".join(
        "?" if (share := measured["point_agreement"]) is None else f"{share:.2f}"
        for measured in (item.first, item.second)
    )
    note = f"IoU {item.iou:.3f} over {item.frames} frames, here {item.worst_iou:.3f}; point agreement {agreement}"
    return {
        "title": f"{item.name}: {item.video_id}",
        "image": embed_image(grid(tiles, 2)),
        "note": f"{note}; object {item.object_id}",
    }
