"""Tracks of a grounder without training: candidates of a few frames, carried through the video.

Shapes: T frames, F of them with candidates, K tracks, X texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vng.frames import Frames
from vng.grounding.candidates import Candidate, overlap_of_masks
from vng.masks import RLE, areas, decode, empty, encode, intersections
from vng.propagators import FramePrompts, Propagator
from vng.propagators.both_ways import both_ways

MATCH = 0.5  # IoU of a candidate with a track that it belongs to
APART = 0.1  # share of the smaller of two masks that they may have in common and still be carried together
SAME_TRACK = 0.6  # mean IoU of tracks that are one, over the frames in which both are seen
BOTH_SEEN = 0.3  # share of the shorter one's frames that these must be


@dataclass(frozen=True, kw_only=True)
class Track:
    """One thing over the video.

    Attributes:
        seed: the candidate that it began with.
        masks: one for each frame; empty: the thing is not seen.
        scores: float32 [F, X], the detector's for each text in each frame with candidates: 0 where the thing is seen
            but was not found, NaN where it is not seen.
    """

    seed: Candidate
    masks: tuple[RLE, ...]
    scores: np.ndarray

    @property
    def steady_scores(self) -> np.ndarray:
        """Mean of the scores over the better half of the frames in which it is seen, float32 [X]; 0 where there is none.

        A thing that is there is found again and again; but where an engine lost it, its track is seen on something else.
        """
        seen = self.scores[~np.isnan(self.scores[:, :1]).any(1)]
        half = -(-len(seen) // 2)
        return np.asarray(np.sort(seen, axis=0)[len(seen) - half :].sum(0) / max(half, 1), np.float32)

    @property
    def found_scores(self) -> np.ndarray:
        """Mean of the scores over the frames in which it was found for any text, float32 [X].

        A detector that misses a thing in a frame says nothing of what the thing is like.
        """
        scores = np.nan_to_num(self.scores)
        found = (scores > 0).any(1)
        return np.asarray(scores[found].sum(0) / max(int(found.sum()), 1))


def find_tracks(
    frames: Frames,
    candidates: Mapping[int, Sequence[Candidate]],
    propagator: Propagator,
    naming: Sequence[int],
    *,
    most: int,
    rounds: int,
    least_score: float,
    refine: bool = False,
    on_frames: Callable[[int], object] = lambda count: None,
) -> list[Track]:
    """Tracks of the candidates: those of the best frame are carried both ways, others join them or start tracks.

    Where others joined, tracks are carried once more, from all their candidates.

    Args:
        frames: the video.
        candidates: frame -> its candidates.
        propagator: the engine that carries them.
        naming: texts whose scores say how good a candidate is.
        most: tracks in all.
        rounds: how often tracks are started, each time in the frame with the best candidates left.
        least_score: of a candidate that starts a track.
        refine: whether tracks are carried once more.
        on_frames: called with numbers of frames done.
    """
    tracks: list[Track] = []
    for _ in range(rounds):
        left = {t: _unmatched(own, t, tracks, naming, least_score) for t, own in candidates.items()}
        seeds = max(left.values(), key=lambda own: sum(_worth(c, naming) for c in own), default=[])
        seeds = sorted(seeds, key=lambda candidate: -_worth(candidate, naming))[: most - len(tracks)]
        if not seeds:
            break
        for group in _apart([{seed.frame: seed} for seed in seeds]):
            carried = carry(frames, propagator, group, on_frames)
            for own, masks in zip(group, carried, strict=True):
                (seed,) = own.values()
                tracks.append(Track(seed=seed, masks=masks, scores=_scores(masks, candidates)))
    tracks = _distinct(tracks, naming)
    return _distinct(_refined(frames, propagator, tracks, candidates, on_frames), naming) if refine else tracks


def _refined(
    frames: Frames,
    propagator: Propagator,
    tracks: Sequence[Track],
    candidates: Mapping[int, Sequence[Candidate]],
    on_frames: Callable[[int], object],
) -> list[Track]:
    """The tracks, carried anew from all candidates that they meet; a candidate belongs to one track."""
    anchors = [{track.seed.frame: track.seed} for track in tracks]
    for t, here in candidates.items():
        near = overlap_of_masks([track.masks[t] for track in tracks], [candidate.mask for candidate in here])
        while near.size and near.max() >= MATCH:
            k, c = np.unravel_index(int(near.argmax()), near.shape)
            anchors[int(k)].setdefault(t, here[int(c)])
            near[k], near[:, c] = 0, 0
    again = [own for own in anchors if len(own) > 1]
    found = {id(track): track for track in tracks}
    by_anchors = {id(own): track for own, track in zip(anchors, tracks, strict=True)}
    for group in _apart(again):
        for own, masks in zip(group, carry(frames, propagator, group, on_frames), strict=True):
            track = by_anchors[id(own)]
            found[id(track)] = replace(track, masks=masks, scores=_scores(masks, candidates))
    return list(found.values())


def _worth(candidate: Candidate, naming: Sequence[int]) -> float:
    return float(candidate.scores[list(naming)].max(initial=0))


def _unmatched(
    own: Sequence[Candidate], t: int, tracks: Sequence[Track], naming: Sequence[int], least_score: float
) -> list[Candidate]:
    """Candidates of frame t that are good, and in no track."""
    good = [candidate for candidate in own if _worth(candidate, naming) >= least_score]
    if not tracks or not good:
        return good
    near = overlap_of_masks([candidate.mask for candidate in good], [track.masks[t] for track in tracks])
    return [candidate for candidate, row in zip(good, near, strict=True) if row.max() < MATCH]


Anchors = dict[int, Candidate]  # frame -> the candidate that a track is carried from


def _apart(tracks: Sequence[Anchors]) -> list[list[Anchors]]:
    """Tracks in groups whose masks do not overlap, since engines give each pixel to one of the things they carry."""
    groups: list[list[Anchors]] = []
    for own in tracks:
        group = next((group for group in groups if not any(_meet(own, other) for other in group)), None)
        if group is None:
            groups.append([own])
        else:
            group.append(own)
    return groups


def _meet(first: Anchors, second: Anchors) -> bool:
    for t in first.keys() & second.keys():
        masks = [first[t].mask, second[t].mask]
        if intersections(masks[:1], masks[1:])[0, 0] > APART * areas(masks).min():
            return True
    return False


def carry(
    frames: Frames,
    propagator: Propagator,
    anchors: Sequence[Anchors],
    on_frames: Callable[[int], object] = lambda count: None,
) -> list[tuple[RLE, ...]]:
    """The masks of tracks in every frame: K lists of T masks. Holds the pixels of one frame, and of the anchors'.

    Args:
        frames: the video.
        propagator: the engine.
        anchors: of each track, at least one.
        on_frames: called with numbers of frames done.
    """
    prompts = {
        t: FramePrompts(masks=tuple(decode(own[t].mask) if t in own else None for own in anchors))
        for t in sorted({t for own in anchors for t in own})
    }
    masks = [[empty(*frames.size)] * len(frames) for _ in anchors]
    for t, objects, probabilities in both_ways(propagator, frames, prompts):
        for k, probability in zip(objects, probabilities, strict=True):
            masks[k][t] = encode(probability > 0.5)
        on_frames(1)
    return [tuple(row) for row in masks]


def _scores(masks: Sequence[RLE], candidates: Mapping[int, Sequence[Candidate]]) -> np.ndarray:
    """See `Track.scores`."""
    count = next((len(own[0].scores) for own in candidates.values() if own), 0)
    scores = np.full((len(candidates), count), np.nan, np.float32)
    for row, (t, own) in enumerate(sorted(candidates.items())):
        if not areas([masks[t]])[0]:
            continue
        near = overlap_of_masks([masks[t]], [candidate.mask for candidate in own])[0]
        found = len(near) and near.max() >= MATCH
        scores[row] = own[int(near.argmax())].scores if found else 0
    return scores


def _distinct(tracks: Sequence[Track], naming: Sequence[int]) -> list[Track]:
    """Tracks without those that ran into a better one."""
    kept: list[Track] = []
    for track in sorted(tracks, key=lambda track: -float(track.steady_scores[list(naming)].max(initial=0))):
        if all(same_share(track.masks, other.masks) < SAME_TRACK for other in kept):
            kept.append(track)
    return kept


def same_share(first: Sequence[RLE], second: Sequence[RLE]) -> float:
    """Mean IoU of two tracks over the frames in which both are seen; 0 where these are few.

    The shorter one may be a piece of the other: carried from another frame, and lost.
    """
    sizes = np.stack([areas(first), areas(second)])
    both = np.flatnonzero((sizes > 0).all(0)).tolist()
    if not both or len(both) < BOTH_SEEN * (sizes > 0).sum(1).min():
        return 0.0
    shared = np.array([float(intersections([first[t]], [second[t]])[0, 0]) for t in both])
    return float((shared / (sizes[:, both].sum(0) - shared)).mean())
