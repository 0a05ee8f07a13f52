"""A page for people about a benchmark: which frames were chosen, what was dropped, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conversion.benchmark_decisions import LABELS, BenchmarkTotals, ExplainedObject, read_decisions, sentences
from conversion.benchmark_rules import EARLY_TRACE, NO_REFERENCE, NO_SUPPORT, PAPER, PLACED, PUBLISHED
from vng.dataset import Video, VideoObject, VngDataset
from vng.dataset_writer import DECISIONS_FILE
from vng.errors import DataError
from vng.frames import evenly_spaced
from vng.masks import decode
from vng.pages import embed_image, render_page
from vng.viewer import draw_points, labelled, overlay

REPORT_FILE = "report.html"
MOST_CARDS, MOST_DROPPED = 40, 200  # objects with pictures, rows of dropped objects
REFERENCE_WIDTH, EVALUATION_WIDTH = 660, 220  # pixels; three evaluation frames are as high as the reference frame
QUALITY = 75  # of the pictures
POSITIVE_COLOUR = (60, 255, 90)  # of positives (`draw_points`) and of masks: every card has one object
TABLE_11 = {"videos": "991", "objects": "991", "object_frames": "3.5K", "positive": "7.3K", "negative": "9.9K"}
TABLE_11 |= {"ambiguous": "91"}
_OUTCOMES = {
    PLACED: "in the benchmark, placed by the rules",
    PUBLISHED: "in the benchmark, taken as published: all points on one frame",
    NO_REFERENCE: f"dropped: no frame has {PAPER.reference_positives} positive points",
    NO_SUPPORT: f"dropped: no later frame has {PAPER.later_positives} positive and {PAPER.later_negatives} negative points",
    EARLY_TRACE: "dropped: the frame with the mouse trace is not after the reference frame",
}


def write_report(folder: Path) -> dict[str, float]:
    """Write `report.html` about the benchmark in a dataset folder, from its `decisions.jsonl`; returns the totals.

    Nothing is written where there are no decisions, as in a benchmark of an earlier version of this package.
    """
    path = folder / DECISIONS_FILE
    if not path.is_file():
        return {}
    items = list(read_decisions(path))
    totals = BenchmarkTotals.of(items)
    kept, dropped = [item for item in items if item.kept], [item for item in items if not item.kept]
    cards = _cards(VngDataset(folder), evenly_spaced(kept, MOST_CARDS))
    shown = evenly_spaced(dropped, MOST_DROPPED)
    figures = [("videos", totals.videos), ("objects", totals.objects), ("object-frames", totals.object_frames)]
    figures += [(f"{name} points", getattr(totals, name)) for name in LABELS]
    sections = [
        _totals_section(totals),
        _outcomes_section(totals),
        {
            "title": "Chosen frames",
            "text": f"{len(cards)} of {totals.objects:,} objects. On the left the reference frame with its points: positives "
            "green, negatives red, ambiguous white. On the right the evaluation frames with their true masks.",
            "cards": cards,
        },
        {
            "title": "Dropped objects",
            "text": _dropped_text(len(shown), len(dropped)),
            "header": ("video", "object", "name", "why"),
            "rows": [(i.video_id, i.object_id, i.name, _sentence(i.reason)) for i in shown],
        },
    ]
    render_page(
        folder / REPORT_FILE,
        title=f"{folder.name}: the benchmark",
        lead="A benchmark of points: every object has a reference frame with points, and a few later frames with true "
        "masks (Point-VOS, App. B).",
        figures=[(name, f"{value:,}") for name, value in figures],
        sections=sections,
        footer=f"vng convert point-benchmark; all decisions: {DECISIONS_FILE}",
    )
    return totals.as_json()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dropped_text(shown: int, count: int) -> str:
    if not count:
        return "None."
    return f"{shown:,} of {count:,}; {DECISIONS_FILE} has all of them." if shown < count else ""


def _totals_section(totals: BenchmarkTotals) -> dict[str, Any]:
    values = {name: getattr(totals, name) for name in TABLE_11}
    names = {name: name.replace("_", "-") + (" points" if name in LABELS else "") for name in TABLE_11}
    rows = [
        (
            names[name],
            f"{value:,}",
            _mean(value, totals.objects) if name not in ("videos", "objects") else "",
            _mean(value, totals.object_frames) if name in LABELS else "",
            TABLE_11[name],
        )
        for name, value in values.items()
    ]
    lacking = f" {totals.lacking:,} evaluation frames have no true mask." if totals.lacking else ""
    return {
        "title": "Totals (Point-VOS, Table 11)",
        "text": "Object-frames are reference frames, and evaluation frames in which the object is. Points lie on reference "
        f"frames.{lacking} The published figures are those of the validation set of Point-VOS Oops.",
        "header": ("figure", "here", "an object", "an object-frame", "published"),
        "numbers": (1, 2, 3, 4),
        "rows": rows,
    }


def _mean(total: int, count: int) -> str:
    return f"{total / count:.2f}" if count else ""


def _outcomes_section(totals: BenchmarkTotals) -> dict[str, Any]:
    return {
        "title": "What became of the objects of the source",
        "header": ("outcome", "objects"),
        "numbers": (1,),
        "rows": [(text, f"{totals.outcomes[name]:,}") for name, text in _OUTCOMES.items()],
    }


def _cards(dataset: VngDataset, items: Sequence[ExplainedObject]) -> list[dict[str, Any]]:
    """A card of each object with the pictures of its frames; one without pictures where they cannot be read."""
    places = {name: index for index, name in enumerate(dataset.video_ids)}
    return [_card(dataset, places, item) for item in items]


def _card(dataset: VngDataset, places: Mapping[str, int], item: ExplainedObject) -> dict[str, Any]:
    name = f"{item.name} " if item.name else ""
    counts = [(key, getattr(item, key)) for key in LABELS if getattr(item, key)]
    card: dict[str, Any] = {
        "title": f"{item.video_id}: {name}({item.object_id})",
        "note": sentences(item),
        "chips": [("reference frame", item.reference), *counts],
    }
    try:
        video = dataset[places[item.video_id]]
        return card | {"image": embed_image(_picture(video, item), QUALITY, webp=True)}
    except DataError as error:
        return card | {"note": f"{card['note']} No pictures: {error.problem.reason}."}


def _picture(video: Video, item: ExplainedObject) -> np.ndarray:
    """The reference frame with its points, and beside it the evaluation frames with their true masks."""
    own = video.object_by_id[item.object_id]
    left = _tile(video, own, str(item.reference), "reference", REFERENCE_WIDTH)
    right = [_tile(video, own, name, "evaluation", EVALUATION_WIDTH) for name in item.evaluation]
    if not right:
        return left
    column = np.concatenate(right)
    height = max(len(left), len(column))
    return np.concatenate([np.pad(part, ((0, height - len(part)), (0, 0), (0, 0))) for part in (left, column)], 1)


def _tile(video: Video, item: VideoObject, name: str, what: str, width: int) -> np.ndarray:
    t, frames = video.frame_names.index(name), video.opened_frames()
    rle = item.segmentations[t]
    image = overlay(frames[t], [None if rle is None else decode(rle)], [POSITIVE_COLOUR], width)
    points, factor = item.points.in_frame(t), width / frames.size[1]
    return labelled(draw_points(image, replace(points, xy=(points.xy + 0.5) * factor - 0.5)), f"{what} {name}")
