"""Videos of two walking rectangles, with predictions in folders of label images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import box
from vng.dataset import Video, VideoObject
from vng.evaluation.vos.scores import Run
from vng.masks import encode
from vng.points import Points

H, W, T = 22, 31, 4
Frames = list[np.ndarray | None]
NOTHING = np.zeros((H, W), bool)


def walk(top: int, left: int, hidden: tuple[int, ...] = ()) -> Frames:
    """A box that walks right, and is hidden in some frames."""
    return [NOTHING if t in hidden else box(top, left + t, top + 7, left + t + 8, H, W) for t in range(T)]


TWO: dict[str, Frames] = {"1": walk(1, 2), "2": walk(12, 15, hidden=(2,))}


def make(layers: dict[str, Frames], name: str = "v", points: dict[str, Points] | None = None, **rest: Any) -> Video:
    objects = tuple(
        VideoObject(
            i,
            f"kind {i}",
            "points/x",
            tuple(None if m is None else encode(m) for m in masks),
            (points or {}).get(i, Points.none()),
        )
        for i, masks in layers.items()
    )
    names = tuple(f"{3 * t:05d}" for t in range(T))
    return replace(
        Video(
            video_id=name,
            dataset="hand-made",
            split="val",
            height=H,
            width=W,
            fps=0.0,
            frame_names=names,
            narratives=(),
            expressions=(),
            objects=objects,
        ),
        **rest,
    )


def write_png(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def predict(folder: Path, layers: dict[int, Frames], name: str = "v") -> Run:
    """Write label maps: number -> masks."""
    for t in range(T):
        labels = np.zeros((H, W), np.uint8)
        for number, masks in layers.items():
            mask = masks[t]
            labels[NOTHING if mask is None else mask] = number
        write_png(folder / name / f"{3 * t:05d}.png", labels)
    return Run(folder)
