"""Masks as COCO compressed RLE.

`None` means *unannotated*, an RLE without foreground means *the object is absent*; these are never confused.
Masks stay encoded until pixels are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as coco_mask

BoolArray = np.ndarray

MOST_PIXELS = 1 << 26  # of a mask (8192 x 8192); larger sizes are errors of the file
MOST_DIGITS = 7  # of a run, five bits each: enough for a run or a difference of MOST_PIXELS
BROKEN = "counts are truncated or hold a negative run"


@dataclass(frozen=True)
class RLE:
    """One frame's binary mask as COCO compressed RLE: `size` is (height, width), `counts` an ASCII string."""

    size: tuple[int, int]
    counts: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON and Parquet form: {"size": [h, w], "counts": str}."""
        return {"size": list(self.size), "counts": self.counts}

    def _coco(self) -> dict[str, Any]:
        return {"size": list(self.size), "counts": self.counts.encode("ascii")}


def encode(mask: BoolArray) -> RLE:
    """Encode a mask [H, W]; any non-zero pixel is foreground."""
    if mask.ndim != 2:
        raise ValueError(f"a mask has shape [H, W], got {list(mask.shape)}")
    coco = coco_mask.encode(np.asfortranarray(mask != 0).view(np.uint8))
    return RLE((int(mask.shape[0]), int(mask.shape[1])), coco["counts"].decode("ascii"))


def decode(rle: RLE) -> BoolArray:
    """Decode to bool [H, W]."""
    return coco_mask.decode(rle._coco()).astype(bool)


def decode_many(rles: Sequence[RLE]) -> BoolArray:
    """Decode N masks of one size to bool [N, H, W]."""
    if not rles:
        raise ValueError("decode_many requires at least one mask: without one the size is unknown")
    return np.moveaxis(coco_mask.decode([rle._coco() for rle in rles]), -1, 0).astype(bool)


def area(rle: RLE) -> int:
    """Number of foreground pixels; 0 means the object is absent."""
    return int(coco_mask.area(rle._coco()))


def bounding_box(rle: RLE) -> list[float]:
    """[x, y, width, height] in pixels, as in COCO; all 0 for an empty mask."""
    return [float(side) for side in coco_mask.toBbox(rle._coco())]


def empty(height: int, width: int) -> RLE:
    """The empty mask, for an object that is absent from a frame."""
    return encode(np.zeros((height, width), bool))


def union(rles: Iterable[RLE]) -> RLE:
    """The union of one or more masks of one size."""
    merged = coco_mask.merge([rle._coco() for rle in rles])
    return RLE((int(merged["size"][0]), int(merged["size"][1])), merged["counts"].decode("ascii"))


def intersection_over_union(first: RLE, second: RLE) -> float:
    """IoU in [0, 1] without decoding; two empty masks score 1."""
    if not area(first) and not area(second):
        return 1.0
    return float(coco_mask.iou([first._coco()], [second._coco()], [0])[0, 0])


def covered(mask: RLE, by: RLE) -> float:
    """Share of a mask's pixels that another mask covers, in [0, 1]; raises ValueError for an empty mask."""
    if not area(mask):
        raise ValueError("an empty mask has no covered share")
    return float(coco_mask.iou([mask._coco()], [by._coco()], [1])[0, 0])


def from_json(value: Mapping[str, Any] | None) -> RLE | None:
    """Read a segmentation of an annotation file.

    Null gives None. `counts` may be a string (compressed) or a list (uncompressed RLE, as in older YouTube-VIS files).
    Raises ValueError for anything else, and for counts that do not fill `size`.
    """
    if value is None:
        return None
    try:
        height, width = value["size"]
        counts = value["counts"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"a segmentation requires size [h, w] and counts, got {str(value)[:80]}") from error
    if not is_size((height, width)):
        reason = f"two whole numbers from 1, of at most {MOST_PIXELS} pixels together"
        raise ValueError(f"size must be {reason}, got {str([height, width])[:80]}")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and 0 <= run <= height * width for run in counts):
            raise ValueError(f"uncompressed counts must be whole numbers up to the pixels, got {str(counts)[:40]}")
        if sum(counts) != height * width:
            raise ValueError(f"uncompressed counts sum to {sum(counts)}, size {height}x{width} needs {height * width}")
        coco = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        counts = coco["counts"]
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    if not isinstance(counts, str):
        raise ValueError(f"counts must be a string or a list, got {type(counts).__name__}")
    filled = _compressed_length(counts, height * width)
    if filled != height * width:
        raise ValueError(f"counts fill {filled} pixels, size {height}x{width} has {height * width}")
    return RLE((height, width), counts)


