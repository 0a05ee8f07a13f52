"""Visualisation: overlays with a colour per noun, captions, contact sheets, and MP4 that browsers play.

Shapes: N nouns or objects, T frames, H x W pixels.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vng.dataset import Video
from vng.frames import Frames, evenly_spaced
from vng.label_maps import colour
from vng.masks import RLE, decode
from vng.points import NEGATIVE, POSITIVE, Points

OUTLINE_COLUMNS, MOST_THICKNESS = 240, 5  # an outline is a pixel thicker for each so many columns of the picture
DARK = (24, 24, 28)
MOST_LINES = 40  # of a caption below a picture
SHEET_TILE, OBJECT_TILE = 360, 380  # widths of the pictures of a sheet
OPACITY = 0.2  # of the fill: light, so that a blue thing with a red mask stays blue
_POINT_COLOURS = {POSITIVE: (60, 255, 90), NEGATIVE: (255, 60, 60)}  # ambiguous points are white


def overlay(
    image: np.ndarray,
    masks: Sequence[np.ndarray | None],
    colours: Sequence[tuple[int, int, int]] | None = None,
    width: int | None = None,
) -> np.ndarray:
    """Paint masks over an image: a solid outline and a light fill; None is skipped.

    Args:
        image: uint8 [H, W, 3]. masks: N of bool [H, W] or None.
        colours: RGB per mask; None: `colour(i)`.
        width: width of the result in pixels; None: W. Masks are scaled with smooth edges, and painted then.

    Returns:
        uint8 [h, width, 3].
    """
    result = scaled(image, width) if width else image.copy()
    height, columns = result.shape[:2]
    for index, mask in enumerate(masks):
        if mask is None or not mask.any():
            continue
        tint = np.array(colours[index] if colours else colour(index), np.float32)
        if mask.shape != (height, columns):
            mask = cv2.resize(mask.astype(np.float32), (columns, height), interpolation=cv2.INTER_LINEAR) >= 0.5
        result[mask] = ((1 - OPACITY) * result[mask] + OPACITY * tint).astype(np.uint8)
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        thickness = 1 + min(columns // OUTLINE_COLUMNS, MOST_THICKNESS - 1)
        line = cv2.LINE_AA if thickness > 1 else cv2.LINE_8  # a small picture has no pixels to smooth with
        if thickness > 1:  # a dark edge, so that a red outline shows on a red thing
            cv2.drawContours(result, outline, -1, DARK, thickness + 2, line)
        cv2.drawContours(result, outline, -1, tint.tolist(), thickness, line)
    return result


def scaled(image: np.ndarray, width: int) -> np.ndarray:
    """An image scaled to a width, with its aspect ratio; uint8 [h, width, 3]."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


