"""Tracks: what is carried together, what joins, and what is one thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.grounding.painted_balls import PaintPropagator, T, film, masks
from tests.helpers import box
from vng.grounding.candidates import Candidate
from vng.grounding.tracks import carry, find_tracks, same_share
from vng.masks import decode, empty, encode

SIZE = (40, 72)


def candidate(t: int, mask: np.ndarray, *scores: float) -> Candidate:
    return Candidate(frame=t, box=np.zeros(4, np.float32), mask=encode(mask), scores=np.array(scores, np.float32))


def found(t: int, names: Sequence[str], score: float = 0.6) -> list[Candidate]:
    return [candidate(t, masks(name)[t], score, 0.1) for name in names]


def test_others_join_or_start() -> None:
    engine = PaintPropagator()
    candidates = {1: found(1, ["left"]), 4: found(4, ["left", "middle"]), 7: found(7, ["right", "middle"])}
    tracks = find_tracks(film(), candidates, engine, [0], most=10, rounds=3, least_score=0.3)
    assert len(tracks) == 3 and engine.carried == 2 * T  # two rounds: "right" is left over from the first
    by_name = {
        name: t for t in tracks for name in ("left", "middle", "right") if (decode(t.masks[0]) == masks(name)[0]).all()
    }
    assert by_name["left"].scores[:, 0].tolist() == pytest.approx(
        [0.6, 0.6, 0.0]
    )  # seen in the last frame, not found there
    assert by_name["middle"].scores[:, 0].tolist() == pytest.approx([0.0, 0.6, 0.6])
    assert by_name["left"].steady_scores.tolist() == pytest.approx([0.6, 0.1])
    assert by_name["middle"].steady_scores.tolist() == pytest.approx([0.6, 0.1])  # of the better half
    assert by_name["left"].found_scores.tolist() == pytest.approx([0.6, 0.1])


def test_limits() -> None:
    candidates = {2: found(2, ["left", "middle", "right"]), 5: found(5, ["left"], 0.1)}
    one = find_tracks(film(), candidates, PaintPropagator(), [0], most=2, rounds=3, least_score=0.3)
    assert len(one) == 2
    assert find_tracks(film(), candidates, PaintPropagator(), [0], most=9, rounds=3, least_score=0.9) == []
    assert find_tracks(film(), {}, PaintPropagator(), [0], most=9, rounds=3, least_score=0.1) == []


def test_things_that_overlap_are_carried_apart() -> None:
    engine = PaintPropagator()
    whole = masks("left")[3]
    part = whole & box(0, 0, 40, 10, *SIZE)
    tracks = find_tracks(
        film(), {3: [candidate(3, whole, 0.9), candidate(3, part, 0.8)]}, engine, [0], most=9, rounds=1, least_score=0.3
    )
    assert engine.carried == 2 * T and len(tracks) == 1  # both end up as the ball


def test_carry() -> None:
    rows = carry(film(), PaintPropagator(), [{5: found(5, ["right"])[0]}, {5: found(5, ["middle"])[0]}])
    assert len(rows) == 2 and all(len(row) == T for row in rows)
    assert all((decode(rle) == masks("right")[t]).all() for t, rle in enumerate(rows[0]))


def test_share_of_two_tracks() -> None:
    full = [encode(masks("left")[t]) for t in range(T)]
    piece = [full[t] if t < 4 else empty(*SIZE) for t in range(T)]
    other = [encode(masks("right")[t]) for t in range(T)]
    assert same_share(full, full) == 1 and same_share(full, piece) == 1  # a piece of the other
    assert same_share(full, other) == 0 and same_share(full, [empty(*SIZE)] * T) == 0