def is_side(value: object) -> TypeGuard[int]:
    """Whether a value from a file is a possible height or width of a frame in pixels."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_PIXELS


def is_size(value: Sequence[object]) -> bool:
    """Whether a value from a file is a possible (height, width) of a mask."""
    if len(value) != 2:
        return False
    height, width = value
    return is_side(height) and is_side(width) and height * width <= MOST_PIXELS


def many_from_json(values: Sequence[Mapping[str, Any] | None]) -> list[RLE | None]:
    """As `from_json` for many segmentations, checked together where they are compressed and of one size.

    Raises ValueError as `from_json` does, with the position of the first bad one before the reason ("[7]: ...").
    """
    if (quick := _checked_together(values)) is not None:
        return quick
    masks = []
    for index, value in enumerate(values):
        try:
            masks.append(from_json(value))
        except ValueError as error:
            raise ValueError(f"[{index}]: {error}") from error
    return masks


def many_from_counts(texts: Sequence[str | None], size: tuple[int, int]) -> list[RLE | None]:
    """Masks of one size from their compressed counts, checked together; None stays None.

    Raises ValueError as `many_from_json` does.
    """
    annotated = [text for text in texts if text is not None]
    if all(isinstance(text, str) and text for text in annotated) and (not annotated or _fill_size(annotated, size)):
        return [None if text is None else RLE(size, text) for text in texts]
    values = [None if text is None else {"size": list(size), "counts": text} for text in texts]
    return many_from_json(values)  # says which one is wrong


def _checked_together(values: Sequence[Any]) -> list[RLE | None] | None:
    """The masks, if all that are annotated are right compressed RLEs of one size; else None."""
    try:
        texts = [value["counts"] for value in values if value is not None]
        sizes = {tuple(value["size"]) for value in values if value is not None}
    except (TypeError, KeyError, ValueError):
        return None
    if len(sizes) != 1 or not all(isinstance(text, str) and text for text in texts):
        return None
    (size,) = sizes
    if not is_size(size) or not _fill_size(texts, size):
        return None
    return [None if value is None else RLE(size, value["counts"]) for value in values]


def _fill_size(texts: Sequence[str], size: tuple[int, int]) -> bool:
    """Whether compressed counts, none of them empty, are right and fill masks of this size."""
    pixels = size[0] * size[1]
    try:
        runs = _runs(texts)
    except ValueError:
        return False
    if runs.lengths.min() < 0 or runs.lengths.max() > pixels:
        return False
    return bool((np.add.reduceat(runs.lengths, runs.first) == pixels).all())


def _compressed_length(counts: str, pixels: int) -> int:
    """Number of pixels that a compressed count string covers, of a mask of `pixels`; raises ValueError.

    pycocotools writes past its buffer if counts are too long, so they are checked before it reads them. Each run is
    bounded before runs are added: a sum of numbers from outside could wrap around in 64 bits, and look right.
    """
    if not counts:
        return 0
    runs = _runs([counts]).lengths
    if runs.min() < 0:
        raise ValueError(BROKEN)
    if runs.max() > pixels:
        raise ValueError(f"counts hold a run of {runs.max()} pixels, the mask has {pixels}")
    return int(runs.sum())


def _digits(counts: str) -> np.ndarray:
    """Digits of five bits with a continuation bit, uint8 [N], each below 64; raises ValueError."""
    if not counts.isascii():
        wrong = next(character for character in counts if not character.isascii())
        raise ValueError(f"counts hold {wrong!r}, which compressed RLE does not allow")
    digits = np.frombuffer(counts.encode("ascii"), np.uint8) - np.uint8(48)
    if (invalid := np.flatnonzero(digits >= 64)).size:
        raise ValueError(f"counts hold {counts[invalid[0]]!r}, which compressed RLE does not allow")
    return digits


def _numbers(digits: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers that end at `ends`, int64; 32 in a digit means that more follow, 16 in the last is the sign."""
    lengths = np.diff(ends, prepend=-1)
    begins = ends - lengths + 1
    values = (digits[begins] & 31).astype(np.int64)
    for place in range(1, int(lengths.max(initial=0))):  # most numbers have one or two digits
        longer = np.flatnonzero(lengths > place)
        values[longer] |= (digits[begins[longer] + place] & 31).astype(np.int64) << 5 * place
    negative = np.flatnonzero(digits[ends] & 16)
    values[negative] -= 1 << 5 * lengths[negative]
    return values


