"""A propagator without learned weights: dense inverse search optical flow carries probabilities from frame to frame.

Between two prompted frames the masks of the earlier one are carried forwards and those of the later one backwards, and
blended by nearness. Pixels whose forward and backward flow disagree (occluded, uncovered) lose their certainty.
Flow: Kroeger et al., ECCV 2016 (OpenCV's DIS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from vng.errors import UsageError
from vng.frames import Frames
from vng.propagators import FramePrompts, Propagator, check_prompts
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter


@dataclass(frozen=True)
class FlowSettings:
    """How flow carries masks; raises UsageError for values out of range."""

    reach: int = 64  # frames a later prompt is carried backwards; it bounds memory
    segmenter: str = DEFAULT_SEGMENTER  # turns prompts that are points into masks
    tolerance: float = 1.5  # pixels by which forward and backward flow may disagree
    fade: float = 0.6  # certainty kept where they disagree more

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise UsageError(f"reach={self.reach}: a number of frames, 0 or more")
        if not 0 <= self.fade <= 1:
            raise UsageError(f"fade={self.fade}: a share, 0 to 1")


class FlowPropagator(Propagator):
    """Optical flow with a consistency check; see `vng.propagators.Propagator` for the call."""

    def __init__(self, settings: FlowSettings | None = None) -> None:
        self.settings = settings or FlowSettings()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for prompts that `check_prompts` refuses."""
        check_prompts(frames, prompts)
        anchors = sorted(prompts)
        given = self._given(frames[anchors[0]], prompts[anchors[0]])
        yield from self._before(frames, given, anchors[0])
        state: np.ndarray | None = None
        known: set[int] = set()  # objects that a prompt has told of up to here
        for position, anchor in enumerate(anchors):
            state = _merged(given, state, frames.size)
            known |= {k for k, hint in enumerate(given) if hint is not None}
            yield anchor, state
            stop = anchors[position + 1] if position + 1 < len(anchors) else len(frames)
            if stop < len(frames):
                given = self._given(frames[stop], prompts[stop])
            later = self._carried_back(frames, given, anchor, stop) if stop < len(frames) else {}
            told = [k for k, hint in enumerate(given) if hint is not None]
            image = frames[anchor]
            for t in range(anchor + 1, stop):
                following = frames[t]
                state = self._carry(state, image, following)
                image = following
                blended = state
                if t in later:
                    nearness = np.array(
                        [(t - anchor) / (stop - anchor) if k in known else 1.0 for k in told], np.float32
                    )
                    nearness = nearness[:, None, None]
                    blended = state.copy()  # only objects that the later anchor tells of
                    blended[told] = (1 - nearness) * state[told] + nearness * later[t].astype(np.float32) / 255
                yield t, blended
            if stop < len(frames):
                state = self._carry(state, image, frames[stop])

    def _before(self, frames: Frames, given: list[np.ndarray | None], anchor: int) -> Iterator[tuple[int, np.ndarray]]:
        """Frames before the first prompt, carried backwards from it."""
        image, state = frames[anchor], _merged(given, None, frames.size)
        for t in range(anchor - 1, -1, -1):
            earlier = frames[t]
            state = self._carry(state, image, earlier)
            image = earlier
            yield t, state

    def _carried_back(
        self, frames: Frames, given: list[np.ndarray | None], anchor: int, stop: int
    ) -> dict[int, np.ndarray]:
        """What the later anchor tells, carried to the `reach` frames before it; uint8, of the objects it tells of."""
        hints = [hint for hint in given if hint is not None]
        if not hints:
            return {}
        first = max(anchor + 1, stop - self.settings.reach)
        window = {t: frames[t] for t in range(first, stop + 1)}
        state = np.stack(hints)
        carried = {}
        for t in range(stop - 1, first - 1, -1):
            state = self._carry(state, window[t + 1], window[t])
            carried[t] = np.rint(state * 255).astype(np.uint8)
        return carried

    @cached_property
    def _segmenter(self) -> Segmenter:
        return load_segmenter(self.settings.segmenter)

    def _given(self, image: np.ndarray, prompt: FramePrompts) -> list[np.ndarray | None]:
        """What a prompt says of each object: probabilities [H, W], or None."""
        given: list[np.ndarray | None] = [None] * len(prompt)
        pointed = [(k, points) for k, points in enumerate(prompt.points) if points is not None]
        if pointed:
            masks = self._segmenter(image, [points for _, points in pointed])
            for (k, _), mask in zip(pointed, masks, strict=True):
                given[k] = mask
        for k, mask in enumerate(prompt.masks):
            if mask is not None:
                given[k] = mask.astype(np.float32)
        return given

    def _carry(self, state: np.ndarray, image: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Probabilities [K, H, W] of one frame, moved to the next in either direction of time."""
        before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (image, following))
        unset: Any = None  # OpenCV makes the output itself
        back = self._flow.calc(after, before, unset)  # where each pixel of the new frame was
        forth = self._flow.calc(before, after, unset)
        height, width = before.shape
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        source_x, source_y = x + back[..., 0], y + back[..., 1]
        there = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off = np.hypot(*np.moveaxis(back + there, -1, 0))
        reach = self.settings.tolerance + 0.05 * np.hypot(back[..., 0], back[..., 1])
        keep = np.where(off > reach, np.float32(self.settings.fade), np.float32(1.0))
        moved = [cv2.remap(p, source_x, source_y, cv2.INTER_LINEAR, borderValue=0.0) for p in state]
        # Bilinear steps blur; pulling values back towards 0 and 1 keeps outlines from dissolving.
        stacked = np.stack(moved) if moved else state
        sharpened = np.clip(0.5 + (stacked - 0.5) * 1.15, 0, 1)
        return sharpened * keep


def _merged(given: list[np.ndarray | None], state: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Probabilities [K, H, W]: what was given where something was, what was carried so far elsewhere."""
    result = np.zeros((len(given), *size), np.float32) if state is None else state.copy()
    for k, hint in enumerate(given):
        if hint is not None:
            result[k] = hint
    return result
