"""DAVIS 2017 unsupervised: proposals nobody named, each given to an object so that the sum of J&F is highest.

Source: Caelles et al., "The 2019 DAVIS Challenge on VOS", Sec. 3, and davis2017-evaluation. Every decision:
docs/protocols.md. Shapes: G objects, P proposals, T frames that count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from vng.dataset import Video
from vng.errors import DataError
from vng.evaluation.metrics import Mask, pairwise_frame_scores
from vng.evaluation.vos_results import VideoPredictions, read_labels
from vng.evaluation.vos_targets import Targets
from vng.frames import inside

UNSUPERVISED = "davis-unsupervised"
MOST_PROPOSALS = 20
VOID = 255

Rows = list[list[tuple[float, float]]]  # of each object (J, F) of each of its frames


class ProposalScores:
    """J and F of every object with every proposal of one video, frame by frame.

    Args:
        frames: of each object, the frames that count.
    """

    def __init__(self, frames: Sequence[Sequence[int]]) -> None:
        self._frames = [tuple(its) for its in frames]
        self._all = sorted(set().union(*self._frames))
        self._known: list[tuple[int, list[int], list[int], np.ndarray]] = []  # frame, objects, numbers, scores

    def add(
        self, frame: int, truth: Sequence[Mask], proposals: dict[int, Mask], void: np.ndarray | None = None
    ) -> None:
        """Score a frame: the masks of the objects it counts for, in order, with proposals by their number (1, 2, ...)."""
        there = [g for g, its in enumerate(self._frames) if frame in its]
        size = truth[0].size if not isinstance(truth[0], np.ndarray) else truth[0].shape
        nothing = np.zeros(size, bool)  # what a proposal shows that is not in the frame
        numbers = sorted(proposals)
        scores = pairwise_frame_scores(truth, [*(proposals[n] for n in numbers), nothing], void)
        self._known.append((frame, there, numbers, np.stack(scores)))

    def matched(self, by_proposal: bool = False) -> Rows:
        """Of each object (J, F) of its frames with the proposal it is given.

        Args:
            by_proposal: in the order of the proposals' numbers, as the official program lists them.
        """
        values = self._table()
        columns = [[self._all.index(t) for t in its] for its in self._frames]
        means = np.stack([values[:, :, g][:, :, its].mean(2).mean(0) for g, its in enumerate(columns)], 1)
        proposals, objects = linear_sum_assignment(-means)
        pairs = list(zip(proposals, objects, strict=True))
        if not by_proposal:
            pairs.sort(key=lambda pair: pair[1])
        return [[(float(j), float(f)) for j, f in values[:, p, g, columns[g]].T] for p, g in pairs]

    def _table(self) -> np.ndarray:
        """J and F, float64 [2, P, G, T]; there are as many proposals as the highest number, and never fewer than objects."""
        highest = max((max(numbers, default=0) for _, _, numbers, _ in self._known), default=0)
        values = np.full((2, max(highest, len(self._frames)), len(self._frames), len(self._all)), np.nan)
        for frame, there, numbers, scores in self._known:
            t = self._all.index(frame)
            values[:, :, there, t] = scores[:, :, -1][:, None]
            for column, number in enumerate(numbers):
                values[:, number - 1, there, t] = scores[:, :, column]
        return values


def score_proposals(
    video: Video, targets: Targets, readers: Sequence[VideoPredictions], void: Path | None, official: bool
) -> list[Rows] | None:
    """Scores of a video's objects, for each reader; None where something is wrong, which the readers then tell.

    Args:
        video: the truth.
        targets: what counts of it.
        readers: label maps of proposals 1 to 20, one reader a run.
        void: folder `<video>/<frame>.png` of annotations whose pixels of value 255 are left out.
        official: list objects in the order of their proposals.
    """
    frames = sorted(set().union(*(target.frames for target in targets.scored)))
    for reader in readers:
        reader.missing(frames)
    scores = [ProposalScores([target.frames for target in targets.scored]) for _ in readers]
    for t in frames:
        truth = [rle for target in targets.scored if t in target.frames and (rle := target.masks[t]) is not None]
        left_out = None if void is None else _void(void, video, t)
        for reader, its in zip(readers, scores, strict=True):
            labels = reader.read(t, range(1, MOST_PROPOSALS + 1))
            if labels is not None and not reader.problems:
                its.add(t, truth, {n: labels == n for n in _numbers(labels)}, left_out)
    if any(reader.problems for reader in readers):
        return None
    return [its.matched(by_proposal=official) for its in scores]


def _numbers(labels: np.ndarray) -> Collection[int]:
    return [int(n) for n in np.flatnonzero(np.bincount(labels.ravel())) if n]


def _void(folder: Path, video: Video, t: int) -> np.ndarray:
    path = inside(folder, video.video_id) / f"{video.frame_names[t]}.png"
    try:
        return read_labels(path, (video.height, video.width)) == VOID
    except ValueError as error:
        reason, _, _ = str(error).partition("; ")
        raise DataError(path, "", "", reason.replace("prediction", "annotation"), "check --void") from error
