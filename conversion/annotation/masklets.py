"""Masks of a person's points at once, and masklets of a clip in the background.

Masks and masklets are those of `vng convert own --propagator`: the same segmenter, propagator and calls.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conversion.annotation.project import Project
from conversion.corrections import beside, correcting
from conversion.formats.own_clips import pointed_object
from conversion.options import Engines
from conversion.pseudo_masks import THRESHOLD, PointedObject, mask_prompts, segment_points
from vng.errors import UsageError, VngError
from vng.frames import ArrayFrames, Frames
from vng.masks import RLE, decode, encode
from vng.own_clips import ClipObject, Frame, OwnClip, locate
from vng.points import POSITIVE, PointPrompts
from vng.propagators.both_ways import both_ways
from vng.segmenters import Segmenter

MOST_IMAGES = 4  # encoded ones that are kept
BATCH_SECONDS = 0.5  # between two writes of a masklet


@dataclass
class Job:
    """A masklet in the making."""

    clip: int
    total: int = 0
    done: int = 0
    state: str = "waiting"  # then running, finished, failed or stopped
    message: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        keys = ("clip", "total", "done", "state", "message")
        return {key: getattr(self, key) for key in keys} | {"seconds": round(self.seconds, 1)}


class _OneImage(Segmenter):
    """A segmenter of one image, which is encoded already."""

    def __init__(self, segmenter: Segmenter, run: Callable[[Sequence[PointPrompts]], np.ndarray]) -> None:
        self.takes_boxes, self._run = segmenter.takes_boxes, run

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        return self._run(prompts)


class _Shared(Segmenter):
    """A segmenter that several threads use, one at a time."""

    def __init__(self, segmenter: Segmenter, lock: threading.Lock) -> None:
        self.takes_boxes, self._segmenter, self._lock = segmenter.takes_boxes, segmenter, lock

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        with self._lock:
            return self._segmenter(image, prompts)


class Masklets:
    """The engines of a project, loaded when the first mask is asked for.

    Args:
        project: the clips.
        load: makes the engines; both are needed.
        image: (clip, frame) -> uint8 [H, W, 3].
    """

    def __init__(self, project: Project, load: Callable[[], Engines], image: Callable[[int, int], np.ndarray]) -> None:
        self.project, self._load, self._image = project, load, image
        self._engines: Engines | None = None
        self._encoded: OrderedDict[tuple[int, int], tuple[np.ndarray, _OneImage]] = OrderedDict()
        self._lock = threading.Lock()  # of the segmenter
        self._jobs: dict[int, Job] = {}
        self._waiting: queue.Queue[Job] = queue.Queue()
        self._worker: threading.Thread | None = None

    def engines(self) -> Engines:
        """The engines, loaded once; raises UsageError or DataError as `load_engines`."""
        with self._lock:
            return self._loaded()

    def _loaded(self) -> Engines:
        if self._engines is None:
            self._engines = self._load()
        return self._engines

    def masks_in(self, clip: int, frame: int) -> dict[int, RLE]:
        """Masks of the objects that have points, boxes or masks in a frame, by object; of the others, of its masklet.

        Raises:
            UsageError: no such frame. DataError: the clip cannot be read, or an engine not be loaded.
        """
        row = self.project.clip(clip)
        if not 0 <= frame < len(row.names):
            raise UsageError(f"frame {frame} of {len(row.names)}")
        sql = "SELECT object, mask FROM masklets JOIN objects USING (object) WHERE clip = ? AND frame = ?"
        stored = self.project.database.rows(sql, clip, frame)
        masks = {item["object"]: RLE(row.size, item["mask"]) for item in stored}
        whole = self.project.own_clip(clip)
        own, keys = _only(whole, frame), self._keys(clip)
        if any(item.points or item.boxes or item.masks for item in own.objects):
            image, segmenter = self._one_image(clip, frame)
            begun = {item.object_id for item in whole.objects if _first_frame(item) in (None, frame)}
            objects = [
                item if item.object_id in begun else _correcting(item, masks.get(keys[item.object_id]))
                for item in self._objects(own, ArrayFrames(image[None]))
            ]
            with self._lock:
                rles = segment_points(ArrayFrames(image[None]), objects, segmenter)
            for item, (rle,) in zip(objects, rles, strict=True):
                if rle is not None:
                    masks[keys[item.object_id]] = rle
        return masks

    def prepare(self, clip: int, frame: int) -> None:
        """Encode a frame before anything is asked about it."""
        image, segmenter = self._one_image(clip, frame)
        middle = np.array([[image.shape[1] // 2, image.shape[0] // 2]])
        with self._lock:
            segmenter(image, [PointPrompts(middle, np.empty((0, 2)))])

    def _one_image(self, clip: int, frame: int) -> tuple[np.ndarray, _OneImage]:
        with self._lock:
            if (clip, frame) not in self._encoded:
                image, segmenter = self._image(clip, frame), self._loaded().segmenter
                self._encoded[clip, frame] = image, _OneImage(segmenter, segmenter.encoded(image))
                while len(self._encoded) > MOST_IMAGES:
                    self._encoded.popitem(last=False)
            self._encoded.move_to_end((clip, frame))
            return self._encoded[clip, frame]

    def _keys(self, clip: int) -> dict[str, int]:
        rows = self.project.database.rows("SELECT object, object_id FROM objects WHERE clip = ?", clip)
        return {row["object_id"]: row["object"] for row in rows}

    def _objects(self, own: OwnClip, frames: Frames) -> list[PointedObject]:
        located, _ = locate(own, frames)
        place = {t: t for t in range(len(frames))}
        return [pointed_object(item, place) for item in located]

    def start(self, clip: int) -> Job:
        """Make the masklets of a clip anew, in the background; an earlier job of this clip stops.

        Raises:
            UsageError: no object has a point, a box or a mask to begin with.
        """
        own = self.project.own_clip(clip)
        if not any(item.is_prompted for item in own.objects):
            raise UsageError("put a point on an object first")
        self.stop(clip)
        job = self._jobs[clip] = Job(clip=clip, total=len(self.project.clip(clip).names))
        self._waiting.put(job)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="masklets", daemon=True)
            self._worker.start()
        return job

    def stop(self, clip: int) -> None:
        """Stop the job of a clip, if there is one; what it has made is kept."""
        if (job := self._jobs.get(clip)) is not None and job.state in ("waiting", "running"):
            job.state = "stopped"

    def job(self, clip: int) -> Job | None:
        """The last job of a clip."""
        return self._jobs.get(clip)

    def _work(self) -> None:
        while True:
            job = self._waiting.get()
            if job.state == "stopped":
                continue
            job.state, began = "running", time.perf_counter()
            try:
                self._propagate(job)
                job.state = "finished" if job.state == "running" else job.state
            except VngError as error:
                job.state, job.message = "failed", str(error)
            except Exception as error:  # whatever an engine raises, the page goes on
                job.state, job.message = "failed", f"{type(error).__name__}: {error}"[:500]
            job.seconds = time.perf_counter() - began

    def _propagate(self, job: Job) -> None:
        engines, frames = self.engines(), self.project.frames(job.clip)
        if engines.propagator is None:
            raise UsageError("no propagator: give one with --propagator")
        own = self.project.own_clip(job.clip)
        own = replace(own, objects=tuple(item for item in own.objects if item.is_prompted))
        keys = self._keys(job.clip)
        objects = self._objects(own, frames)
        rles = correcting(engines.propagator)(frames, objects, _Shared(engines.segmenter, self._lock), None)
        if not (prompts := mask_prompts(rles)):
            raise UsageError("the segmenter finds nothing at these points; add some")
        rows: list[tuple[int, int, str, float]] = []
        last, seen = time.perf_counter(), set[int]()
        for t, told, probabilities in both_ways(engines.propagator, frames, prompts):
            if job.state != "running":
                return
            for k, probability in zip(told, probabilities, strict=True):
                rle = rles[k][t] or encode(probability > THRESHOLD)
                sure = 1.0 if rles[k][t] is not None else confidence(probability)
                rows.append((keys[objects[k].object_id], t, rle.counts, sure))
            seen.add(t)
            job.done = len(seen)
            if time.perf_counter() - last > BATCH_SECONDS:
                self._write(rows)
                last = time.perf_counter()
        self._write(rows)

    def _write(self, rows: list[tuple[int, int, str, float]]) -> None:
        with self.project.database.writing() as connection:
            there = {row[0] for row in connection.execute("SELECT object FROM objects")}  # some may be removed by now
            kept = [row for row in rows if row[0] in there]
            connection.executemany("INSERT OR REPLACE INTO masklets VALUES (?, ?, ?, ?)", kept)
        rows.clear()


def _first_frame(item: ClipObject) -> Frame | None:
    """The frame where a person began: that of the first point on the object."""
    return next((point.frame for point in item.points if point.label == POSITIVE), None)


def _correcting(item: PointedObject, carried: RLE | None) -> PointedObject:
    """An object of one frame whose points speak of the masklet there; without one, they speak alone."""
    if not len(item.points) or item.masks:
        return item
    nothing = np.zeros(carried.size if carried is not None else (1, 1), np.float32)
    return replace(item, points=beside(item.points, nothing if carried is None else decode(carried).astype(np.float32)))


def confidence(probability: np.ndarray) -> float:
    """How sure a propagator is of a mask: the mean probability inside it; of an empty one, of there being nothing.

    Args:
        probability: float32 [H, W] in [0, 1].
    """
    inside = probability[probability > THRESHOLD]
    return float(inside.mean() if len(inside) else 1 - probability.max(initial=0))


def _only(own: OwnClip, frame: int) -> OwnClip:
    """A clip as one of a single frame."""
    objects = []
    for item in own.objects:
        kinds: dict[str, Any] = {}
        for name in ("points", "boxes", "masks"):
            kinds[name] = tuple(replace(part, frame=0) for part in getattr(item, name) if part.frame == frame)
        objects.append(replace(item, **kinds))
    return replace(own, objects=tuple(objects))


def row_major(rle: RLE) -> list[int]:
    """Lengths of runs of a mask, row by row, beginning with background: what a browser draws."""
    flat = decode(rle).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0], changes, [flat.size]]) if flat.size else np.zeros(1, int)
    runs = np.diff(ends).tolist()
    return [0, *runs] if flat.size and flat[0] else runs
