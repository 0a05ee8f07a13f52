"""Masks as run lengths."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import box
from vng import masks


class TestMasks:
    @pytest.mark.parametrize("seed", range(20))
    def test_round_trip(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.random()
        rle = masks.encode(mask)
        np.testing.assert_array_equal(masks.decode(rle), mask)
        assert rle.size == (height, width) and masks.area(rle) == mask.sum()
        assert masks.from_json(rle.as_dict()) == rle

    def test_null_and_empty_differ(self) -> None:
        assert masks.from_json(None) is None
        nothing = masks.empty(4, 6)
        assert masks.from_json(nothing.as_dict()) == nothing and masks.area(nothing) == 0

    def test_uncompressed_counts(self) -> None:
        rle = masks.from_json({"size": [2, 3], "counts": [1, 2, 3]})
        assert rle is not None
        np.testing.assert_array_equal(masks.decode(rle), [[0, 1, 0], [1, 0, 0]])

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            ({"size": [2, 3], "counts": [1, 2]}, "sum to 3"),
            ({"size": [2, 3], "counts": "hb0"}, "a run of 600 pixels"),
            ({"size": [2, 3], "counts": "4"}, "fill 4 pixels"),
            ({"size": [2, 3], "counts": "\x01"}, "does not allow"),
            ({"size": [2, 3], "counts": 5}, "a string or a list"),
            ({"counts": "0"}, "requires size"),
            ([1], "requires size"),
        ],
    )
    def test_faults_are_named(self, value: object, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            masks.from_json(value)  # type: ignore[arg-type]

    def test_known_numbers(self) -> None:
        left, right = masks.encode(box(0, 0, 4, 4, 4, 6)), masks.encode(box(0, 2, 4, 6, 4, 6))
        assert masks.area(masks.union([left, right])) == 24
        assert masks.intersection_over_union(left, right) == pytest.approx(8 / 24)
        assert masks.intersection_over_union(masks.empty(4, 6), masks.empty(4, 6)) == 1.0
        assert masks.decode_many([left, right]).shape == (2, 4, 6)
        with pytest.raises(ValueError, match="at least one"):
            masks.decode_many([])


def spelled(numbers: list[int]) -> str:
    """Numbers as compressed counts: five bits a character, the lowest first (no other rule is applied)."""
    text = ""
    for number in numbers:
        while True:
            digit, number = number & 31, number >> 5
            more = number != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
            if not more:
                break
    return text


class TestNumbersAreBoundedBeforeTheyAreAdded:
    def test_a_sum_that_wraps_in_64_bits(self) -> None:
        # Even and odd runs grow by 2^33 each: n of them sum to more than 2^64, and the last makes the sum wrap to 6.
        count = 2 * 2**16
        runs = [0, 0, 0, *(2**33 * (1 + i // 2) for i in range(count))]
        runs[0] = (6 - sum(runs)) % 2**34
        differences = [run if i < 3 else run - runs[i - 2] for i, run in enumerate(runs)]
        assert sum(runs) > 2**64
        with pytest.raises(ValueError, match=r"a run of|truncated"):
            masks.from_json({"size": [2, 3], "counts": spelled(differences)})

    @pytest.mark.parametrize(
        ("counts", "words"),
        [
            (spelled([3, 2**33, 5]), "a run of 8589934592 pixels, the mask has 6"),
            ([10**12, 1], "whole numbers up to the pixels"),
            ([2**64, 6], "whole numbers up to the pixels"),
        ],
    )
    def test_a_run_beyond_the_mask(self, counts: object, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            masks.from_json({"size": [2, 3], "counts": counts})

    @pytest.mark.parametrize(
        "size", [[0, 3], [-2, -3], [2**31, 2**31], [2, 3, 4], [2.0, 3], ["2", 3], [True, 6], [10**30, 1], None, 6]
    )
    def test_sizes(self, size: object) -> None:
        with pytest.raises(ValueError, match="size"):
            masks.from_json({"size": size, "counts": "6"})
