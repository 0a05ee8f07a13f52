"""Point trackers: a video and query points in, their places and visibility in every frame out.

A new engine is one file with a subclass of `PointTracker`, and one line in `ENGINES`.
Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from vng.engines import make_engine
from vng.errors import UsageError

if TYPE_CHECKING:  # the command line needs only the names
    import numpy as np

    from vng.frames import Frames

# name -> "module:class"; the module is imported when the engine is made
ENGINES = {
    "lucas_kanade": "vng.trackers.lucas_kanade:LucasKanadeTracker",
    "stcn": "vng.trackers.features:FeatureTracker",
    "cotracker": "vng.trackers.cotracker:CoTracker",
    "tapir": "vng.trackers.tapir:TapirTracker",
}
NEEDS_PACKAGE = {"cotracker": "cotracker", "tapir": "tapnet"}  # raise UsageError without it
DEFAULT = "lucas_kanade"


class PointTracker(Protocol):
    """The interface of a tracker; it streams in windows, so memory does not grow with the length of the video."""

    threshold: float  # a point counts as visible above this visibility

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Follow points from their own frames to the last frame; for the frames before, see `both_ways`.

        Args:
            frames: the video.
            queries: float [P, 3], (frame, x, y); pixel centres are at integer coordinates.

        Yields:
            (frame, xy float32 [P, 2], visibility float32 [P] in [0, 1]) from the first query's frame on, in order. Before
            its own frame a point has its query's place and visibility 0; in its own frame that place and 1.

        Raises:
            UsageError: as `check_queries`.
        """
        ...


def load(name: str = DEFAULT, **options: Any) -> PointTracker:
    """Make a tracker by name with `options` of its engine.

    Raises UsageError for an unknown name or option, or a missing package of `NEEDS_PACKAGE`.
    """
    return make_engine(ENGINES, "tracker", name, options)


def check_queries(frames: Frames, queries: np.ndarray) -> np.ndarray:
    """The queries as float32 [P, 3].

    Raises UsageError for another shape, a frame that the video lacks, or a point outside the frame or not finite.
    """
    import numpy as np

    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != 3:
        raise UsageError(f"queries of shape {list(queries.shape)}: expected [P, 3], (frame, x, y)")
    height, width = frames.size
    with np.errstate(invalid="ignore"):
        pixels = np.rint(queries[:, 1:])
        fits = (queries[:, 0] == np.rint(queries[:, 0])) & (queries[:, 0] >= 0) & (queries[:, 0] < len(frames))
        fits &= (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    if not fits.all():
        number = int(np.flatnonzero(~fits)[0])
        t, x, y = queries[number]
        size = f"{len(frames)} frames of {width}x{height} pixels"
        raise UsageError(f"query {number}: ({x:g}, {y:g}) in frame {t:g} is outside the video of {size}")
    return queries


def both_ways(
    tracker: PointTracker, frames: Frames, queries: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Follow points forwards and backwards from their own frames.

    Yields as `PointTracker`: from the last query's frame on the forward pass alone; then the frames before it from the
    last to the first, in which each point takes the pass that leads there from its query.
    """
    import numpy as np

    from vng.frames import Backwards

    queries = check_queries(frames, queries)
    if not len(queries):
        return
    own = queries[:, 0].astype(int)
    first, last = int(own.min()), int(own.max())
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for t, xy, visibility in tracker(frames, queries):
        if t < last:
            kept[t] = (xy, visibility)
        else:
            yield t, xy, visibility
    if not last:
        return
    turned = np.concatenate([last - queries[:, :1], queries[:, 1:]], 1)
    for back, xy, visibility in tracker(Backwards(frames, last), turned):
        t = last - back
        if t == last:
            continue
        forwards = (own <= t) if t >= first else np.zeros(len(own), bool)
        if forwards.any():
            xy = np.where(forwards[:, None], kept[t][0], xy)
            visibility = np.where(forwards, kept.pop(t)[1], visibility)
        yield t, xy, visibility
