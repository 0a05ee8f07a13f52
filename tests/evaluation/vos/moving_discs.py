"""Videos of two moving discs, with predictions in folders of label images, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vng.dataset import Video, VideoObject
from vng.evaluation.vos.scores import Protocol, VosScores, evaluate_vos, object_numbers, plain_run
from vng.masks import decode, encode
from vng.points import Points

H, W, T = 18, 25, 6
Layers = Mapping[str, Sequence[np.ndarray | None]]  # object id -> mask [H, W] or None for each frame


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


NOTHING = np.zeros((H, W), bool)
TWO: Layers = {  # "1" walks right, "2" walks down and is hidden once
    "1": [disc(6 + t, 7, 4) for t in range(T)],
    "2": [disc(19, 6 + t, 3) if t != 3 else NOTHING for t in range(T)],
}


def make(
    name: str, layers: Layers, names: Mapping[str, str] | None = None, points: Mapping[str, Points] | None = None
) -> Video:
    """A video without pixels of these masks."""
    objects = tuple(
        VideoObject(
            i,
            (names or {}).get(i, ""),
            "orig_masks",
            tuple(None if mask is None else encode(mask) for mask in masks),
            (points or {}).get(i, Points.none()),
        )
        for i, masks in layers.items()
    )
    frames = tuple(f"{5 * t:05d}" for t in range(len(next(iter(layers.values())))))
    return Video(
        video_id=name,
        dataset="hand-made",
        split="val",
        height=H,
        width=W,
        fps=0.0,
        frame_names=frames,
        narratives=(),
        expressions=(),
        objects=objects,
    )


def save(labels: np.ndarray, path: Path, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(path)


def predict(video: Video, folder: Path, shift: int = 0, numbers: Mapping[str, int] | None = None) -> None:
    """Write a video's true masks, moved right by `shift` pixels, as predictions."""
    for t, name in enumerate(video.frame_names):
        labels = np.zeros((H, W), np.uint8)
        for i, number in (numbers or object_numbers(video)).items():
            rle = video.object_by_id[i].segmentations[t]
            if rle is not None:
                labels[np.roll(decode(rle), shift, 1)] = number
        save(labels, folder / video.video_id / f"{name}.png")


def score(video: Video | Sequence[Video], folder: Path, name: str = "davis", **how: object) -> VosScores:
    missing = how.pop("missing", "error")
    videos = [video] if isinstance(video, Video) else video
    return evaluate_vos(videos, [plain_run(folder, [])], Protocol(name, **how), missing)[0]  # type: ignore[arg-type]
