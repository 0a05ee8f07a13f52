"""Export to the official Video Narrative Grounding trio (reader: `official_vng`), video by video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from conversion.export_formats import ExportResult, export_folder
from conversion.formats.jsonio import JsonSection, write_json_sections
from conversion.formats.official_vng import TrioFiles, official_id
from vng.dataset import Video, VideoObject
from vng.errors import DataError

EXTRA_INFO = {"description": "Extra masks of a Video Narrative Grounding set, written by vng"}


def export_trio(videos: Iterable[Video], out: Path) -> ExportResult:
    """Write the official trio into an empty folder; raises DataError where `out` holds other files."""
    with export_folder(out) as export:
        files = write_trio(_counted(videos, export), out)
        export.files += [files.meta, files.extra_masks, files.orig_masks]
    return export


def _counted(videos: Iterable[Video], export: ExportResult) -> Iterator[Video]:
    for video in videos:
        export.count(video, holds=("narratives",))
        yield video


def write_trio(videos: Iterable[Video], folder: Path) -> TrioFiles:
    """Write records as the official trio into a folder, which is made; one video at a time is held in memory.

    Objects whose source is "orig_masks" go to orig_masks.json, all others to extra_masks.json.

    Raises:
        DataError: an id that two videos or two objects have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meta = JsonSection(folder, "{}")
    infos = {source: JsonSection(folder) for source in ("orig_masks", "extra_masks")}
    annotations = {source: JsonSection(folder) for source in infos}
    ids: dict[str, str] = {}
    names: set[str] = set()
    for number, video in enumerate(videos, 1):
        if video.video_id in names:
            raise DataError(video.dataset, record=video.video_id, field="video_id", reason="two videos have this id")
        names.add(video.video_id)
        meta.add(_meta_json(video), video.video_id)
        for section in infos.values():
            section.add(_info_json(video, number))
        for item in video.objects:
            if item.object_id in ids:
                reason = f"object id is already used in video {ids[item.object_id]!r}; the trio requires unique ids"
                raise DataError(video.dataset, record=video.video_id, field=f"objects.{item.object_id}", reason=reason)
            ids[item.object_id] = video.video_id
            source = "orig_masks" if item.source == "orig_masks" else "extra_masks"
            annotations[source].add(_annotation_json(video, item, number))
    trio = TrioFiles.of(folder)
    write_json_sections({"videos": meta}, trio.meta)
    for source, path in (("extra_masks", trio.extra_masks), ("orig_masks", trio.orig_masks)):
        more = {"info": EXTRA_INFO} if source == "extra_masks" else {}
        sections = {"videos": infos[source], "annotations": annotations[source], "categories": []} | more
        write_json_sections(sections, path)
    return trio


def _info_json(video: Video, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "width": video.width,
        "height": video.height,
        "length": len(video.frame_names),
        "file_names": [f"{video.video_id}/{name}.jpg" for name in video.frame_names],
    }


def _meta_json(video: Video) -> dict[str, Any]:
    return {
        "frames": list(video.frame_names),
        "actor_narratives": [
            {"actor_idx": index, "actor_name": narrative.actor_name, "description": narrative.description}
            for index, narrative in enumerate(video.narratives)
        ],
        "expressions": {
            str(index): {
                "narrative_actor_idx": expression.narrative,
                "noun_phrase_start_idx": expression.start,
                "noun_phrase_end_idx": expression.end,
                "obj_id": official_id(expression.object_id),
            }
            for index, expression in enumerate(video.expressions)
        },
    }


def _annotation_json(video: Video, item: VideoObject, number: int) -> dict[str, Any]:
    return {
        "id": official_id(item.object_id),
        "name": item.name,
        "video_id": number,
        "video_name": video.video_id,
        "height": video.height,
        "width": video.width,
        "category_id": 1,
        "segmentations": [None if rle is None else rle.as_dict() for rle in item.segmentations],
    }
