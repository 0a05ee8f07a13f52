"""Files of video instances: the published results list, YouTube-VIS annotation files, and VNG datasets as truth.

    results.json       [{video_id, category_id, segmentations: [RLE | null, ...], score}, ...]
    annotations.json   {videos: [{id, height, width, file_names}], annotations: [{video_id, category_id, segmentations,
                       iscrowd}], categories: [{id, name}]}

An annotation file is the truth, or with a dataset says what the ids of the results mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vng.dataset import Video, VideoObject
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.instances import ANY, Detection, Instance, InstanceScore, Key
from vng.masks import RLE, from_json

RESULT_FIELDS = ("video_id", "category_id", "segmentations", "score")


@dataclass(frozen=True)
class InstanceVideo:
    """The truth of one video over the frames that count."""

    video_id: Key  # as results name it
    size: tuple[int, int]  # height, width
    frames: tuple[str, ...]  # those of a result's list
    truth: tuple[Instance, ...]
    counting: tuple[int, ...]  # places of the frames that count


@dataclass(frozen=True)
class Catalogue:
    """An annotation file: its videos with their instances, and the names behind its ids."""

    path: Path
    videos: tuple[InstanceVideo, ...]
    names: dict[Key, str]  # of videos: their folder
    categories: dict[Key, str]


def read_annotations(path: Path) -> Catalogue:
    """Read a YouTube-VIS annotation file.

    Raises:
        DataErrors: everything wrong with it at once.
    """
    tree = _load(path, dict, "{videos, annotations, categories}")
    problems: list[Problem] = []
    tracks: dict[Key, list[Instance]] = {}
    sizes = {}
    try:
        sizes = {v["id"]: ((int(v["height"]), int(v["width"])), tuple(v["file_names"])) for v in tree["videos"]}
        categories = {c["id"]: str(c["name"]) for c in tree["categories"]}
        for index, item in enumerate(tree.get("annotations") or []):
            key = item["video_id"]
            size, files = sizes[key]
            masks = _masks(item, f"annotations[{index}]", path, size, len(files), problems)
            track = Instance(item["category_id"], masks, bool(item.get("iscrowd", 0)))
            tracks.setdefault(key, []).append(track)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no YouTube-VIS annotation file ({type(error).__name__}: {error})"
        raise DataError(path, reason=reason, cure="give {videos, annotations, categories}") from error
    if problems:
        raise DataErrors(problems)
    made = tuple(
        InstanceVideo(
            key, size, tuple(PurePosixPath(f).stem for f in files), tuple(tracks.get(key, ())), tuple(range(len(files)))
        )
        for key, (size, files) in sizes.items()
    )
    folders = {key: PurePosixPath(files[0]).parent.name if files else "" for key, (_, files) in sizes.items()}
    return Catalogue(path, made, folders, categories)


def dataset_videos(
    videos: Iterable[Video], catalogue: Catalogue | None = None, class_agnostic: bool = False
) -> Iterator[InstanceVideo]:
    """Videos of a dataset as truth: objects are instances, their names categories.

    Without an annotation file results name videos and categories, and the frames on which an object is annotated count.
    With one they hold its ids and the frames are its. On a frame that counts, null means absent, as in these files.

    Raises:
        DataError: a video, a frame or an object's name that the annotation file does not know, an object without a name.
    """
    known: Mapping[str, Key]
    key: Key
    for video in videos:
        if catalogue is None:
            known = {item.name: item.name for item in video.objects}
            count, key, frames = len(video.frame_names), video.video_id, video.frame_names
            places = [t for t in range(count) if any(o.segmentations[t] is not None for o in video.objects)]
            counting = places
        else:
            listed, places = _listed(video, catalogue)
            known = {name: i for i, name in catalogue.categories.items()}
            key, frames, counting = listed.video_id, listed.frames, list(range(len(places)))
        truth = [
            Instance(_category(video, o, known, class_agnostic), tuple(o.segmentations[t] for t in places))
            for o in video.objects
        ]
        yield InstanceVideo(key, (video.height, video.width), tuple(frames), tuple(truth), tuple(counting))


def _category(video: Video, item: VideoObject, known: Mapping[str, Key], class_agnostic: bool) -> Key:
    if class_agnostic:
        return ANY
    if not item.name or item.name not in known:
        place, reason = f"{video.video_id}: {item.object_id}", f"no category {item.name!r} to compare with"
        raise DataError(video.dataset, record=place, field="objects.name", reason=reason, cure="use --class-agnostic")
    return known[item.name]


def _listed(video: Video, catalogue: Catalogue) -> tuple[InstanceVideo, list[int]]:
    """What an annotation file calls a dataset's video, and the dataset's frames it lists."""
    found = [item for item in catalogue.videos if catalogue.names[item.video_id] == video.video_id]
    if not found:
        reason = f"the dataset's video {video.video_id!r} is not in it"
        raise DataError(
            catalogue.path,
            record="videos",
            field="file_names",
            reason=reason,
            cure="give the dataset's own annotation file",
        )
    place = {name: t for t, name in enumerate(video.frame_names)}
    strange = [name for name in found[0].frames if name not in place]
    if strange:
        reason = f"frame {strange[0]!r} of video {video.video_id!r} is not in the dataset"
        raise DataError(
            catalogue.path,
            record="videos",
            field="file_names",
            reason=reason,
            cure="give the dataset's own annotation file",
        )
    return found[0], [place[name] for name in found[0].frames]


@dataclass
class Results:
    """A results file, and what turned out to be wrong with it."""

    path: Path
    records: dict[Key, list[tuple[int, dict[str, Any]]]]  # video -> (place in the file, record)
    problems: list[Problem] = field(default_factory=list)

    def of(self, video: InstanceVideo, known: Mapping[Key, str] | None) -> list[Detection]:
        """A video's detections over the frames that count; what is wrong with one goes to `problems`.

        Args:
            video: the truth.
            known: categories by id, None where they are names; `{}` takes whatever there is as one category.
        """
        found = []
        for place, item in self.records.pop(video.video_id, []):
            where, category, score = f"[{place}]", item["category_id"], item["score"]
            before = len(self.problems)
            if known and category not in known:
                self._problem(where, "category_id", f"no category {category!r}", "use the annotation file's ids")
            elif known is None and not isinstance(category, str):
                self._problem(
                    where,
                    "category_id",
                    f"category {category!r} is a number, the dataset has names",
                    "write names, or say with --annotations what the ids mean",
                )
            if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) < float("inf"):
                self._problem(where, "score", f"expected a finite number, got {score!r}", "write the track's score")
            masks = _masks(item, where, self.path, video.size, len(video.frames), self.problems)
            if len(self.problems) == before:
                found.append(Detection(category, float(score), tuple(masks[t] for t in video.counting)))
        return found

    def _problem(self, record: str, field_: str, reason: str, cure: str) -> None:
        self.problems.append(Problem(str(self.path), record=record, field=field_, reason=reason, cure=cure))


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        DataErrors: no list, or records without one of `RESULT_FIELDS`, all of them at once.
    """
    problems: list[Problem] = []
    records: dict[Key, list[tuple[int, dict[str, Any]]]] = {}
    for place, item in enumerate(_load(path, list, "[{video_id, category_id, segmentations, score}]")):
        lacking = [name for name in RESULT_FIELDS if not isinstance(item, dict) or name not in item]
        if lacking:
            problems.append(
                Problem(
                    str(path), record=f"[{place}]", field=lacking[0], reason="not there", cure="write all four fields"
                )
            )
        elif not isinstance(item["video_id"], int | str) or not isinstance(item["category_id"], int | str):
            reason = f"expected a number or a name, got {item['video_id']!r} and {item['category_id']!r}"
            problems.append(
                Problem(
                    str(path), record=f"[{place}]", field="video_id, category_id", reason=reason, cure="write the ids"
                )
            )
        else:
            records.setdefault(item["video_id"], []).append((place, item))
    if problems:
        raise DataErrors(problems)
    return Results(path, records)


