"""Inspection of published annotation files without conversion: figures beside the paper's, and an HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from conversion.formats.point_vos import PointRecord
from conversion.formats.points import read_points
from conversion.formats.vidln import VidLN, read_vidln
from conversion.wanted import Subset
from vng.errors import Problem, count_reasons
from vng.inspection.dataset import point_sections
from vng.inspection.point_statistics import PointStatistics, Published, published_like
from vng.pages import render_page

T = TypeVar("T")

MOST_NAMES = 20  # object names shown
NO_VIDEO = "objects without a video name"
NO_FRAME = "points without a frame"
REPEATED = "objects whose key repeats"


@dataclass(kw_only=True)
class AnnotationInspection:
    """Figures of a points file, a narratives file, or both, updated record by record."""

    points: PointStatistics = field(default_factory=PointStatistics)
    published: Published | None = None  # the paper's figures for the set that this looks like
    left_out: Counter[str] = field(default_factory=Counter)  # not counted, as in the published figures
    names: Counter[str] = field(default_factory=Counter)  # objects by name
    narratives: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    _point_videos: set[str] = field(default_factory=set)
    _keys: set[str] = field(default_factory=set)

    def add_record(self, record: PointRecord, has_videos: bool = True) -> None:
        """Count one object; leave out objects without a video and points without a frame, as the publisher does."""
        if record.key in self._keys:
            self.left_out[REPEATED] += 1
            return
        self._keys.add(record.key)
        if record.video_name is None and has_videos:
            self.left_out[NO_VIDEO] += 1
            return
        placed = [point for point in record.points if point.frame_id is not None]
        if len(placed) < len(record.points):
            self.left_out[NO_FRAME] += len(record.points) - len(placed)
        self.points.add(record.video_name, [point.frame_id for point in placed], [point.label for point in placed])
        self.names[record.object_name.strip().lower()] += 1
        if record.video_name is not None:
            self._point_videos.add(record.video_id)

    def add_narrative(self, video: VidLN) -> None:
        """Count the narratives of one video."""
        self.narratives["narrated videos"] += 1
        self.narratives["narrated videos with points"] += video.video_id in self._point_videos
        self.narratives["narratives"] += len(video.narratives)
        for narrative in video.narratives:
            self.narratives["words"] += len(narrative.caption.split())
            self.narratives["marked nouns"] += len(narrative.noun_segments)
            self.narratives["trace points"] += sum(len(part) for part in narrative.traces)

    def as_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "points": self.points.as_json() if self.points.objects else None,
            "published": self.published.table if self.published else None,
            "left out": dict(self.left_out),
            "object names": len(self.names),
            "narratives": dict(self.narratives),
            "problems": len(self.problems),
        }


def inspect_annotations(
    points: Path | None,
    narratives: Path | None = None,
    subset: Subset | None = None,
    html: Path | None = None,
    progress: bool = True,
) -> AnnotationInspection:
    """Inspect published files record by record; with `html` (a folder), also write `index.html` there.

    Args:
        points: Point-VOS JSON, JSON lines or PNG folder. narratives: VidLN JSON lines. One may be None.
        subset: count only the objects and videos in this list.

    Raises DataError for files that cannot be read, and for a subset list of which nothing is in them.
    """
    inspection = AnnotationInspection()
    keep = (lambda record: True) if subset is None else subset.keeps
    if points is not None:
        splits = set()
        for record in _with_progress(read_points(points, inspection.problems.append), points, "object", progress):
            if keep(record):
                inspection.add_record(record, has_videos=not points.is_dir())
                splits.add(record.split)
        inspection.published = published_like("/".join(points.resolve().parts[-3:]), splits - {""})
    if narratives is not None:
        for video in _with_progress(read_vidln(narratives, inspection.problems.append), narratives, "video", progress):
            if subset is None or points is not None or subset.keeps_video(video.video_id):
                inspection.add_narrative(video)
    if subset is not None:
        inspection.problems += subset.check(points or narratives or "")
    if html is not None:
        _write_page(inspection, [path for path in (points, narratives) if path is not None], subset, html)
    return inspection


def _with_progress(records: Iterable[T], path: Path, unit: str, progress: bool) -> Iterator[T]:
    return iter(tqdm(records, desc=path.name[:30], unit=unit, disable=not progress))


def _write_page(inspection: AnnotationInspection, files: list[Path], subset: Subset | None, html: Path) -> None:
    figures = [
        (name, "unknown" if value is None else f"{value:,}")
        for name, value in inspection.points.table().items()
        if inspection.points.objects
    ]
    figures += [(name, f"{value:,}") for name, value in inspection.narratives.items()]
    sections = point_sections(inspection.points, inspection.published) if inspection.points.objects else []
    if inspection.left_out:
        text = "Not in the figures above, nor in the published ones."
        sections.append({"title": "Left out", "text": text, "rows": sorted(inspection.left_out.items())})
    if inspection.names:
        rows = [(name or "(none)", f"{count:,}") for name, count in inspection.names.most_common(MOST_NAMES)]
        text = f"{len(inspection.names):,} different names; the most frequent ones:"
        sections.append({"title": "Object names", "text": text, "header": ("name", "objects"), "rows": rows})
    table = [(count, kind, reason) for (kind, reason), count in count_reasons(inspection.problems)[:30]]
    text = "" if table else "None found."
    sections.append({"title": "Problems", "text": text, "header": ("count", "kind", "reason"), "rows": table})
    names = ", ".join("/".join(path.resolve().parts[-2:]) for path in files)
    lead = "Annotations as published" + (f", those that {Path(subset.file).name} names." if subset else ".")
    footer = f"vng inspect, {', '.join(str(path) for path in files)}"
    render_page(html / "index.html", title=names, lead=lead, figures=figures, sections=sections, footer=footer)
