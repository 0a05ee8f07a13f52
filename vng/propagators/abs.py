"""ABS (ClickVOS, arXiv 2403.06130) as a propagator: one click an object is enough, and masks heal over the video.

It streams as `stcn` does. Beside the dense memory there is a token of each object, refreshed by every mask; the mask
that a click gave is remembered like any other, so that better ones replace it, while the click itself stays.
Shapes: K objects, H x W pixels of the video, rows x columns pixels of the network's input, D channels of a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vng.frames import Frames
from vng.models.abs.modeling_abs import Abs, AbsFeatures
from vng.models.abs.processing_abs import FlowFunction, dis_flow, flow_map
from vng.models.stcn.memory import Memory
from vng.models.stcn.modeling_stcn import KeyFeatures
from vng.models.stcn.processing_stcn import View
from vng.propagators.stcn import Hints, MapsOf, Session, StcnPropagator, StcnSettings


class AbsPropagator(StcnPropagator):
    """The engine; see `vng.propagators.Propagator` for the call.

    Args:
        checkpoint: a folder of `vng train` with a recipe of the task "abs", or a hub id; None: the shipped weights.
        settings: as of `stcn`; the budget of the memory is the network's. None: the defaults.
        flow: optical flow of two images; None: dense inverse search.
    """

    network = Abs
    shipped = "abs"

    def __init__(
        self, checkpoint: str | None = None, settings: StcnSettings | None = None, flow: FlowFunction | None = None
    ) -> None:
        super().__init__(checkpoint, settings)
        self.flow = flow or dis_flow

    def _session(self, view: View, count: int) -> Session:
        return _HealingSession(cast(Abs, self.model), self.settings, view, count)

    def _encoded(
        self, frames: Frames, order: Sequence[int], view: View, maps: MapsOf | None
    ) -> Iterator[tuple[int, np.ndarray, Tensor, KeyFeatures]]:
        """As STCN's, with enhanced features: the flow leads to the frame before, that of the first to the one after."""
        model = cast(Abs, self.model)
        waiting: tuple[int, np.ndarray, Tensor, KeyFeatures] | None = None
        before: np.ndarray | None = None
        for item in super()._encoded(frames, order, view, maps):
            scaled = view.scale(item[1])
            if before is None and waiting is None:
                waiting, before = item, scaled
                continue
            if waiting is not None:
                assert before is not None
                yield self._with_flow(model, waiting, before, scaled, view)
                waiting = None
            assert before is not None
            yield self._with_flow(model, item, scaled, before, view)
            before = scaled
        if waiting is not None and before is not None:  # a single frame does not move
            yield self._with_flow(model, waiting, before, before, view)

    def _with_flow(
        self,
        model: Abs,
        item: tuple[int, np.ndarray, Tensor, KeyFeatures],
        image: np.ndarray,
        other: np.ndarray,
        view: View,
    ) -> tuple[int, np.ndarray, Tensor, KeyFeatures]:
        t, whole, pixels, features = item
        flow = None
        if model.config.uses_flow:
            motion = view.pad(flow_map(image, other, self.flow).transpose(1, 2, 0), 0.0)
            flow = torch.from_numpy(np.ascontiguousarray(motion.transpose(2, 0, 1)))[None].to(model.device)
        with torch.inference_mode():
            return t, whole, pixels, model.enhanced(features, flow)


class _HealingSession(Session):
    """STCN's pass, with tokens of the objects."""

    keeps_predictions = False

    def __init__(self, model: Abs, settings: StcnSettings, view: View, count: int) -> None:
        super().__init__(model, settings, view, count)
        self._abs = model
        self._tokens: Tensor | None = None  # [objects in memory, D]
        self._refined: Tensor | None = None
        self._hints: Hints | None = None

    def advance(self, pixels: Tensor, features: KeyFeatures, hints: Hints | None, time: int, final: bool) -> Tensor:
        """See `Session.advance`; the first frame tells the size of the memory."""
        assert isinstance(features, AbsFeatures)
        if self.memory.budget is not None and not self.order:
            cells = features.key.shape[-2] * features.key.shape[-1]
            self.memory = Memory(self.settings.top_k, cells * self._abs.config.memory_frames)
        self._refined, self._hints = None, hints
        probabilities = super().advance(pixels, features, hints, time, final)
        if self.order:
            refined = self._current(features)
            if self._refined is not None:  # objects that entered in this frame are not among them yet
                refined = torch.cat([self._refined, refined[len(self._refined) :]])
            masks = self._entered(probabilities).to(refined.dtype)
            self._tokens = self._abs.object_memory(refined[None], features.enhanced, masks[None])[0]
        return probabilities

    def _decoded(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        assert isinstance(features, AbsFeatures)
        if self._abs.config.uses_objects:
            tokens, _, of_objects = self._abs.attend(self._current(features)[None], features)
            self._refined = tokens[0]
            readout = readout + of_objects
        return super()._decoded(readout, features)

    def _read_points(
        self, pixels: Tensor, features: KeyFeatures, probabilities: Tensor, hints: Hints, which: np.ndarray, time: int
    ) -> Tensor:
        """Clicked objects get a new token, then their masks."""
        assert isinstance(features, AbsFeatures)
        tokens = self._current(features)
        clicked = [i for i, k in enumerate(self.order) if which[k] and bool(hints.prompted[k])]
        if clicked:
            fresh = self._abs.tokenizer(features.enhanced, hints.maps[None])[0]
            tokens = tokens.clone()
            tokens[clicked] = fresh[[self.order[i] for i in clicked]]
            self._tokens = tokens
        return super()._read_points(pixels, features, probabilities, hints, which, time)

    def _current(self, features: AbsFeatures) -> Tensor:
        """The tokens of all objects in memory; objects that have just entered get theirs from their prompt."""
        known = 0 if self._tokens is None else len(self._tokens)
        if known < len(self.order):
            assert self._hints is not None
            fresh = self._abs.tokenizer(features.enhanced, self._hints.maps[None])[0][self.order[known:]]
            self._tokens = fresh if self._tokens is None else torch.cat([self._tokens, fresh])
        assert self._tokens is not None
        return self._tokens
