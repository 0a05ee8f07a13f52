"""A small clip with prompts of points and of masks, and a propagator that repeats its prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.helpers import H, T, W
from vng.frames import ArrayFrames, Frames
from vng.propagators import FramePrompts, check_prompts

FRAMES = ArrayFrames(np.zeros((T, H, W, 3), np.uint8))


class Echo:
    """An engine that says what it was told last, in every frame; discs of 3 pixels where it was told points."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        count = check_prompts(frames, prompts)
        self.calls.append(count)
        state = np.zeros((count, *frames.size), np.float32)
        for t in range(len(frames)):
            frames[t]
            prompt = prompts.get(t, FramePrompts())
            for k, mask in enumerate(prompt.masks):
                state[k] = state[k] if mask is None else mask * 0.9
            for k, points in enumerate(prompt.points):
                for x, y in points.positive if points is not None else ():
                    cv2.circle(state[k], (round(float(x)), round(float(y))), 3, 0.8, -1)
            yield t, state.copy()


def write_points(path: Path, objects: Any) -> Path:
    path.write_text(json.dumps({"objects": objects}))
    return path


def write_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


YELLOW = [{"frame": 0, "x": 8, "y": 8}, {"frame": "00010", "x": 25, "y": 2, "label": "negative"}]
BLUE = [{"frame": 0, "x": 22, "y": 15, "label": 1}]
