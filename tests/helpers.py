"""Makers of tiny data whose sizes all differ (T=3, N=2, H=20, W=30), so that a swapped axis fails."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vng.dataset import Quality, Video, VideoObject
from vng.frames import ArrayFrames
from vng.masks import empty, encode
from vng.narratives import Expression, Narrative
from vng.points import NEGATIVE, POSITIVE, Points

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
T, H, W = 3, 20, 30
TINY_MODEL = {
    "data.frames": 2,
    "data.short_side": 0,
    "model.vocab_size": 300,
    "optimizer.batch_size": 2,
    "log_every": 1,
}


@dataclass(frozen=True)
class Cli:
    """What a command ended with."""

    status: int
    out: str
    err: str


def box(top: int, left: int, bottom: int, right: int, height: int = H, width: int = W) -> np.ndarray:
    """A bool mask [H, W] with one rectangle."""
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def make_video(name: str, seed: int = 0) -> Video:
    """Two objects of one noun; the second is absent in the last frame and not annotated in the middle one."""
    t, y, x, c = np.meshgrid(*(np.arange(n) for n in (T, H, W, 3)), indexing="ij")
    frames = ArrayFrames((40 * t + 3 * y + 2 * x + 20 * c + 10 * seed).astype(np.uint8) // 2)  # smooth: JPEG keeps it
    first = tuple(encode(box(2, 3 + t, 9, 12 + t)) for t in range(T))
    second = (encode(box(11, 18, 17, 27)), None, empty(H, W))
    points = Points([0, 0, 2], [(5, 4), (20, 14.5), (6, 5)], [POSITIVE, NEGATIVE, POSITIVE])
    big = str(4_850_600_790_259_722_026 + seed)
    return Video(
        video_id=name,
        dataset="hand-made",
        split="train",
        height=H,
        width=W,
        fps=0.0,
        frame_names=tuple(frames.names),
        narratives=(Narrative("Ball one", "A red ball meets the other ball."),),
        expressions=(Expression(0, 6, 10, str(seed + 1)), Expression(0, 27, 31, big)),
        objects=(
            VideoObject(
                str(seed + 1),
                "ball",
                "orig_masks",
                first,
                points,
                Quality(point_agreement=0.75, n_points=3, n_held_out=1, link="name"),
            ),
            VideoObject(big, "ball", "extra_masks", second),
        ),
        frames=frames,
    )


def write_frames(folder: Path, frames: np.ndarray, pattern: str = "{:06d}.png") -> None:
    """Write uint8 [T, H, W, 3] as image files."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / pattern.format(index)), frame[:, :, ::-1])


def tables(page: str) -> dict[str, Any]:
    """The data of the page's tables by their ids."""
    found = re.findall(r'id="table-(\w+)"><script type="application/json">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in found}


def assert_stands_alone(page: str) -> None:
    """A page that asks nothing of a network or of files beside it."""
    assert not re.search(r"https?:|src=\"(?!data:)|<link|@import|url\(", page)