def evaluate_instances(
    videos: Iterable[InstanceVideo],
    results: Results,
    categories: Mapping[Key, str] | None = None,
    class_agnostic: bool = False,
    missing: Literal["error", "empty"] = "empty",
) -> InstanceScore:
    """Score a results file.

    Args:
        videos: the truth.
        results: what `read_results` gives; its records are used up.
        categories: what ids may stand for; None where results name categories.
        class_agnostic: whether categories do not count.
        missing: whether a video without a detection is an error (the official program takes it as empty).

    Raises:
        DataErrors: everything wrong with the results at once.
        DataError: nothing to score.
    """
    score, count = InstanceScore(class_agnostic), 0
    for video in videos:
        if missing == "error" and video.video_id not in results.records:
            reason = f"no detection of video {video.video_id!r}"
            results.problems.append(
                Problem(str(results.path), field="video_id", reason=reason, cure="or use --missing empty")
            )
        known = {} if class_agnostic and categories is None else categories
        score.add(video.video_id, video.truth, results.of(video, known))
        count += len(video.truth)
    for key, items in results.records.items():
        reason = f"no video {key!r} in the truth ({len(items)} detections)"
        results.problems.append(
            Problem(str(results.path), record=f"[{items[0][0]}]", field="video_id", reason=reason, cure="use its ids")
        )
    if results.problems:
        raise DataErrors(results.problems)
    if not count:
        raise DataError(results.path, reason="the truth holds no instance", cure="give a dataset with true masks")
    return score


def _load(path: Path, kind: type, expected: str) -> Any:
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(path, reason="no JSON file that opens", cure="check the path") from error
    if not isinstance(tree, kind):
        raise DataError(
            path, reason=f"expected {expected}, got {type(tree).__name__}", cure="give the published layout"
        )
    return tree


def _masks(
    item: Mapping[str, Any], where: str, path: Path, size: tuple[int, int], total: int, problems: list[Problem]
) -> tuple[RLE | None, ...]:
    """The masks of a record; empty where something is wrong, which goes to `problems`."""
    values = item["segmentations"]
    wrong = ""
    if not isinstance(values, list) or len(values) != total:
        count = len(values) if isinstance(values, list) else type(values).__name__
        wrong = f"expected a list of {total} masks or nulls, got {count}"
    else:
        try:
            masks = tuple(from_json(value) for value in values)
            sizes = {rle.size for rle in masks if rle is not None} - {size}
            wrong = f"masks of {sorted(sizes)}, the video has {size}" if sizes else ""
        except ValueError as error:
            wrong = str(error)
    if wrong:
        problems.append(
            Problem(str(path), record=where, field="segmentations", reason=wrong, cure="one RLE or null a frame")
        )
        return ()
    return masks
