"""Files of video instances: the published results list, YouTube-VIS annotation files, and VNG datasets as truth.

    results.json       [{video_id, category_id, segmentations: [RLE | null, ...], score}, ...]
    annotations.json   {videos: [{id, height, width, file_names}], annotations: [{video_id, category_id, segmentations,
                       iscrowd}], categories: [{id, name}]}

An annotation file is the ground truth, or with a dataset defines the ids in the results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from vng.dataset import Video, VideoObject
from vng.errors import DataError, DataErrors, Problem
from vng.evaluation.instances import ANY, Detection, Instance, InstanceScore, Key
from vng.frames import as_path
from vng.masks import RLE, from_json, is_side
from vng.text_files import RepeatedKeys, load_json

T = TypeVar("T")
MOST_SCORE = 1e30  # larger scores, infinity and NaN are errors of the file
RESULT_FIELDS = ("video_id", "category_id", "segmentations", "score")


@dataclass(frozen=True)
class InstanceVideo:
    """The ground truth of one video over the frames that count."""

    video_id: Key  # as results name it
    size: tuple[int, int]  # height, width
    frames: tuple[str, ...]  # frames that the lists of results cover
    truth: tuple[Instance, ...]
    counting: tuple[int, ...]  # indices of the frames that count


@dataclass(frozen=True)
class Catalogue:
    """An annotation file: its videos with their instances, and the names of its ids."""

    path: Path
    videos: tuple[InstanceVideo, ...]
    names: dict[Key, str]  # video id -> folder of its frames
    categories: dict[Key, str]


def read_annotations(path: Path) -> Catalogue:
    """Read a YouTube-VIS annotation file.

    Raises:
        DataErrors: all problems of the file.
    """
    tree = _load(path, dict, "{videos, annotations, categories}")
    problems: list[Problem] = []
    tracks: dict[Key, list[Instance]] = {}
    sizes: dict[Key, tuple[tuple[int, int], tuple[str, ...]]] = {}
    try:
        for index, entry in enumerate(tree["videos"]):
            _add_unique(sizes, entry["id"], _size_and_files(entry), f"videos[{index}]", path, problems)
        categories: dict[Key, str] = {}
        for index, entry in enumerate(tree["categories"]):
            _add_unique(categories, entry["id"], str(entry["name"]), f"categories[{index}]", path, problems)
        for index, item in enumerate(tree.get("annotations") or []):
            key = item["video_id"]
            size, files = sizes[key]
            masks = _masks(item, f"annotations[{index}]", path, size, len(files), problems)
            if not isinstance(item["category_id"], int | str):
                raise TypeError(f"annotations[{index}].category_id must be a number or a name")
            track = Instance(item["category_id"], masks, bool(item.get("iscrowd", 0)))
            tracks.setdefault(key, []).append(track)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"not a YouTube-VIS annotation file ({type(error).__name__}: {error})"
        raise DataError(path, reason=reason, cure="give {videos, annotations, categories}") from error
    if problems:
        raise DataErrors(problems)
    videos = tuple(
        InstanceVideo(
            key, size, tuple(as_path(f).stem for f in files), tuple(tracks.get(key, ())), tuple(range(len(files)))
        )
        for key, (size, files) in sizes.items()
    )
    folders = {key: as_path(files[0]).parent.name if files else "" for key, (_, files) in sizes.items()}
    return Catalogue(path, videos, folders, categories)


def _size_and_files(entry: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[str, ...]]:
    height, width, files = entry["height"], entry["width"], entry["file_names"]
    if not (is_side(height) and is_side(width)):
        raise ValueError(f"height and width of a video must be pixels, got {height!r:.20} and {width!r:.20}")
    if not all(isinstance(file, str) for file in files):
        raise ValueError("file_names must be strings")
    return (height, width), tuple(files)


def _add_unique(table: dict[Key, T], key: Any, value: T, where: str, path: Path, problems: list[Problem]) -> None:
    """Add an entry of a list by its id; a problem where another entry has the id."""
    if not isinstance(key, int | str):
        raise TypeError(f"{where}.id must be a number or a name")
    if table.setdefault(key, value) != value:
        reason = f"the id {key!r:.40} repeats: annotations of the two cannot be told apart"
        problems.append(Problem(str(path), record=where, field="id", reason=reason, cure="give each its own id"))


def dataset_videos(
    videos: Iterable[Video], catalogue: Catalogue | None = None, class_agnostic: bool = False
) -> Iterator[InstanceVideo]:
    """Videos of a dataset as ground truth: objects are instances, their names categories.

    Without an annotation file, results name videos and categories, and the frames on which an object is annotated
    count. With one, its ids and its frames are used. On a frame that counts, null means absent, as in these files.

    Raises:
        DataError: a video, a frame or an object's name is not in the annotation file, or an object has no name.
    """
    categories: Mapping[str, Key]
    key: Key
    for video in videos:
        if catalogue is None:
            categories = {item.name: item.name for item in video.objects}
            count, key, frames = len(video.frame_names), video.video_id, video.frame_names
            places = [t for t in range(count) if any(o.segmentations[t] is not None for o in video.objects)]
            counting = places
        else:
            listed, places = _listed(video, catalogue)
            categories = {name: i for i, name in catalogue.categories.items()}
            key, frames, counting = listed.video_id, listed.frames, list(range(len(places)))
        truth = [
            Instance(_category(video, o, categories, class_agnostic), tuple(o.segmentations[t] for t in places))
            for o in video.objects
        ]
        yield InstanceVideo(key, (video.height, video.width), tuple(frames), tuple(truth), tuple(counting))


def _category(video: Video, item: VideoObject, categories: Mapping[str, Key], class_agnostic: bool) -> Key:
    if class_agnostic:
        return ANY
    if not item.name or item.name not in categories:
        place, reason = f"{video.video_id}: {item.object_id}", f"no category {item.name!r} to compare with"
        raise DataError(video.dataset, record=place, field="objects.name", reason=reason, cure="use --class-agnostic")
    return categories[item.name]


def _listed(video: Video, catalogue: Catalogue) -> tuple[InstanceVideo, list[int]]:
    """The entry of a dataset's video in an annotation file, and the indices of the frames it lists."""
    matches = [item for item in catalogue.videos if catalogue.names[item.video_id] == video.video_id]
    if not matches:
        reason = f"the dataset's video {video.video_id!r} is not in this file"
        raise DataError(
            catalogue.path,
            record="videos",
            field="file_names",
            reason=reason,
            cure="give the dataset's own annotation file",
        )
    place = {name: t for t, name in enumerate(video.frame_names)}
    unknown = [name for name in matches[0].frames if name not in place]
    if unknown:
        reason = f"frame {unknown[0]!r} of video {video.video_id!r} is not in the dataset"
        raise DataError(
            catalogue.path,
            record="videos",
            field="file_names",
            reason=reason,
            cure="give the dataset's own annotation file",
        )
    return matches[0], [place[name] for name in matches[0].frames]