@dataclass(frozen=True)
class _Runs:
    """The runs of masks, those of all masks one after the other."""

    lengths: np.ndarray  # int64 [N], pixels; negative where a count string is wrong
    owner: np.ndarray  # int64 [N], mask of each run
    first: np.ndarray  # int64 [M], first run of each mask
    counts: np.ndarray  # int64 [M], runs of each mask


def _runs(texts: Sequence[str]) -> _Runs:
    """The runs of compressed count strings, none of them empty; raises ValueError."""
    digits = _digits("".join(texts))
    ends = np.flatnonzero(digits & 32 == 0)
    borders = np.cumsum([len(text) for text in texts])
    last = np.searchsorted(ends, borders)  # number of runs that end in this mask or before it
    if not len(ends) or (ends[last - 1] != borders - 1).any() or np.diff(ends, prepend=-1).max() > MOST_DIGITS:
        raise ValueError(BROKEN)
    values = _numbers(digits, ends)
    counts = np.diff(last, prepend=0)
    owner = np.repeat(np.arange(len(texts)), counts)
    first = np.cumsum(counts) - counts
    index = np.arange(len(values)) - first[owner]
    # From the fourth on, a run is stored as the difference from the last but one: two chains of sums, odd and even.
    zeroth = values[first].copy()
    values[first] = 0
    is_odd = (index & 1).astype(bool)
    odd = _summed(np.where(is_odd, values, 0), first, owner)
    even = _summed(np.where(is_odd, 0, values), first, owner)
    lengths = np.where(is_odd, odd, even)
    lengths[first] = zeroth
    return _Runs(lengths, owner, first, counts)


def changes(rles: Sequence[RLE]) -> tuple[np.ndarray, np.ndarray]:
    """Positions where masks change along their columns, without decoding them to pixels.

    Returns:
        mask index and position in the mask (x * height + y), int64 [N] each, ascending. Foreground lies between an even
        change of a mask and the next, background after an odd one. Each mask has an even number of changes; runs may be
        empty.
    """
    if not rles:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    runs = _runs([rle.counts for rle in rles])
    place = _summed(runs.lengths, runs.first, runs.owner)
    index = np.arange(len(place)) - runs.first[runs.owner]
    closed = index < runs.counts[runs.owner] - runs.counts[runs.owner] % 2  # a final run of background has no end
    return runs.owner[closed], place[closed]


def _summed(values: np.ndarray, first: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Cumulative sums within each mask."""
    sums = np.cumsum(values)
    return sums - (sums - values)[first][owner]


def resize(mask: BoolArray, height: int, width: int) -> BoolArray:
    """Nearest-neighbour resize of a bool mask [H, W]."""
    import cv2

    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def depth(mask: BoolArray) -> np.ndarray:
    """Distance of each pixel from the nearest one outside the mask [H, W], in pixels; beyond the frame is outside.

    Returns float32 [H, W], 0 outside the mask.
    """
    import cv2

    padded = np.pad(np.asarray(mask, bool), 1).view(np.uint8)
    return cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def areas(rles: Sequence[RLE]) -> np.ndarray:
    """Number of foreground pixels of N masks, int64 [N]."""
    return np.asarray(coco_mask.area([rle._coco() for rle in rles]), np.int64) if rles else np.zeros(0, np.int64)


def intersections(first: Sequence[RLE], second: Sequence[RLE]) -> np.ndarray:
    """Number of pixels that masks of one size have in common, exact and without decoding: int64 [N, M].

    Raises:
        ValueError: the masks have several sizes.
    """
    shared = np.zeros((len(first), len(second)), np.int64)
    if len({rle.size for rle in (*first, *second)}) > 1:
        raise ValueError(f"masks of several sizes: {sorted({rle.size for rle in (*first, *second)})}")
    if not shared.size:
        return shared
    ious = coco_mask.iou([a._coco() for a in first], [b._coco() for b in second], [0] * len(second))
    # iou = i / (a + b - i), solved for i; the error is far below half a pixel.
    shared[:] = np.rint(ious * (areas(first)[:, None] + areas(second)) / (1 + ious))
    return shared
