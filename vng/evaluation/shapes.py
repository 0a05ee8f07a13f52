"""Masks packed for comparison, 64 pixels to a word, with their boundaries.

Masks of one or several frames lie in one array of words, one below the other, each cropped to the columns with its
pixels and with empty space around it. So a step of morphology is one bit operation on all of them, and a boundary is
computed once however many masks it is compared with.

Layout: pixel (y, x) of mask k is bit y of row `starts[k] + x - columns[k][0]`; a row is one *column* of the frame,
because COCO RLE runs down the columns. Rows hold at least `radius` bits more than the frame is high, and `radius` + 1
rows lie before and after each mask: pixels shifted over the edge of a mask fall into empty space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt

import cv2
import numpy as np

from vng.masks import RLE, changes

WORD = np.dtype("<u8")  # bit i of a word is bit i % 8 of its byte i // 8, on every machine


@dataclass(frozen=True)
class Shapes:
    """K masks of one size, of one frame or several; made by `of_rles`, `of_labels` and `of_arrays`."""

    size: tuple[int, int]  # height and width of the frame
    radius: int  # distance in pixels within which boundary pixels match
    # first column of each mask and the one after its last; (0, 0) where it is empty
    columns: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]  # the row of its first column
    bits: np.ndarray  # WORD [rows * words]

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def words(self) -> int:
        """Words per row."""
        return _words(self.size[0], self.radius)

    @cached_property
    def areas(self) -> list[int]:
        """Pixels of each mask."""
        return self._counted(self.bits)

    @cached_property
    def edges(self) -> np.ndarray:
        """Boundary maps, as `bits`: pixels that differ from their right, lower or diagonal neighbour.

        The contour lies half a pixel up and left, and the frame's last row and column are compared with themselves.
        """
        n, (height, width) = self.words, self.size
        masks = self.bits.reshape(-1, n).copy()
        beyond = [s + b - a for s, (a, b) in zip(self.starts, self.columns, strict=True) if b == width]
        masks[beyond] = masks[[row - 1 for row in beyond]]  # repeat the frame's last column
        below = _down(masks.ravel(), 1).reshape(-1, n) | (masks & _row(height - 1, height, n))
        some, all_ = (masks | below).ravel(), (masks & below).ravel()
        edges = some.copy()
        edges[:-n] |= some[n:]
        all_[:-n] &= all_[n:]
        table = (edges ^ all_).reshape(-1, n) & _row(0, height, n)
        table[beyond] = 0
        table[[s - 1 for s, (a, _) in zip(self.starts, self.columns, strict=True) if a == 0]] = 0  # outside the frame
        return table.ravel()

    @cached_property
    def edge_counts(self) -> list[int]:
        """Boundary pixels of each mask."""
        return self._counted(self.edges)

    @cached_property
    def grown(self) -> np.ndarray:
        """Boundary maps dilated by the disk of `radius`: offsets (dx, dy) with dx^2 + dy^2 <= radius^2."""
        n, radius = self.words, self.radius
        spread, height = self.edges, 0
        grown = np.zeros_like(spread)
        for dx in range(radius, -1, -1):
            while height < isqrt(radius * radius - dx * dx):
                # a run of 2 * height + 1 pixels leaves no gap when it moves by at most its length
                step = min(isqrt(radius * radius - dx * dx) - height, 2 * height + 1, 63)
                spread = spread | _up(spread, step) | _down(spread, step)
                height += step
            grown[dx * n :] |= spread[: len(spread) - dx * n]
            grown[: len(spread) - dx * n] |= spread[dx * n :]
        return grown

    def rows(self, k: int, first: int, last: int) -> slice:
        """Words of mask k in the frame's columns [first, last), which lie in the mask or the space around it."""
        shift = self.starts[k] - self.columns[k][0]
        return slice((shift + first) * self.words, (shift + last) * self.words)

    def _counted(self, bits: np.ndarray) -> list[int]:
        if not self.starts:
            return []
        begins = [(start - self.radius - 1) * self.words for start in self.starts]
        counts: list[int] = np.add.reduceat(np.bitwise_count(bits), begins, dtype=np.int64).tolist()
        return counts