@dataclass
class Results:
    """A results file, and the problems met while scoring it."""

    path: Path
    records: dict[Key, list[tuple[int, dict[str, Any]]]]  # video -> (index in the file, record)
    problems: list[Problem] = field(default_factory=list)

    def of(self, video: InstanceVideo, categories: Mapping[Key, str] | None) -> list[Detection]:
        """A video's detections over the frames that count; problems are added to `problems`.

        Args:
            video: the ground truth.
            categories: categories by id, None where they are names; `{}` accepts any category.
        """
        detections = []
        for place, item in self.records.pop(video.video_id, []):
            where, category, score = f"[{place}]", item["category_id"], item["score"]
            before = len(self.problems)
            if categories and category not in categories:
                self._problem(where, "category_id", f"no category {category!r}", "use the annotation file's ids")
            elif categories is None and not isinstance(category, str):
                self._problem(
                    where,
                    "category_id",
                    f"category {category!r} is a number, the dataset has names",
                    "write names, or give the annotation file with --annotations",
                )
            if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) < MOST_SCORE:
                self._problem(where, "score", f"expected a finite number, got {score!r:.40}", "write the track's score")
            masks = _masks(item, where, self.path, video.size, len(video.frames), self.problems)
            if len(self.problems) == before:
                detections.append(Detection(category, float(score), tuple(masks[t] for t in video.counting)))
        return detections

    def _problem(self, record: str, field_: str, reason: str, cure: str) -> None:
        self.problems.append(Problem(str(self.path), record=record, field=field_, reason=reason, cure=cure))


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        DataErrors: not a list, or records without one of `RESULT_FIELDS`; all problems together.
    """
    problems: list[Problem] = []
    records: dict[Key, list[tuple[int, dict[str, Any]]]] = {}
    for place, item in enumerate(_load(path, list, "[{video_id, category_id, segmentations, score}]")):
        missing = [name for name in RESULT_FIELDS if not isinstance(item, dict) or name not in item]
        if missing:
            problems.append(
                Problem(
                    str(path), record=f"[{place}]", field=missing[0], reason="missing", cure="write all four fields"
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
        videos: the ground truth.
        results: from `read_results`; its records are consumed.
        categories: names of category ids; None where results name categories.
        class_agnostic: whether categories are ignored.
        missing: whether a video without a detection is an error (the official program counts it as empty).

    Raises:
        DataErrors: all problems of the results.
        DataError: nothing to score.
    """
    score, count = InstanceScore(class_agnostic), 0
    for video in videos:
        if missing == "error" and video.video_id not in results.records:
            reason = f"no detection of video {video.video_id!r}"
            results.problems.append(
                Problem(
                    str(results.path), field="video_id", reason=reason, cure="add detections, or use --missing empty"
                )
            )
        accepted = {} if class_agnostic and categories is None else categories
        score.add(video.video_id, video.truth, results.of(video, accepted))
        count += len(video.truth)
    for key, items in results.records.items():
        reason = f"no video {key!r} in the ground truth ({len(items)} detections)"
        results.problems.append(
            Problem(str(results.path), record=f"[{items[0][0]}]", field="video_id", reason=reason, cure="use its ids")
        )
    if results.problems:
        raise DataErrors(results.problems)
    if not count:
        raise DataError(results.path, reason="the ground truth has no instance", cure="give a dataset with true masks")
    return score


