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

from conversion.pseudo_masks import PointedObject, Segment, mask_prompts, segment_points
from vng.frames import Frames
from vng.masks import RLE
from vng.points import AMBIGUOUS, NEGATIVE, POSITIVE, Points, medoids
from vng.propagators import Propagator
from vng.propagators.both_ways import both_ways
from vng.segmenters import Segmenter

GUESSED = 5  # points of what was carried that speak beside a person's points
SURE = 0.8  # least probability of such a point
CLEAR = 0.25  # of the square root of the carried area: least distance of such a point from a point off the object
MOST_PLACES = 400  # of which the guessed points are the middles


def correcting(propagator: Propagator) -> Segment:
    """`segment_points` for objects whose points a person made one after another, to be carried by this propagator.

    The order of an object's points counts: the frame of its first positive one is where a person began.
    """

    def segment(
        frames: Frames,
        objects: Sequence[PointedObject],
        segmenter: Segmenter,
        held: Sequence[np.ndarray] | None = None,
    ) -> list[list[RLE | None]]:
        if held is not None:
            objects = [replace(item, points=item.points[~out]) for item, out in zip(objects, held, strict=True)]
        return _corrected(frames, objects, segmenter, propagator)

    return segment


def _corrected(
    frames: Frames, objects: Sequence[PointedObject], segmenter: Segmenter, propagator: Propagator
) -> list[list[RLE | None]]:
    starts = [replace(item, points=first_points(item.points)) for item in objects]
    rles = segment_points(frames, starts, segmenter)
    later = [later_points(item.points) for item in objects]
    wanted = {int(t) for points in later for t in points.frame}
    if not wanted or not (prompts := mask_prompts(rles)):
        return rles
    spoken: list[list[Points]] = [[item.points] for item in starts]
    for t, known, probabilities in both_ways(propagator, frames, prompts):
        for k, probability in zip(known, probabilities, strict=True) if t in wanted else ():
            if len(own := later[k].in_frame(t)) and t not in objects[k].masks:
                spoken[k].append(beside(own, probability))
    again = [replace(item, points=Points.concatenate(own)) for item, own in zip(starts, spoken, strict=True)]
    return segment_points(frames, again, segmenter)


def first_points(points: Points) -> Points:
    """The points of the frame where a person began: that of the first positive one; all where none is positive."""
    positive = points.frame[points.label == POSITIVE]
    return points.in_frame(int(positive[0])) if len(positive) else points


def later_points(points: Points) -> Points:
    """The points of all other frames."""
    positive = points.frame[points.label == POSITIVE]
    return points[points.frame != positive[0]] if len(positive) else Points.none()


def beside(own: Points, carried: np.ndarray) -> Points:
    """A person's points in one frame, and some of what was carried there, far from what they say is off the object.

    None at all where nothing says that the object is there: a point off it does not say that it is absent.

    Args:
        own: the person's points, all in one frame; at least one.
        carried: float32 [H, W], probabilities of the object.
    """
    decided, frame = own[own.label != AMBIGUOUS], int(own.frame[0])
    sure = carried >= SURE
    clear = CLEAR * float(np.sqrt(sure.sum()))
    down, across = np.ogrid[: sure.shape[0], : sure.shape[1]]
    for x, y in decided.of(NEGATIVE).xy:
        sure = sure & ((across - x) ** 2 + (down - y) ** 2 >= clear**2)
    rows, columns = np.nonzero(sure)
    order = np.random.default_rng([frame, len(own)]).permutation(len(rows))[:MOST_PLACES]
    places = np.stack([columns, rows], 1).astype(np.float32)[order]
    guessed = medoids(places, GUESSED) if len(places) else places
    if not len(guessed) and not len(decided.of(POSITIVE)):
        return Points.none()
    xy = [(float(x), float(y)) for x, y in guessed]
    return Points.concatenate([decided, Points.of_lists([frame] * len(xy), xy, [POSITIVE] * len(xy))])
