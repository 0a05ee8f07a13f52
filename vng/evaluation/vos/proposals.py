"""DAVIS 2017 unsupervised: unlabelled proposals, matched to objects so that the sum of J&F is maximal.

Source: Caelles et al., "The 2019 DAVIS Challenge on VOS", Sec. 3, and davis2017-evaluation. All decisions:
docs/protocols.md. Shapes: G objects, P proposals, T frames that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from vng.dataset import Video
from vng.evaluation.metrics import paired_scores, shapes_of, tolerance
from vng.evaluation.shapes import Shapes, of_labels
from vng.evaluation.vos.runs import VideoPredictions
from vng.evaluation.vos.targets import Protocol, Targets
from vng.frames import inside
from vng.label_maps import VOID, read_label_map

UNSUPERVISED = "davis-unsupervised"
MOST_PROPOSALS = 20

Rows = list[list[tuple[float, float]]]  # for each object, (J, F) of each of its frames


class ProposalScores:
    """J and F of every object with every proposal of one video, frame by frame.

    Args:
        frames: for each object, the frames that count.
    """

    def __init__(self, frames: Sequence[Sequence[int]]) -> None:
        self._frames = [tuple(counted) for counted in frames]
        self._all = sorted(set().union(*self._frames))
        # (frame, objects, numbers, scores)
        self._scores: list[tuple[int, list[int], list[int], np.ndarray]] = []

    def add(self, frame: int, numbers: Sequence[int], scores: tuple[np.ndarray, np.ndarray]) -> None:
        """Add the scores of a frame.

        Args:
            frame: index of the frame.
            numbers: numbers of the proposals in it, from 1 on.
            scores: J and F, float64 [G', P' + 1] each, of the objects for which the frame counts with these proposals,
                and in the last column with an empty one.
        """
        objects = [g for g, counted in enumerate(self._frames) if frame in counted]
        self._scores.append((frame, objects, list(numbers), np.stack(scores)))

    def matched(self, by_proposal: bool = False) -> Rows:
        """For each object, (J, F) of its frames with the proposal it is matched to.

        Args:
            by_proposal: whether objects are in the order of their proposals' numbers, as in the official program; only
                where all objects have the same frames.
        """
        values = self._table()
        columns = [[self._all.index(t) for t in counted] for counted in self._frames]
        means = np.stack([values[:, :, g][:, :, counted].mean(2).mean(0) for g, counted in enumerate(columns)], 1)
        proposals, objects = linear_sum_assignment(-means)
        pairs = list(zip(proposals, objects, strict=True))
        if not by_proposal or len(set(self._frames)) > 1:
            pairs.sort(key=lambda pair: pair[1])
        return [[(float(j), float(f)) for j, f in values[:, p, g, columns[g]].T] for p, g in pairs]

    def _table(self) -> np.ndarray:
        """J and F, float64 [2, P, G, T]; P is the highest number of a proposal, but at least G."""
        highest = max((max(numbers, default=0) for _, _, numbers, _ in self._scores), default=0)
        values = np.full((2, max(highest, len(self._frames)), len(self._frames), len(self._all)), np.nan)
        for frame, objects, numbers, scores in self._scores:
            t = self._all.index(frame)
            values[:, :, objects, t] = scores[:, :, -1][:, None]
            for column, number in enumerate(numbers):
                values[:, number - 1, objects, t] = scores[:, :, column]
        return values


def score_proposals(
    video: Video, targets: Targets, readers: Sequence[VideoPredictions], protocol: Protocol, scoring: bool
) -> list[Rows] | None:
    """Scores of a video's objects, for each reader; None where nothing is scored.

    Args:
        video: the ground truth.
        targets: the objects and frames that count.
        readers: label maps of proposals 1 to 20, one reader per run; they collect problems.
        protocol: with `official`, objects are in the order of their proposals.
        scoring: whether to score; otherwise files are only checked.
    """
    frames = sorted(set().union(*(target.frames for target in targets.scored)))
    for reader in readers:
        reader.missing(frames)
    scores = [ProposalScores([target.frames for target in targets.scored]) for _ in readers]
    size = (video.height, video.width)
    for t in frames:
        void = None if protocol.void is None else _void(protocol.void, video, t)
        rles = [rle for target in targets.scored if t in target.frames and (rle := target.masks[t]) is not None]
        truths = shapes_of(rles, size, void) if scoring else None
        for reader, collected in zip(readers, scores, strict=True):
            labels = reader.read(t, range(1, MOST_PROPOSALS + 1))
            scoring = scoring and not reader.problems
            if labels is not None and truths is not None and scoring:
                numbers = [n for n in np.unique(labels).tolist() if n]
                predicted = of_labels([labels], [(0, n) for n in (*numbers, VOID)], tolerance(*size), void)
                collected.add(t, numbers, _pairs(truths, len(rles), predicted, len(numbers) + 1))
    if not scoring or not targets.scored:
        return None
    return [collected.matched(by_proposal=protocol.official) for collected in scores]


def _pairs(gt: Shapes, n_gt: int, pred: Shapes, n_pred: int) -> tuple[np.ndarray, np.ndarray]:
    """J and F, float64 [G, P] each."""
    j, f = paired_scores(gt, pred, [(g, p) for g in range(n_gt) for p in range(n_pred)])
    return j.reshape(n_gt, n_pred), f.reshape(n_gt, n_pred)


def _void(folder: Path, video: Video, t: int) -> np.ndarray:
    path = inside(folder, video.video_id) / f"{video.frame_names[t]}.png"
    return read_label_map(path, (video.height, video.width), noun="annotation", cure="check --void") == VOID
