"""A film of painted balls on grey, and engines that see only paint: exact, so that what is decided can be checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from vng.detectors import Detections
from vng.frames import ArrayFrames, Frames
from vng.points import PointPrompts
from vng.propagators import FramePrompts, Propagator
from vng.segmenters import Segmenter

H, W, T = 40, 72, 9
RED, BLUE = (220, 30, 30), (30, 30, 220)
BALLS = {"left": (RED, 10, 0), "middle": (BLUE, 34, 0), "right": (RED, 58, 1)}  # colour, first x, speed down a frame


def masks(name: str) -> np.ndarray:
    """The ball of a name in each frame, bool [T, H, W]."""
    _, x, speed = BALLS[name]
    drawn = [cv2.circle(np.zeros((H, W), np.uint8), (x, 12 + speed * t), 7, 1, -1) for t in range(T)]
    return np.stack(drawn).astype(bool)


def film() -> Frames:
    """The balls, painted."""
    frames = np.full((T, H, W, 3), 128, np.uint8)
    for name, (colour, *_) in BALLS.items():
        frames[masks(name)] = colour
    return ArrayFrames(frames)


def _things(image: np.ndarray) -> list[np.ndarray]:
    painted = (np.abs(image.astype(int) - 128).max(-1) > 40).astype(np.uint8)
    count, labels = cv2.connectedComponents(painted)
    return [labels == i for i in range(1, count)]


class PaintDetector:
    """Finds balls; a colour in a phrase raises the score of balls of that colour. Counts its calls."""

    presence = 0.3
    fingerprint = "paint"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, image: np.ndarray, phrases: Sequence[str]) -> list[Detections]:
        self.calls.append(list(phrases))
        things = _things(image)
        return [self._of(phrase, image, things) for phrase in phrases]

    def _of(self, phrase: str, image: np.ndarray, things: Sequence[np.ndarray]) -> Detections:
        if "ball" not in phrase.split():
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        rows = []
        for mask in things:
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            reddish = image[mask][:, 0].mean() > 128
            score = 0.6
            for word, fits in (("red", reddish), ("blue", not reddish)):
                if word in phrase.split():
                    score = 0.8 if fits else 0.3
            rows.append(([x[0], y[0], x[-1], y[-1]], score))
        rows.sort(key=lambda row: -row[1])
        boxes, scores = [row[0] for row in rows], [row[1] for row in rows]
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))


class PaintSegmenter(Segmenter):
    """What is painted in a box."""

    takes_boxes = True

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        painted = np.abs(image.astype(int) - 128).max(-1) > 40
        result = np.zeros((len(prompts), *painted.shape), np.float32)
        for k, prompt in enumerate(prompts):
            assert prompt.box is not None
            x0, y0, x1, y1 = prompt.box.astype(int)
            result[k, y0 : y1 + 1, x0 : x1 + 1] = painted[y0 : y1 + 1, x0 : x1 + 1]
        return result


class PaintPropagator(Propagator):
    """Follows the paint that overlaps a mask from frame to frame. Counts the frames it carries."""

    def __init__(self) -> None:
        self.carried = 0

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        first = min(prompts)
        for order in (range(first, len(frames)), range(first - 1, -1, -1)):
            state: list[Any] = [np.asarray(mask) for mask in prompts[first].masks]
            for t in order:
                self.carried += 1
                things = _things(frames[t])
                state = [max(things, key=lambda thing, own=own: (thing & own).sum()) for own in state]
                yield t, np.stack(state).astype(np.float32)


def grounder(detector: PaintDetector | None = None, **options: Any) -> Any:
    """A zero-shot grounder of these engines."""
    from vng.grounding.zero_shot import ZeroShotGrounder

    engines: dict[str, Any] = {"segmenter": PaintSegmenter(), "propagator": PaintPropagator(), "image_text": False}
    return ZeroShotGrounder(detector or PaintDetector(), pipeline="rules", **(engines | options))  # type: ignore[arg-type]
