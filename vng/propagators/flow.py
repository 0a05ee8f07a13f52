"""A propagator without learned weights: optical flow (dense inverse search) warps probabilities from frame to frame.

Between two prompted frames, masks of the earlier one are warped forwards and those of the later one backwards, blended
by temporal distance. Pixels whose forward and backward flow disagree (occlusion, disocclusion) lose confidence.
Flow: Kroeger et al., ECCV 2016 (OpenCV's DIS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from vng.errors import UsageError
from vng.frames import Frames
from vng.frames.dense_flow import dense_flow, moved_places
from vng.propagators import FramePrompts, Propagator, check_prompts
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter


@dataclass(frozen=True)
class FlowSettings:
    """Settings of the flow propagator; raises UsageError for values out of range."""

    reach: int = 64  # frames by which a later prompt is warped backwards; bounds memory
    segmenter: str = DEFAULT_SEGMENTER  # turns point prompts into masks
    tolerance: float = 1.5  # pixels by which forward and backward flow may disagree
    fade: float = 0.6  # factor of the probability where they disagree more

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise UsageError(f"reach={self.reach}: expected a number of frames, 0 or more")
        if not 0 <= self.fade <= 1:
            raise UsageError(f"fade={self.fade}: expected a value from 0 to 1")


class FlowPropagator(Propagator):
    """Optical flow with a consistency check; see `vng.propagators.Propagator` for the call."""

    def __init__(self, settings: FlowSettings | None = None) -> None:
        self.settings = settings or FlowSettings()

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for prompts that `check_prompts` refuses."""
        check_prompts(frames, prompts)
        anchors = sorted(prompts)
        hints = self._hints(frames[anchors[0]], prompts[anchors[0]])
        yield from self._before(frames, hints, anchors[0])
        state: np.ndarray | None = None
        started: set[int] = set()  # objects prompted so far
        for position, anchor in enumerate(anchors):
            state = _merged(hints, state, frames.size)
            started |= {k for k, hint in enumerate(hints) if hint is not None}
            yield anchor, state
            stop = anchors[position + 1] if position + 1 < len(anchors) else len(frames)
            if stop < len(frames):
                hints = self._hints(frames[stop], prompts[stop])
            later = self._warp_back(frames, hints, anchor, stop) if stop < len(frames) else {}
            prompted = [k for k, hint in enumerate(hints) if hint is not None]
            image = frames[anchor]
            for t in range(anchor + 1, stop):
                following = frames[t]
                state = self._warp(state, image, following)
                image = following
                blended = state
                if t in later:
                    nearness = np.array(
                        [(t - anchor) / (stop - anchor) if k in started else 1.0 for k in prompted], np.float32
                    )
                    nearness = nearness[:, None, None]
                    blended = state.copy()  # only objects with a prompt in the later frame are blended
                    from_later = later[t].astype(np.float32)
                    blended[prompted] = (1 - nearness) * state[prompted] + nearness * from_later / 255
                yield t, blended
            if stop < len(frames):
                state = self._warp(state, image, frames[stop])

    def _before(self, frames: Frames, hints: list[np.ndarray | None], anchor: int) -> Iterator[tuple[int, np.ndarray]]:
        """Frames before the first prompt, warped backwards from it."""
        image, state = frames[anchor], _merged(hints, None, frames.size)
        for t in range(anchor - 1, -1, -1):
            earlier = frames[t]
            state = self._warp(state, image, earlier)
            image = earlier
            yield t, state

    def _warp_back(
        self, frames: Frames, hints: list[np.ndarray | None], anchor: int, stop: int
    ) -> dict[int, np.ndarray]:
        """The prompts of frame `stop`, warped to the `reach` frames before it; uint8, for its prompted objects only."""
        prompted = [hint for hint in hints if hint is not None]
        if not prompted:
            return {}
        first = max(anchor + 1, stop - self.settings.reach)
        window = {t: frames[t] for t in range(first, stop + 1)}
        state = np.stack(prompted)
        warped = {}
        for t in range(stop - 1, first - 1, -1):
            state = self._warp(state, window[t + 1], window[t])
            warped[t] = np.rint(state * 255).astype(np.uint8)
        return warped

    @cached_property
    def _segmenter(self) -> Segmenter:
        return load_segmenter(self.settings.segmenter)

    def _hints(self, image: np.ndarray, prompt: FramePrompts) -> list[np.ndarray | None]:
        """Probabilities [H, W] of each object's prompt, or None."""
        hints: list[np.ndarray | None] = [None] * len(prompt)
        pointed = [(k, points) for k, points in enumerate(prompt.points) if points is not None]
        if pointed:
            masks = self._segmenter(image, [points for _, points in pointed])
            for (k, _), mask in zip(pointed, masks, strict=True):
                hints[k] = mask
        for k, mask in enumerate(prompt.masks):
            if mask is not None:
                hints[k] = mask.astype(np.float32)
        return hints

    def _warp(self, state: np.ndarray, image: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Probabilities [K, H, W] of one frame, warped to the next one in either direction of time."""
        before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (image, following))
        back = dense_flow(after, before)  # from each pixel of the new frame to its source
        forth = dense_flow(before, after)
        source_x, source_y = moved_places(back)
        there = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off = np.hypot(*np.moveaxis(back + there, -1, 0))
        reach = self.settings.tolerance + 0.05 * np.hypot(back[..., 0], back[..., 1])
        keep = np.where(off > reach, np.float32(self.settings.fade), np.float32(1.0))
        moved = [cv2.remap(p, source_x, source_y, cv2.INTER_LINEAR, borderValue=0.0) for p in state]
        # Bilinear interpolation blurs; moving values towards 0 and 1 keeps outlines sharp.
        stacked = np.stack(moved) if moved else state
        sharpened = np.clip(0.5 + (stacked - 0.5) * 1.15, 0, 1)
        return sharpened * keep


def _merged(hints: list[np.ndarray | None], state: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Probabilities [K, H, W]: those of prompts where given, else those of `state`, or 0."""
    result = np.zeros((len(hints), *size), np.float32) if state is None else state.copy()
    for k, hint in enumerate(hints):
        if hint is not None:
            result[k] = hint
    return result