def draw_points(image: np.ndarray, points: Points, positive: tuple[int, int, int] | None = None) -> np.ndarray:
    """Draw points as discs: positives green (or `positive`), negatives red, ambiguous white."""
    radius = max(1, round(min(image.shape[:2]) / 110))
    for (x, y), label in zip(points.xy, points.label, strict=True):
        inner = positive if positive and label == POSITIVE else _POINT_COLOURS.get(int(label), (255, 255, 255))
        centre = (round(float(x)), round(float(y)))
        cv2.circle(image, centre, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(image, centre, radius, inner, -1, cv2.LINE_AA)
    return image


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def caption_strip(
    description: str,
    spans: Sequence[tuple[int, int]],
    width: int,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """A caption with coloured nouns, as an image uint8 [h, width, 3]."""
    size = max(11, min(20, width // 34))
    font, line_height = _font(size), round(size * 1.5)
    colour_at: dict[int, tuple[int, int, int]] = {}
    for index, (start, end) in enumerate(spans):
        colour_at |= dict.fromkeys(range(start, end), colours[index] if colours else colour(index))
    average = font.getlength("abcdefghijklmnopqrstuvwxyz ") / 27
    lines = _wrap(description, max(8, int((width - 12) / average)))
    if len(lines) > MOST_LINES:  # a very long caption would be higher than any film
        lines = [*lines[: MOST_LINES - 1], (lines[MOST_LINES - 1][0], "...")]
    strip = Image.new("RGB", (width, line_height * len(lines) + 8), DARK)
    draw = ImageDraw.Draw(strip)
    for row, (start, text) in enumerate(lines):
        x = 6.0
        for offset, character in enumerate(text):
            draw.text(
                (x, row * line_height + 4), character, font=font, fill=colour_at.get(start + offset, (235, 235, 235))
            )
            x += font.getlength(character)
    return np.asarray(strip)


def _wrap(text: str, width: int) -> list[tuple[int, str]]:
    """Wrapped lines, each with the position of its first character in the text."""
    lines, position = [], 0
    for line in textwrap.wrap(text, width, break_on_hyphens=False, expand_tabs=False, replace_whitespace=False) or [""]:
        position = max(0, text.find(line, position))
        lines.append((position, line))
        position += len(line)
    return lines


def overlay_frames(
    frames: Frames,
    rles: Sequence[Sequence[RLE | None]],
    description: str,
    spans: Sequence[tuple[int, int]],
    least_width: int = 480,
) -> Iterator[np.ndarray]:
    """Frames with overlays and the caption below; small videos are enlarged so that the caption is readable."""
    width = frames.size[1] * max(1, -(-least_width // frames.size[1]))
    strip = caption_strip(description, spans, width)
    for t, image in enumerate(frames):
        masks = [None if (rle := row[t]) is None else decode(rle) for row in rles]
        yield np.concatenate([overlay(image, masks, width=width), strip])


def write_video(frames: Iterator[np.ndarray], path: Path, fps: float = 10.0) -> None:
    """Write RGB frames as H.264 in MP4 that browsers play (yuv420p, index in front); atomic."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
        # Without mbtree: with it, output of the same frames varied.
        options = {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        opened = False
        for image in frames:
            image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
            if not opened:
                stream.height, stream.width = image.shape[:2]
                opened = True
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    temporary.replace(path)


def write_overlay_video(
    frames: Frames, rles: Sequence[Sequence[RLE | None]], description: str, spans: Sequence[tuple[int, int]], path: Path
) -> None:
    """Write an MP4 of the video with coloured nouns and the caption below."""
    write_video(overlay_frames(frames, rles, description, spans), path, frames.fps or 8.0)


def contact_sheet(
    frames: Frames,
    rles: Sequence[Sequence[RLE | None]],
    description: str,
    spans: Sequence[tuple[int, int]],
    path: Path,
    columns: int = 4,
    count: int = 8,
) -> None:
    """Write a PNG of `count` frames spread over the video, with overlays and the caption."""
    tiles = []
    for t in evenly_spaced(range(len(frames)), count):
        masks = [None if (rle := row[t]) is None else decode(rle) for row in rles]
        tiles.append(labelled(overlay(frames[t], masks, width=SHEET_TILE), frames.names[t]))
    sheet = grid(tiles, columns)
    strip = caption_strip(description, spans, sheet.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([strip, sheet])).save(path)


def labelled(image: np.ndarray, label: str) -> np.ndarray:
    """An image with a label in its corner; uint8 [H, W, 3]."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    draw.text((5, 3), label, font=_font(13), fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def grid(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles of one size arranged in rows; missing tiles are dark."""
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 24)
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    return np.concatenate([np.concatenate(padded[i : i + columns], 1) for i in range(0, len(padded), columns)])


def object_sheet(
    video: Video, count: int = 6, columns: int = 3, points: bool = True, objects: Sequence[int] | None = None
) -> np.ndarray:
    """A sheet, uint8 [h, w, 3], of frames of a dataset's video with the masks and points of its objects.

    Shows frames in which most objects are annotated, in time order. `objects` are indices; None: all. The frames are
    the same for any of them.
    """
    frames = video.opened_frames()
    annotated = np.array([item.annotated for item in video.objects])
    weight = annotated.sum(0) if len(annotated) else np.zeros(len(frames))
    spread = np.array_split(np.arange(len(frames)), min(count, len(frames)))
    chosen = [int(part[weight[part].argmax()]) for part in spread]
    shown = range(len(video.objects)) if objects is None else objects
    return grid([object_tile(video, t, shown, points) for t in chosen], columns)


def object_tile(video: Video, t: int, objects: Sequence[int], points: bool = True, label: str = "") -> np.ndarray:
    """One frame of a dataset's video with the masks and points of some of its objects, by index; uint8 [h, OBJECT_TILE, 3].

    `label` is drawn in the corner; "": the frame's name.
    """
    frames = video.opened_frames()
    colours = [colour(index) for index in objects]
    chosen = [video.objects[index] for index in objects]
    masks = [None if (rle := item.segmentations[t]) is None else decode(rle) for item in chosen]
    image = overlay(frames[t], masks, colours, OBJECT_TILE)
    factor = OBJECT_TILE / frames.size[1]
    if points:
        for rgb, item in zip(colours, chosen, strict=True):
            here = item.points.in_frame(t)
            image = draw_points(image, Points(here.frame, (here.xy + 0.5) * factor - 0.5, here.label), positive=rgb)
    return labelled(image, label or frames.names[t])
