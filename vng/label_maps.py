"""Reading and writing label maps: images whose pixel values are object numbers.

8 bits, palette or grey: 0 is background, 1 to 254 are objects, 255 is void (unannotated). Object ids are the numbers
themselves if all are in that range; otherwise `objects.json` beside the images maps ids to numbers.
Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

import colorsys
import io
import re
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vng.dataset import Video
from vng.errors import DataError
from vng.manifest import to_json, write_atomic

VOID = 255
MOST_USUAL = 32  # object numbers of usual label maps
RIM = 3  # pixels, half the width of a smoothed edge
MAX_NUMBER = 254
NUMBERS_FILE = "objects.json"  # {object id: number}
_SUB, _UP, _PAETH = 1, 2, 4  # filters of a PNG's rows
MODES = ("P", "L", "1")  # of Pillow: palette, 8-bit grey, 1-bit
THRESHOLD = 0.5  # probability above which a pixel is foreground


def read_label_map(
    path: Path,
    size: tuple[int, int] | None = None,
    modes: Collection[str] = MODES,
    noun: str = "label map",
    cure: str = "write it again",
) -> np.ndarray:
    """The pixels of a label map, [H, W]; of a palette image the indices, not the colours.

    Args:
        path: the image.
        size: required height and width; None: any.
        modes: accepted image modes of Pillow. `MODES` give uint8 (or bool for 1-bit images).
        noun: name of the file in messages.
        cure: how to fix a missing or broken file, for messages.

    Raises:
        DataError: the file cannot be read, or has another size or mode.
    """
    try:
        unfiltered = None if size is None else _plain_pixels(path.read_bytes(), size)
        if unfiltered is not None:
            return unfiltered
        with Image.open(path) as image:
            mode, bands, shape = image.mode, len(image.getbands()), (image.height, image.width)
            fits = mode in modes and size in (None, shape)
            pixels = np.asarray(image) if fits else None
    except FileNotFoundError as error:
        raise DataError(path, reason=f"this {noun} is missing", cure=cure) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(path, reason=f"this {noun} cannot be read", cure=cure) from error
    if size not in (None, shape):
        reason = f"{noun} of {shape[0]}x{shape[1]}, the frame has {size[0]}x{size[1]}"
        raise DataError(path, reason=reason, cure=f"give each {noun} the size of its frame")
    if pixels is None:
        reason = (
            f"expected an 8-bit palette or grey PNG, got {'colours' if bands > 1 else 'another kind'} (mode {mode})"
        )
        raise DataError(
            path, reason=reason, cure="pixel values must be object numbers, which a copy in colours has lost"
        )
    return pixels


def check_smoothed(path: Path, labels: np.ndarray) -> None:
    """Raise DataError where values are not object numbers but a ramp of grey: the smoothed edges of a mask.

    A label map has areas of one value. A ramp is a rim, a few pixels wide, around an area of the largest value; where
    it is wide, neighbours differ. Numbers up to `MOST_USUAL` are taken as objects without a look at their shapes.

    Args:
        path: the image, for the message.
        labels: its values, uint8 [H, W].
    """
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:]) + 1
    between = values[:-1]
    if not len(between) or values[-1] < 128 or between[-1] <= MOST_USUAL:
        return
    ramp, largest = (labels > 0) & (labels < values[-1]), labels == values[-1]
    width = cv2.distanceTransform(np.pad(ramp, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    away = cv2.distanceTransform((~largest).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    is_rim = width <= RIM and (away[ramp] <= 2 * RIM).mean() > 0.95
    across, down = ramp[:, 1:] & ramp[:, :-1], ramp[1:] & ramp[:-1]
    alike = (labels[:, 1:] == labels[:, :-1])[across].sum() + (labels[1:] == labels[:-1])[down].sum()
    is_slope = len(between) >= 16 and alike < (across.sum() + down.sum()) / 2
    # Of a lossy copy: values near 0 and near the largest.
    is_noise = len(between) >= 8 and (np.minimum(labels[ramp], values[-1] - labels[ramp]) < 24).mean() > 0.8
    if is_rim or is_slope or is_noise:
        shown = ", ".join(map(str, between[:3])) + ", ..." * (len(between) > 3)
        reason = (
            f"{len(between)} values ({shown}) look like the smoothed edges of a mask of {values[-1]}, not like objects"
        )
        raise DataError(path, reason=reason, cure="threshold it at 128, and save it without smoothing")


def has_palette(path: Path) -> bool:
    """Whether a readable image has a palette, as some evaluation servers require."""
    with Image.open(path) as image:
        return image.mode == "P"


def write_label_map(path: Path, masks: np.ndarray, numbers: Sequence[int]) -> None:
    """Write disjoint masks [K, H, W] as a palette PNG of object numbers, in the colours of overlays."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for mask, number in zip(masks, numbers, strict=True):
        labels[mask] = number
    path.write_bytes(label_map_png(labels))