def _load(path: Path, kind: type, expected: str) -> Any:
    tree = load_json(path)
    if isinstance(tree, RepeatedKeys):
        raise DataError(path, field=tree.repeated, reason="this key repeats", cure="rename one of the two")
    if not isinstance(tree, kind):
        raise DataError(
            path, reason=f"expected {expected}, got {type(tree).__name__}", cure="give the published layout"
        )
    return tree


def _masks(
    item: Mapping[str, Any], where: str, path: Path, size: tuple[int, int], total: int, problems: list[Problem]
) -> tuple[RLE | None, ...]:
    """The masks of a record; empty where they are invalid, which is added to `problems`."""
    values = item["segmentations"]
    reason = ""
    if not isinstance(values, list) or len(values) != total:
        count = len(values) if isinstance(values, list) else type(values).__name__
        reason = f"expected a list of {total} masks or nulls, got {count}"
    else:
        try:
            masks = tuple(from_json(value) for value in values)
            sizes = {rle.size for rle in masks if rle is not None} - {size}
            reason = f"masks of {sorted(sizes)}, the video has {size}" if sizes else ""
        except ValueError as error:
            reason = str(error)
    if reason:
        problems.append(
            Problem(str(path), record=where, field="segmentations", reason=reason, cure="one RLE or null a frame")
        )
        return ()
    return masks
