"""Inspection of a dataset: figures, quality of the masks, problems, and a gallery of pictures."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vng.dataset import MEASURES, Video, VideoObject, VngDataset, as_dataset
from vng.errors import PROBLEMS_FILE, DataError, Problem, count_reasons, read_problems
from vng.frames import evenly_spaced
from vng.inspection.point_statistics import (
    PointStatistics,
    Published,
    all_frames_text,
    plot_frames,
    plot_points,
    published_like,
    table_rows,
)
from vng.label_maps import colour
from vng.masks import area
from vng.pages import embed_image, marked_html, render_page
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE
from vng.viewer import object_sheet

CROWDED, MOST_ALONE = 4, 8  # objects of a video: from how many on, and of how many, there are pictures of one alone
MAX_CARDS = 40
LOW_AGREEMENT = 0.7  # objects below get a note


@dataclass(kw_only=True)
class Inspection:
    """Figures of a dataset, accumulated one video at a time."""

    counts: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    links: Counter[str] = field(default_factory=Counter)
    measures: dict[str, array[float]] = field(default_factory=lambda: {name: array("f") for name in MEASURES})
    area_shares: array[float] = field(default_factory=lambda: array("f"))
    problems: list[Problem] = field(default_factory=list)
    points: PointStatistics = field(default_factory=PointStatistics)  # of objects with verified points
    datasets: set[str] = field(default_factory=set)
    splits: set[str] = field(default_factory=set)

    def add(self, video: Video, path: Path) -> None:
        """Count one video and note anything unusual."""
        self.datasets.add(video.dataset)
        self.splits.add(video.split)
        self.counts["videos"] += 1
        self.counts["frames"] += len(video.frame_names)
        self.counts["narratives"] += len(video.narratives)
        self.counts["expressions"] += len(video.expressions)
        nouns = Counter(video.noun(e).lower() for e in video.expressions)
        objects_of = {noun: {e.object_id for e in video.expressions if video.noun(e).lower() == noun} for noun in nouns}
        self.counts["ambiguous expressions"] += sum(n for noun, n in nouns.items() if len(objects_of[noun]) > 1)
        for item in video.objects:
            self._add_object(video, item, path)
        verified = [o.points for o in video.objects if len(o.points) and not o.source.startswith("trace/")]
        if verified:
            self.points.add_negative_places(verified)
        if video.narratives and not video.expressions:
            self._note(path, video, "expressions", "no expression: the video trains and tests nothing")
        self._check_frames(video, path)

    def _add_object(self, video: Video, item: VideoObject, path: Path) -> None:
        self.counts["objects"] += 1
        self.sources[item.source] += 1
        if item.quality.link:
            self.links[item.quality.link] += 1
        for label, name in (
            (POSITIVE, "positive points"),
            (NEGATIVE, "negative points"),
            (AMBIGUOUS, "ambiguous points"),
        ):
            self.counts[name] += int((item.points.label == label).sum())
        if len(item.points) and not item.source.startswith("trace/"):
            video_name = f"{video.split}/{video.video_id}"
            self.points.add(video_name, item.points.frame.tolist(), item.points.label.tolist())
        areas = [area(rle) for rle in item.segmentations if rle is not None]
        self.counts["masks"] += len(areas)
        self.counts["null masks"] += len(item.segmentations) - len(areas)
        self.counts["empty masks"] += sum(a == 0 for a in areas)
        self.area_shares.extend(a / (video.height * video.width) for a in areas if a)
        for name, values in self.measures.items():
            if (share := getattr(item.quality, name)) is not None:
                values.append(share)
        if item.quality.point_agreement is not None and item.quality.point_agreement < LOW_AGREEMENT:
            reason = f"point agreement is low ({item.quality.point_agreement:.2f})"
            self._note(path, video, f"objects.{item.object_id}", reason)
        # an object with points only is valid: it belongs to a point version of a VOS dataset
        if not any(areas) and (areas or not len(item.points)):
            self._note(path, video, f"objects.{item.object_id}", "no mask with a single pixel")

    def _check_frames(self, video: Video, path: Path) -> None:
        if video.frames is None:
            self._note(path, video, "frames", "this video carries no frames")
            return
        try:
            size = video.frames.size
        except DataError as error:
            self.problems.append(error.problem)
            return
        if size != (video.height, video.width):
            self._note(path, video, "frames", f"frames of {size}, the row says {(video.height, video.width)}")

    def _note(self, path: Path, video: Video, where: str, reason: str) -> None:
        self.problems.append(Problem(str(path), record=video.video_id, field=where, reason=reason, kind="note"))

    def published(self, path: Path) -> Published | None:
        """The published figures of the set that these points appear to be; None for other sets."""
        return published_like(" ".join([path.name, *self.datasets]), self.splits) if self.points.objects else None

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "counts": dict(self.counts),
            "sources": dict(self.sources),
            "links": dict(self.links),
            **{name: _summary(values) for name, values in self.measures.items()},
            "mask_area_share": _summary(self.area_shares),
            "points": self.points.as_json() if self.points.objects else None,
            "problems": len(self.problems),
        }


def _summary(values: array[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.quantile(np.asarray(values, np.float64), [0.1, 0.5, 0.9])
    return {"mean": float(np.mean(values)), "p10": float(low), "median": float(middle), "p90": float(high)}


def inspect(
    dataset: VngDataset | str | Path,
    html: str | Path | None = None,
    *,
    frames: str | Path | None = None,
    progress: bool = True,
) -> Inspection:
    """Inspect a dataset: figures, mask quality, problems.

    Args:
        dataset: a folder, a hub id, or an opened dataset.
        html: a folder for `index.html`, a self-contained page.
        frames: the folder of linked frames, if they were moved.
        progress: whether to show a progress bar over videos.

    Returns:
        All figures; the problems include those of the conversion (`problems.jsonl`).

    Raises:
        DataError: no such dataset.
    """
    dataset = as_dataset(dataset, frames_root=None if frames is None else Path(frames))
    path, html = dataset.path, None if html is None else Path(html)
    inspection = Inspection(problems=read_problems(path / PROBLEMS_FILE))
    cards = []
    shown = set(evenly_spaced(range(len(dataset)), MAX_CARDS))
    for index, video in enumerate(
        tqdm(dataset, total=len(dataset), desc="inspect", unit="video", disable=not progress)
    ):
        inspection.add(video, path)
        if html is not None and index in shown and video.frames is not None:
            try:
                cards.append(_card(video))
            except DataError as error:
                inspection.problems.append(error.problem)
    if html is not None:
        _write_page(inspection, cards, path, html)
    return inspection


def _card(video: Video) -> dict[str, Any]:
    colours = {item.object_id: colour(i) for i, item in enumerate(video.objects)}
    alone = _objects_alone(video)
    narratives = []
    for number, narrative in enumerate(video.narratives):
        own = [e for e in video.expressions if e.narrative == number]
        spans, rgb = [(e.start, e.end) for e in own], [colours[e.object_id] for e in own]
        keys = [e.object_id if e.object_id in alone else "" for e in own]
        html = marked_html(narrative.description, spans, rgb, keys)
        narratives.append({"actor": narrative.actor_name, "html": html})
    agreements = [o.quality.point_agreement for o in video.objects if o.quality.point_agreement is not None]
    note = f"{len(video.frame_names)} frames of {video.width}x{video.height}, {len(video.objects)} objects"
    if agreements:
        note += f", point agreement {min(agreements):.2f} to {max(agreements):.2f}"
    if alone:
        note += "; point at a noun to see its object alone"
    card = {"title": video.video_id, "image": embed_image(object_sheet(video)), "narratives": narratives, "note": note}
    return card | {"pictures": alone}


def _objects_alone(video: Video) -> dict[str, str]:
    """Object id -> a sheet of the object alone, where a video has so many that the sheet of all is crowded."""
    if len(video.objects) < CROWDED:
        return {}
    named = {e.object_id for e in video.expressions}
    indices = [i for i, item in enumerate(video.objects) if item.object_id in named][:MOST_ALONE]
    sheets = {video.objects[i].object_id: object_sheet(video, objects=[i]) for i in indices}
    return {key: embed_image(sheet, 60, webp=True) for key, sheet in sheets.items()}


def _write_page(inspection: Inspection, cards: list[dict[str, Any]], path: Path, html: Path) -> None:
    figures = [(name, f"{value:,}") for name, value in inspection.counts.items()]
    sections: list[dict[str, Any]] = [
        {"title": "Where masks come from", "header": ("source", "objects"), "rows": sorted(inspection.sources.items())}
    ]
    summaries = [
        ("mask area, share of the frame", _summary(inspection.area_shares)),
        *((f"{name.replace('_', ' ')} of an object", _summary(values)) for name, values in inspection.measures.items()),
    ]
    rows = [(name, *(f"{s[k]:.3f}" for k in ("mean", "p10", "median", "p90"))) for name, s in summaries if s]
    sections.append({"title": "Quality", "header": ("measure", "mean", "10 %", "median", "90 %"), "rows": rows})
    if inspection.points.objects:
        sections += point_sections(inspection.points, inspection.published(path))
    table = [(count, kind, reason) for (kind, reason), count in count_reasons(inspection.problems)[:30]]
    text = "" if table else "None found."
    sections.append({"title": "Problems", "text": text, "header": ("count", "kind", "reason"), "rows": table})
    sections.append(
        {
            "title": "Videos",
            "text": f"{len(cards)} of {inspection.counts['videos']} videos, "
            "every object in its own colour, its points as discs.",
            "cards": cards,
        }
    )
    lead = "A Video Narrative Grounding dataset: nouns of narratives and the objects they mean."
    render_page(
        html / "index.html",
        title=path.name,
        lead=lead,
        figures=figures,
        sections=sections,
        footer=f"vng inspect {path}",
    )


def point_sections(points: PointStatistics, published: Published | None) -> list[dict[str, Any]]:
    """Sections of a page: the table of point figures beside the published ones, and the paper's two distributions."""
    rows: list[Any] = table_rows(points, published)
    text = "Annotations are frames with a point, counted for each object; frames are counted once."
    header: tuple[str, ...] = ("figure", "here")
    if published is None:
        rows = [row[:2] for row in rows]
    else:
        text += " Published figures are printed rounded: a figure agrees when it would be printed like that."
        text += f" {published.note}"
        header = ("figure", "here", published.name, "difference")
    beside = "What the paper calls a video in this figure is one object of a video."
    return [
        {"title": "Verified points (Point-VOS, Table 11)", "text": text, "header": header, "rows": rows},
        {
            "title": "Frames with a positive point (Point-VOS, Fig. 9)",
            "text": f"{all_frames_text(points, published)} {beside}",
            "image": embed_image(plot_frames(points)),
        },
        {
            "title": "Points of an object (Point-VOS, Fig. 10)",
            "text": "Objects by the number of their positive and of their negative points, all frames together. "
            f"{beside}",
            "image": embed_image(plot_points(points)),
        },
    ]