def label_map_png(labels: np.ndarray) -> bytes:
    """A label map uint8 [H, W] as a palette PNG, in the colours of overlays."""
    image, file = Image.fromarray(labels), io.BytesIO()
    colours = [(0, 0, 0), *(colour(number - 1) for number in range(1, VOID)), (255, 255, 255)]
    image.putpalette([channel for rgb in colours for channel in rgb])
    image.save(file, "PNG")
    return file.getvalue()


def colour(index: int) -> tuple[int, int, int]:
    """The colour of the index-th object or noun, RGB; consecutive indices are far apart in hue."""
    hue = (0.0 + index * 0.61803398875) % 1.0
    lightness = (0.55, 0.66, 0.48)[index % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def exclusive(probabilities: np.ndarray) -> np.ndarray:
    """Masks bool [K, H, W] of probabilities [K, H, W]: each pixel's most probable object, if above 0.5.

    Ties go to the first object.
    """
    best = probabilities.argmax(0)
    return (probabilities > THRESHOLD) & (best == np.arange(len(probabilities))[:, None, None])


def object_numbers(video: Video) -> dict[str, int]:
    """Object id -> its pixel value, in the dataset's order.

    The ids themselves if all are plain integers in 1..254 ("7", not "07": no two ids share a number); otherwise 1, 2,
    ... in the dataset's order, and writers of label maps must save the mapping in `objects.json` beside them.

    Raises:
        DataError: more objects than a label map can hold.
    """
    ids = [item.object_id for item in video.objects]
    if len(ids) > MAX_NUMBER:
        reason = f"{len(ids)} objects, a label map holds {MAX_NUMBER}"
        raise DataError(
            video.dataset,
            record=video.video_id,
            field="objects",
            reason=reason,
            cure="split the video's objects over two rows",
        )
    return numbers_of(ids)


def numbers_of(ids: Sequence[str]) -> dict[str, int]:
    """As `object_numbers`, for at most `MAX_NUMBER` distinct ids."""
    if all(re.fullmatch(r"[1-9][0-9]{0,2}", i) and int(i) <= MAX_NUMBER for i in ids):
        return {i: int(i) for i in ids}
    return {i: number for number, i in enumerate(ids, start=1)}


def write_numbers(folder: Path, numbers: Mapping[str, int]) -> None:
    """Write `objects.json` beside label maps, where ids are not the numbers themselves."""
    if any(str(number) != name for name, number in numbers.items()):
        write_atomic(folder / NUMBERS_FILE, to_json(dict(numbers)))


def _plain_pixels(content: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Pixels of an 8-bit PNG with simple rows, as label maps and masks usually have; None for any other file.

    Takes half the time of Pillow, which reads all other files and reports errors.
    """
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    width, height, depth, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if (height, width) != size or depth != 8 or colours not in (0, 3) or interlaced:
        return None
    place, streams = 33, []
    while content[place + 4 : place + 8] != b"IEND":
        if place + 12 > len(content):
            return None
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] == b"IDAT":
            streams.append(content[place + 8 : end])
        place = end + 4
    expected, packed = height * (width + 1), b"".join(streams)
    if len(packed) > expected:
        return None
    try:
        # Full size at once: a growing buffer takes half as long again.
        rows = _inflate().decompress(packed, bufsize=expected)
    except (zlib.error, _inflate().error):
        return None
    if len(rows) != expected:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return table[:, 1:] if not table[:, 0].any() else _unfiltered(table)


@cache
def _inflate() -> Any:
    """The module that decompresses PNGs: zlib-ng, three times as fast, where it is installed (extra `fast`)."""
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib
    return zlib_ng


def _unfiltered(table: np.ndarray) -> np.ndarray | None:
    """Pixels of rows [H, 1 + W] of a PNG, each after the number of its filter; None for filters that are slow here.

    Sub (1) and Up (2) are sums along a row and a column. A Paeth row (4) without a difference repeats the row above.
    """
    filters, pixels = table[:, 0].copy(), table[:, 1:].copy()
    differs = pixels.any(1)
    filters[(filters == _PAETH) & ~differs] = _UP
    if (filters > _UP).any():
        return None
    summed = np.flatnonzero((filters == _SUB) & differs)
    pixels[summed] = np.cumsum(pixels[summed], axis=1, dtype=np.uint8)
    borders = np.flatnonzero(np.diff(filters == _UP, prepend=False, append=False))
    for begin, end in zip(borders[::2], borders[1::2], strict=True):
        above = max(begin - 1, 0)  # above the first row lie zeros
        pixels[above:end] = np.cumsum(pixels[above:end], axis=0, dtype=np.uint8)
    return pixels
