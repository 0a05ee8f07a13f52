"""Scores of frames at speed: equal values however masks come."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.helpers import box
from vng.evaluation.metrics import boundary_f, frame_scores, jaccard, label_scores, pairwise_frame_scores
from vng.masks import changes, decode, empty, encode


def blobs(rng: np.random.Generator, count: int, height: int, width: int) -> list[np.ndarray]:
    """Masks of all kinds: empty, full, noise, one pixel, smooth ones that touch borders."""
    made = [np.zeros((height, width), bool), np.ones((height, width), bool), rng.random((height, width)) > 0.5]
    made.append(box(height // 2, width // 3, height // 2 + 1, width // 3 + 1, height, width))
    while len(made) < count:
        small = rng.random((height // 7 + 1, width // 7 + 1))
        made.append(cv2.resize(small, (width, height)) > rng.choice([0.3, 0.5, 0.8]))
    return [made[i] for i in rng.permutation(count)]


SIZES = [(41, 70), (64, 65), (127, 30), (1, 9), (9, 1), (60, 200)]


class TestFrameScores:
    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_one_value_however_masks_come(self, height: int, width: int, rng: np.random.Generator) -> None:
        gt, pred = (blobs(rng, 7, height, width) for _ in range(2))
        for void in (None, rng.random((height, width)) > 0.7):
            voids = None if void is None else np.broadcast_to(void, (7, height, width))
            j, f = (measure(np.stack(gt), np.stack(pred), voids) for measure in (jaccard, boundary_f))
            for ours, theirs in (
                (gt, pred),
                (list(map(encode, gt)), list(map(encode, pred))),
                (gt, list(map(encode, pred))),
            ):
                got = frame_scores(ours, theirs, void)
                assert got[0].tolist() == j.tolist() and got[1].tolist() == f.tolist()
            table = pairwise_frame_scores(list(map(encode, gt)), pred[:5], void)
            assert table[0].shape == table[1].shape == (7, 5)
            assert np.diagonal(table[0]).tolist() == j[:5].tolist() and np.diagonal(table[1]).tolist() == f[:5].tolist()
            assert table[1][2, 4] == boundary_f(gt[2][None], pred[4][None], None if void is None else void[None])[0]

    def test_label_maps(self, rng: np.random.Generator) -> None:
        gt, pred = ((4 * cv2.resize(rng.random((5, 8)), (50, 33))).astype(np.uint8) for _ in range(2))
        pairs = [(1, 1), (3, 2), (1, 3), (7, 0), (200, 200)]
        j, f = label_scores(gt, pred, pairs)
        expected = frame_scores([gt == a for a, _ in pairs], [pred == b for _, b in pairs])
        assert j.tolist() == expected[0].tolist() and f.tolist() == expected[1].tolist() and j[-1] == 1.0

    def test_any_number_is_foreground(self) -> None:
        odd = np.array([[0, -1, 0.3, np.nan, 0]])
        assert frame_scores([odd], [odd != 0])[0].tolist() == [1.0]

    def test_nothing_and_what_does_not_fit(self) -> None:
        assert [v.shape for v in frame_scores([], [])] == [(0,), (0,)]
        assert [v.shape for v in pairwise_frame_scores([], [empty(3, 4)])] == [(0, 1), (0, 1)]
        with pytest.raises(ValueError, match="expected as many predicted as true masks, got 0 and 1"):
            frame_scores([empty(3, 4)], [])
        for bad in (empty(4, 3), np.zeros((4, 3), bool)):
            with pytest.raises(ValueError, match=r"must all be of one size, got \[4, 3\] and \[3, 4\]"):
                frame_scores([empty(3, 4)], [bad])
        with pytest.raises(ValueError, match=r"expected a mask \[H, W\], got \[1, 3, 4\]"):
            frame_scores([np.zeros((1, 3, 4))], [empty(3, 4)])
        with pytest.raises(ValueError, match="expected label maps uint8"):
            label_scores(np.zeros((3, 4), np.int64), np.zeros((3, 4), np.uint8), [])


def test_changes_are_where_masks_change(rng: np.random.Generator) -> None:
    masks = blobs(rng, 9, 23, 41)
    owner, place = changes([encode(mask) for mask in masks])
    for k, mask in enumerate(masks):
        flat = np.concatenate([[False], mask.T.ravel(), [False]])
        assert place[owner == k].tolist() == np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    assert [len(part) for part in changes([])] == [0, 0] and len(changes([empty(5, 6)])[0]) == 0


def test_decoding_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From RLE to RLE no pixel is made."""
    import vng.evaluation.metrics

    monkeypatch.setattr(vng.evaluation.metrics, "decode", None)
    one = encode(box(2, 3, 9, 12))
    assert frame_scores([one], [one])[0].tolist() == [1.0] and decode(one).sum() == 63