def of_rles(rles: Sequence[RLE], size: tuple[int, int], radius: int, void: np.ndarray | None = None) -> Shapes:
    """Shapes of RLEs of one size, never decoded to pixels."""
    height, n = size[0], _words(size[0], radius)
    owner, place = changes(rles)
    ends = np.searchsorted(owner, np.arange(len(rles)), side="right")
    begins = np.searchsorted(owner, np.arange(len(rles)), side="left")
    columns = [
        (int(place[a]) // height, (int(place[b - 1]) - 1) // height + 1) if b > a else (0, 0)
        for a, b in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
    shapes = _empty(columns, size, radius)
    x, y = np.divmod(place, height)
    first = np.array(shapes.starts, np.int64) - np.array([a for a, _ in columns], np.int64)
    at = (first[owner] + x) * (64 * n) + y
    _fill(shapes.bits, at)
    shapes.bits.reshape(-1, n)[:] &= _row(0, height, n)  # clears runs that continue in the next column
    return _without(shapes, void)


def of_labels(
    maps: Sequence[np.ndarray], masks: Sequence[tuple[int, int]], radius: int, void: np.ndarray | None = None
) -> Shapes:
    """Shapes of masks in label maps, uint8 [H, W] of one size; each mask is (index of the map, number in it)."""
    turned = [_turned(labels) for labels in maps]
    texts, height = [labels.tobytes() for labels in turned], maps[0].shape[0]
    columns = []
    for index, number in masks:
        first = texts[index].find(number)  # as fast as memchr
        columns.append((first // height, texts[index].rfind(number) // height + 1) if first >= 0 else (0, 0))
    shapes = _empty(columns, (height, maps[0].shape[1]), radius)
    for k, ((index, number), (a, b)) in enumerate(zip(masks, columns, strict=True)):
        _pack(shapes, k, turned[index][a:b] == number)
    return _without(shapes, void)


def of_arrays(
    masks: Sequence[np.ndarray], size: tuple[int, int], radius: int, void: np.ndarray | None = None
) -> Shapes:
    """Shapes of masks [H, W] of one size; any non-zero pixel is foreground."""
    turned = [_turned((mask != 0).view(np.uint8)) for mask in masks]
    columns = []
    for mask in turned:
        text = mask.tobytes()
        first = text.find(1)
        columns.append((first // size[0], text.rfind(1) // size[0] + 1) if first >= 0 else (0, 0))
    shapes = _empty(columns, size, radius)
    for k, (mask, (a, b)) in enumerate(zip(turned, columns, strict=True)):
        _pack(shapes, k, mask[a:b])
    return _without(shapes, void)


def _words(height: int, radius: int) -> int:
    return (height + radius + 63) // 64


def _empty(columns: Sequence[tuple[int, int]], size: tuple[int, int], radius: int) -> Shapes:
    starts, rows = [], 0
    for a, b in columns:
        starts.append(rows + radius + 1)
        rows += b - a + 2 * (radius + 1)
    return Shapes(size, radius, tuple(columns), tuple(starts), np.zeros(rows * _words(size[0], radius), WORD))


def _pack(shapes: Shapes, k: int, turned: np.ndarray) -> None:
    packed = np.packbits(turned, axis=1, bitorder="little")
    rows = shapes.bits.view(np.uint8).reshape(-1, 8 * shapes.words)
    rows[shapes.starts[k] : shapes.starts[k] + len(packed), : packed.shape[1]] = packed


def _turned(array: np.ndarray) -> np.ndarray:
    return cv2.transpose(array) if array.size else np.ascontiguousarray(array.T)


def _without(shapes: Shapes, void: np.ndarray | None) -> Shapes:
    """The shapes without the pixels of `void` [H, W]."""
    if void is not None:
        valid = _turned((void == 0).view(np.uint8))
        for k, (a, b) in enumerate(shapes.columns):
            one = _empty([(a, b)], shapes.size, shapes.radius)
            _pack(one, 0, valid[a:b])
            shapes.bits[shapes.rows(k, a, b)] &= one.bits[one.rows(0, a, b)]
    return shapes


def _fill(bits: np.ndarray, at: np.ndarray) -> None:
    """Set the bits from each odd place to the next even one; places are ascending, `bits` are zeros."""
    if not len(at):
        return
    word, bit = at >> 6, np.left_shift(np.uint64(1), (at & 63).astype(np.uint64))
    first = np.flatnonzero(np.diff(word, prepend=-1))
    bits[word[first]] = np.bitwise_xor.reduceat(bit, first)
    for step in (1, 2, 4, 8, 16, 32):
        bits ^= bits << np.uint64(step)
    odd = np.bitwise_xor.accumulate(bits >> np.uint64(63))
    bits[1:] ^= np.negative(odd[:-1])


def _up(bits: np.ndarray, step: int) -> np.ndarray:
    """All bits moved up by `step`, as one string of bits; step in 1..63."""
    moved = bits << np.uint64(step)
    moved[1:] |= bits[:-1] >> np.uint64(64 - step)
    return moved


def _down(bits: np.ndarray, step: int) -> np.ndarray:
    moved = bits >> np.uint64(step)
    moved[:-1] |= bits[1:] << np.uint64(64 - step)
    return moved


@lru_cache(maxsize=64)
def _row(first: int, last: int, words: int) -> np.ndarray:
    """A row with the bits [first, last) set."""
    flags = np.zeros(64 * words, np.uint8)
    flags[first:last] = 1
    return np.packbits(flags, bitorder="little").view(WORD)
