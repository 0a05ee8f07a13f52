"""Points that correct a masklet: in the frames after the one where a person began, they speak of what was carried there.

A person who clicks on an object, looks at its masklet, and clicks again where it is wrong, does not describe the object anew:
one point on a leg that is missing is not the whole object, and a point off it does not say that it is absent. So the masks
of the first frame are carried alone; where an object has points in another frame, some points of what was carried there
speak beside them; and all these masks are carried again.

Ours; no paper has this step. Shapes: K objects, T frames, P points, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from conversion.pseudo_masks import PointedObject, mask_prompts, segment_points
from vng.frames import Frames
from vng.masks import RLE
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, medoids
from vng.propagators import Propagator
from vng.propagators.both_ways import both_ways
from vng.segmenters import Segmenter

GUESSED = 5  # points of what was carried that speak beside a person's points
SURE = 0.8  # least probability of such a point
CLEAR = 0.25  # of the square root of the carried area: least distance of such a point from a point off the object


def begun(item: PointedObject) -> PointedObject:
    """The object with the points of the frame where a person began: the first that has a point on it."""
    points = item.points
    positive = points.frame[points.label == POSITIVE]
    if item.trace or not len(positive):
        return item
    return replace(item, points=points.in_frame(int(positive[0])))


def corrected(
    frames: Frames, objects: Sequence[PointedObject], segmenter: Segmenter, propagator: Propagator
) -> list[list[RLE | None]]:
    """Masks of K objects in the frames that their points, boxes and masks speak of, [K][T]; null elsewhere.

    The order of an object's points counts: the frame of its first positive one is where a person began.

    Args:
        frames: of the video.
        objects: with their points in the order in which they were made.
        segmenter, propagator: the engines.

    Raises:
        DataError: a point outside its frame, with object and frame.
    """
    starts = [begun(item) for item in objects]
    rles = segment_points(frames, starts, segmenter)
    later = [_later(item, start) for item, start in zip(objects, starts, strict=True)]
    wanted = {int(t) for points in later for t in points.frame}
    if not wanted or not (prompts := mask_prompts(rles)):
        return rles
    spoken: list[list[Points]] = [[] for _ in objects]
    for t, known, probabilities in both_ways(propagator, frames, prompts):
        if t in wanted:
            for k, probability in zip(known, probabilities, strict=True):
                own = later[k].in_frame(t)
                if len(own) and t not in objects[k].masks:
                    spoken[k].append(_beside(own, probability, t))
    again = [
        replace(start, points=Points.concatenate([start.points, *own]))
        for start, own in zip(starts, spoken, strict=True)
    ]
    return segment_points(frames, again, segmenter)


def _later(item: PointedObject, start: PointedObject) -> Points:
    return (
        Points.none()
        if len(item.points) == len(start.points)
        else item.points[item.points.frame != start.points.frame[0]]
    )


def _beside(own: Points, probability: np.ndarray, t: int) -> Points:
    """A person's points in a frame, with points of what was carried there; none where all of them would be off the object.

    Args:
        own: the person's, in frame t.
        probability: float32 [H, W], what was carried there.
        t: the frame.
    """
    decided = own[own.label != AMBIGUOUS]
    sure = probability >= SURE
    off = decided.of(NEGATIVE).xy
    if len(off) and sure.any():
        rows, columns = np.indices(sure.shape, np.float32)
        clear = CLEAR * float(np.sqrt(sure.sum()))
        for x, y in off:
            sure &= (columns - x) ** 2 + (rows - y) ** 2 >= clear**2
    rows, columns = np.nonzero(sure)
    places = np.stack([columns, rows], 1).astype(np.float32)
    rng = np.random.default_rng([t, len(own)])
    guessed = medoids(places[rng.permutation(len(places))[:400]], GUESSED) if len(places) else places
    if not len(guessed) and not len(decided.of(POSITIVE)):
        return Points.none()  # nothing says that it is there, and nobody that it is absent
    more = Points.of_lists([t] * len(guessed), [(float(x), float(y)) for x, y in guessed], [POSITIVE] * len(guessed))
    return Points.concatenate([decided, more])
