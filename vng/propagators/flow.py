"""A propagator without learned weights: dense inverse search optical flow carries probabilities from frame to frame.

Between two prompted frames the masks of the earlier one are carried forwards and those of the later one backwards, and
blended by nearness. Pixels whose forward and backward flow disagree (occluded, uncovered) lose their certainty.
Flow: Kroeger et al., ECCV 2016 (OpenCV's DIS).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from vng.errors import UsageError
from vng.frames import Frames
from vng.propagators import FramePrompts
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import load as load_segmenter


class FlowPropagator:
    """Optical flow with a consistency check; see `vng.propagators.Propagator` for the call.

    Args:
        reach: how many frames a later prompt is carried backwards; it bounds memory.
        segmenter: turns prompts that are points into masks.
        tolerance: pixels by which forward and backward flow may disagree.
        fade: certainty kept where they disagree more.
    """

    def __init__(
        self, reach: int = 64, segmenter: str = DEFAULT_SEGMENTER, tolerance: float = 1.5, fade: float = 0.6
    ) -> None:
        self.reach, self.tolerance, self.fade = reach, tolerance, fade
        self._segmenter_name = segmenter
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError when no frame is prompted or a prompted frame is not in the video."""
        anchors = sorted(prompts)
        if not anchors:
            raise UsageError("propagation needs at least one frame with points or a mask")
        if anchors[0] < 0 or anchors[-1] >= len(frames):
            raise UsageError(f"frame {anchors[-1]} is prompted, the video has {len(frames)}")
        yield from self._before(frames, prompts[anchors[0]], anchors[0])
        state: np.ndarray | None = None
        for position, anchor in enumerate(anchors):
            state = self._anchor(frames[anchor], prompts[anchor], state)
            yield anchor, state
            stop = anchors[position + 1] if position + 1 < len(anchors) else len(frames)
            later = self._carried_back(frames, prompts.get(stop), anchor, stop)
            image = frames[anchor]
            for t in range(anchor + 1, stop):
                following = frames[t]
                state = self._carry(state, image, following)
                image = following
                if t in later:
                    nearness = (t - anchor) / (stop - anchor)
                    yield t, (1 - nearness) * state + nearness * later[t].astype(np.float32) / 255
                else:
                    yield t, state
            if stop < len(frames):
                state = self._carry(state, image, frames[stop])

    def _before(self, frames: Frames, first: FramePrompts, anchor: int) -> Iterator[tuple[int, np.ndarray]]:
        """Frames before the first prompt, carried backwards from it."""
        image = frames[anchor]
        state = self._anchor(image, first, None)
        for t in range(anchor - 1, -1, -1):
            earlier = frames[t]
            state = self._carry(state, image, earlier)
            image = earlier
            yield t, state

    def _carried_back(
        self, frames: Frames, prompt: FramePrompts | None, anchor: int, stop: int
    ) -> dict[int, np.ndarray]:
        """The later anchor's masks at the `reach` frames before it, as uint8."""
        if prompt is None:
            return {}
        first = max(anchor + 1, stop - self.reach)
        window = {t: frames[t] for t in range(first, stop + 1)}
        state = self._anchor(window[stop], prompt, None)
        carried = {}
        for t in range(stop - 1, first - 1, -1):
            state = self._carry(state, window[t + 1], window[t])
            carried[t] = np.rint(state * 255).astype(np.uint8)
        return carried

    def _anchor(self, image: np.ndarray, prompt: FramePrompts, state: np.ndarray | None) -> np.ndarray:
        """Probabilities at a prompted frame: its prompts where it has any, what was carried so far elsewhere."""
        height, width = image.shape[:2]
        result = np.zeros((len(prompt), height, width), np.float32) if state is None else state.copy()
        pointed = [k for k, points in enumerate(prompt.points) if points is not None]
        if pointed:
            segmenter = load_segmenter(self._segmenter_name)
            result[pointed] = segmenter(image, [prompt.points[k] for k in pointed])  # type: ignore[misc]
        for k, mask in enumerate(prompt.masks):
            if mask is not None:
                result[k] = mask
        return result

    def _carry(self, state: np.ndarray, image: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Probabilities [K, H, W] of one frame, moved to the next in either direction of time."""
        before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (image, following))
        back = self._flow.calc(after, before, None)  # where each pixel of the new frame was
        forth = self._flow.calc(before, after, None)
        height, width = before.shape
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        source_x, source_y = x + back[..., 0], y + back[..., 1]
        there = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        off = np.hypot(*np.moveaxis(back + there, -1, 0))
        reach = self.tolerance + 0.05 * np.hypot(back[..., 0], back[..., 1])
        keep = np.where(off > reach, np.float32(self.fade), np.float32(1.0))
        moved = [cv2.remap(p, source_x, source_y, cv2.INTER_LINEAR, borderValue=0.0) for p in state]
        # Bilinear steps blur; pulling values back towards 0 and 1 keeps outlines from dissolving.
        stacked = np.stack(moved) if moved else state
        sharpened = np.clip(0.5 + (stacked - 0.5) * 1.15, 0, 1)
        return sharpened * keep
