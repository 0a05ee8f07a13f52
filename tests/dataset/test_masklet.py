"""The masks of one object of a row: checked when they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import box
from vng.dataset.masklet import Masklet, read_masklet
from vng.dataset.packed import PackedMasks
from vng.errors import DataError
from vng.masks import encode, many_from_json
from vng.records import Reader

SIZE = (20, 30)
RLES = [encode(box(1, 2, 5, 9)), None, encode(np.zeros(SIZE, bool)), encode(box(0, 0, 20, 30))]


def place() -> Reader:
    return Reader({}, "set", "clip", "objects.7")


def masklet(counts: list[str | None]) -> Masklet:
    read = read_masklet(PackedMasks(SIZE, counts), place())
    assert isinstance(read, Masklet)
    return read


def test_a_null_mask_is_none_and_an_empty_one_is_a_mask() -> None:
    masks = masklet([None if rle is None else rle.counts for rle in RLES])
    assert tuple(masks) == tuple(RLES) and masks == tuple(RLES) and len(masks) == 4
    assert masks[1] is None and masks[-1] == RLES[3] and masks[1:3] == (None, RLES[2])
    assert masks.annotated.tolist() == [True, False, True, True] and masks.nbytes > 0
    with pytest.raises(IndexError):
        masks[4]


def test_counts_are_checked_on_access_and_named() -> None:
    masks = masklet([RLES[0].counts, "\x7f\x7f", RLES[3].counts])
    assert masks[0] == RLES[0] and masks[2] == RLES[3]
    for read in (lambda: masks[1], lambda: list(masks)):
        with pytest.raises(DataError, match=r"set: clip: objects.7.segmentations\[1\]: ") as caught:
            read()
        assert caught.value.problem.field == "objects.7.segmentations[1]"


def test_plain_values_and_packed_ones_are_the_same() -> None:
    values = [None if rle is None else rle.as_dict() for rle in RLES]
    packed = masklet([None if rle is None else rle.counts for rle in RLES])
    assert read_masklet(values, place()) == packed == tuple(many_from_json(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([{"size": [20, 30], "counts": ""}], r"segmentations\[0\]: "),
        ([{"size": [20, -30], "counts": "1"}], r"segmentations\[0\]: "),
        ([None, {"size": [20], "counts": "1"}], r"segmentations\[1\]: "),
        ([{"counts": "1"}], r"segmentations\[0\]: "),
        ([5], r"segmentations\[0\]: "),
    ],
)
def test_what_is_no_segmentation(values: list[object], words: str) -> None:
    with pytest.raises(DataError, match=rf"set: clip: objects.7.{words}"):
        read_masklet(values, place())


def test_packed_values_without_a_size_or_counts() -> None:
    for packed in (PackedMasks(SIZE, ["", None]), PackedMasks((0, 30), ["1"])):
        with pytest.raises(DataError, match=r"objects.7.segmentations\[0\]"):
            read_masklet(packed, place())


def test_no_masks() -> None:
    assert read_masklet([], place()) == () and read_masklet([None, None], place()) == (None, None)
