"""SAM 2 and 2.1 as a propagator, through `transformers`: a memory of the prompted frames and of the last few.

A forward pass from the first prompted frame, then a backward pass from the same prompts to the frames before it. An
object with a later first prompt starts there. Points of a tracked object correct its prediction in their frame; a mask
replaces it. Only prompted frames are kept permanently, so memory does not grow with the length of the video.
Network and policy: Ravi et al., SAM 2: Segment Anything in Images and Videos, 2024, Sec. 4.
Shapes: K objects, P points, H x W pixels of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from vng.errors import UsageError
from vng.frames import Frames
from vng.models.loading import device_named, fingerprint
from vng.models.transfer import ahead
from vng.points import PointPrompts
from vng.propagators import FramePrompts, Propagator, as_drawn, check_prompts
from vng.segmenters.sam import NEGATIVE, POSITIVE, VIDEO_FAMILIES, SquareFit, load_sam, normalisation

BOX = (2, 3)  # labels of a box's corners among the points
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Sam2Settings:
    """Settings of the engine; raises UsageError for an invalid value."""

    device: str | None = None  # None: a GPU if there is one
    dtype: str = "float32"  # of autocast; SAM 2's authors use "bfloat16", which shifts points by a pixel or two

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype={self.dtype}: {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


class Sam2Propagator(Propagator):
    """The SAM 2 propagator; see `vng.propagators.Propagator` for the call.

    Networks that kept its memory (`edgetam`, `sam3_tracker`) are subclasses with other checkpoints.

    Args:
        checkpoint: a folder or hub id, such as facebook/sam2.1-hiera-large.
        settings: None: the defaults.

    Raises:
        UsageError: no checkpoint, or an unavailable device.
        DataError: no such checkpoint, one of another network, or weights that are missing, unknown or of another size.
    """

    name, network, example = "sam2", "SAM 2 or 2.1", "facebook/sam2.1-hiera-tiny"
    model_type = "sam2_video"  # in a checkpoint's config.json

    def __init__(self, checkpoint: str | Path | None = None, settings: Sam2Settings | None = None) -> None:
        if checkpoint is None:
            raise UsageError(f"propagator {self.name!r} has no weights of its own; name a checkpoint: {self.example}")
        self.settings = settings or Sam2Settings()
        families = {self.model_type: VIDEO_FAMILIES[self.model_type]}
        family, model = load_sam(checkpoint, families, self.network)
        self._session_of = getattr(transformers, family.session)
        self.fingerprint = fingerprint(model)
        device = device_named(self.settings.device)
        self.model: Any = model.to(device).eval()  # type: ignore[arg-type]
        self._norm = normalisation(checkpoint, family, device)
        config = self.model.config
        # Number of past frames that the network reads.
        self._recent = max(config.num_maskmem, config.max_object_pointers_in_encoder)

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for invalid prompts (`check_prompts`)."""
        count, first = check_prompts(frames, prompts), min(prompts)
        yield from self._pass(frames, range(first, len(frames)), prompts, count)
        if first:
            backwards = self._pass(frames, range(first, -1, -1), {first: prompts[first]}, count)
            next(backwards)  # the prompted frame was returned already
            yield from backwards

    def _pass(
        self, frames: Frames, order: range, prompts: Mapping[int, FramePrompts], count: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        fit = self._fit(*frames.size)
        session = self._session(reverse=order.step < 0)
        read = ahead(lambda t: (t, frames[t]), order, self.model.device)
        for t, image in read:
            prompt = prompts.get(t)
            with torch.inference_mode(), self._precision():
                hints = {} if prompt is None else self._hints(prompt, fit, session.entered)
                probabilities = torch.zeros(count, *frames.size)
                if hints or session.entered:
                    logits = session.step(t, fit.pixels(image, *self._norm), hints)
                    probabilities[session.entered] = fit.to_image(logits.float()).sigmoid().cpu()
            yield t, as_drawn(probabilities.numpy(), () if prompt is None else prompt.masks)

    def _session(self, reverse: bool) -> _Session:
        return _Session(self.model, self._session_of, self._recent, reverse)

    def _precision(self) -> torch.autocast:
        dtype: torch.dtype = getattr(torch, self.settings.dtype)
        return torch.autocast(self.model.device.type, dtype, enabled=dtype != torch.float32)

    def _fit(self, height: int, width: int) -> SquareFit:
        side = int(self.model.config.prompt_encoder_config.image_size)
        return SquareFit(height, width, side, side, side, int(self.model.prompt_encoder.mask_input_size[0]))

    def _hints(
        self, prompt: FramePrompts, fit: SquareFit, entered: Sequence[int]
    ) -> dict[int, Tensor | dict[str, Tensor]]:
        """Object -> its mask [1, 1, side, side] or its points, for prompted objects only.

        Negative points alone are ignored for an object without an earlier prompt.
        """
        hints: dict[int, Tensor | dict[str, Tensor]] = {}
        for k, points in enumerate(prompt.points):
            if points is not None and (len(points.positive) or points.box is not None or k in entered):
                hints[k] = self._points(points, fit)
        for k, mask in enumerate(prompt.masks):
            if mask is not None:
                small = torch.nn.functional.interpolate(
                    torch.from_numpy(mask.astype(np.float32))[None, None],
                    (fit.side, fit.side),
                    mode="bilinear",
                    antialias=True,
                )
                hints[k] = (small >= 0.5).float()
        return hints

    def _points(self, points: PointPrompts, fit: SquareFit) -> dict[str, Tensor]:
        box = np.empty((0, 2), np.float32) if points.box is None else points.box.reshape(2, 2)
        xy = fit.to_square(np.concatenate([box, points.positive, points.negative]))
        labels = [*BOX[: len(box)], *[POSITIVE] * len(points.positive), *[NEGATIVE] * len(points.negative)]
        return {
            "point_coords": torch.from_numpy(xy)[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }


class _Session:
    """One pass over a video in one direction; objects enter with their first prompt.

    Attributes:
        entered: objects in the order of their first prompts, which is also their order in the session.
    """

    def __init__(self, model: Any, session_of: Any, recent: int, reverse: bool) -> None:
        self.model, self.recent, self.reverse = model, recent, reverse
        device = model.device
        self.state = session_of(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=model.dtype
        )
        self.entered: list[int] = []

    def step(self, t: int, pixels: Tensor, hints: Mapping[int, Tensor | dict[str, Tensor]]) -> Tensor:
        """One frame, pixels [1, 3, side, side] -> logits [len(entered), h, w]."""
        state, predictions = self.state, {}
        if hints and self.entered:  # points correct the prediction made without them
            self.model(state, frame_idx=t, frame=pixels, reverse=self.reverse)
            others = [state.obj_id_to_idx(k) for k in self.entered if k not in hints]
            predictions = {i: dict(state.output_dict_per_obj[i]["non_cond_frame_outputs"][t]) for i in others}
        for k, hint in hints.items():
            if k not in self.entered:
                self.entered.append(k)
            i = state.obj_id_to_idx(k)
            if isinstance(hint, dict):
                state.add_point_inputs(i, t, hint)
            else:
                state.add_mask_inputs(i, t, hint)
                # A mask replaces the prediction in memory, as a prompt.
                state.frames_tracked_per_obj[i].pop(t, None)
                state.output_dict_per_obj[i]["non_cond_frame_outputs"].pop(t, None)
        state.obj_with_new_inputs = list(hints)
        masks = self.model(state, frame_idx=t, frame=pixels, reverse=self.reverse).pred_masks
        # With a prompt for one object, transformers would store all as prompted; restore the others.
        for i, output in predictions.items():
            state.output_dict_per_obj[i]["non_cond_frame_outputs"][t] = output
        self._forget(t)
        return masks[:, 0]

    def _forget(self, t: int) -> None:
        """Drop pixels, full-size masks, and everything the network will not read again."""
        state, last = self.state, t + self.recent if self.reverse else t - self.recent
        state.processed_frames = None
        for i, kept in state.output_dict_per_obj.items():
            for outputs in kept.values():
                outputs.get(t, {}).pop("high_res_masks", None)
            kept["non_cond_frame_outputs"].pop(last, None)
            for items in (state.frames_tracked_per_obj[i], state.point_inputs_per_obj[i], state.mask_inputs_per_obj[i]):
                items.pop(t, None)
