"""STCN and Point-STCN as a propagator: frames stream in, masks stream out, memory stays bounded.

From the first prompted frame forwards, then from the same prompts backwards to the frames before it. An object whose
first prompt comes later enters there. Later prompts of a known object replace what was found and are remembered.
Shapes: K objects, H x W pixels of the video, rows x columns those the network sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.models.frame_maps import FrameMaps
from vng.models.loading import device_named, fingerprint, load_strictly, same_weights
from vng.models.stcn.memory import Memory
from vng.models.stcn.modeling_stcn import KeyFeatures, Stcn
from vng.models.stcn.processing_stcn import View, point_map
from vng.points import PointPrompts
from vng.propagators import FramePrompts, Propagator, as_drawn, check_prompts
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter

THRESHOLD = 0.5
READERS = ("model", "segmenter")
SHIPPED = Path(__file__).resolve().parent / "weights" / "stcn"


@dataclass(frozen=True, kw_only=True)
class StcnSettings:
    """How the engine works; raises UsageError for a value that cannot be."""

    every: int | None = None  # each so many-th frame is remembered; None: as the model asks (published: 5)
    last: bool = False  # whether the last frame is remembered until the next; it spreads mistakes (docs/benchmarks.md)
    top_k: int = 20  # cells of memory a cell reads
    budget: int | None = 8192  # most cells remembered, but for prompted frames; None: all, as published
    short_side: int | None = None  # pixels the network sees; None: as the model was trained, 0: as they are
    points: str | None = None  # who reads points: the "model" itself or a "segmenter"; None: as the model asks
    segmenter: str = DEFAULT_SEGMENTER  # points -> masks, where a segmenter reads them
    segmenter_checkpoint: str | None = None  # its weights, where it needs some: a folder, a hub id, the authors' .pth
    device: str | None = None  # None: a GPU if there is one
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("top_k", 1), ("budget", 1), ("short_side", 0)):
            value = getattr(self, name)
            if (value is None and name == "top_k") or (value is not None and value < least):
                raise UsageError(f"{name}={value}: {least} or more")
        if self.points is not None:
            one_of(self.points, READERS, "reader of points")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise UsageError(f"dtype={self.dtype}: float32, bfloat16 or float16")


@dataclass(frozen=True)
class MapsOf:
    """Maps that another network made of a video's frames with this one's backbone."""

    kept: FrameMaps
    length: int = 0  # of the video where frames are asked for from its end, else 0
    multiple: int = 32  # of which the padded sides are

    def get(self, frame: int, like: Tensor) -> list[Tensor] | None:
        """Maps [1, C, h, w] of a frame, None where there are none."""
        return self.kept.get(self.length - 1 - frame if self.length else frame, like)


class _SharingStcn(Propagator):
    """The engine with maps that another network made."""

    def __init__(self, engine: StcnPropagator, maps: MapsOf) -> None:
        self._engine, self._maps = engine, maps

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        return self._engine(frames, prompts, self._maps)


class StcnPropagator(Propagator):
    """The engine; see `vng.propagators.Propagator` for the call.

    Args:
        checkpoint: a folder that `vng train` wrote with a recipe of the task "stcn", or a hub id; None: the shipped one.
        settings: how it works.

    Raises:
        DataError: no checkpoint there, or one whose weights do not fit, with their names.
    """

    def __init__(self, checkpoint: str | None = None, settings: StcnSettings | None = None) -> None:
        self.settings = settings or StcnSettings()
        model = load_strictly(Stcn, SHIPPED if checkpoint is None else checkpoint)
        self.fingerprint = fingerprint(model)
        self.backbone = deepcopy(model.key_encoder)  # as it was trained: other networks' backbones are compared with it
        model = model.to(getattr(torch, self.settings.dtype))
        self.model: Stcn = model.to(device_named(self.settings.device)).fused()

    def __call__(
        self, frames: Frames, prompts: Mapping[int, FramePrompts], maps: MapsOf | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for prompts that cannot be (`check_prompts`).

        `maps` are those of a network with the very weights of this one's `backbone`; frames are then seen as it saw them.
        """
        check_prompts(frames, prompts)
        first = min(prompts)
        view = self._view(frames, maps)
        hints = self._hints(frames[first], prompts[first], view)
        yield from self._pass(frames, range(first, len(frames)), prompts, hints, view, maps)
        if first:
            backwards = self._pass(frames, range(first, -1, -1), {}, hints, view, maps)
            next(backwards)  # the prompted frame is known
            yield from backwards

    def reads_maps_of(self, backbone: nn.Module) -> bool:
        """Whether a backbone has the very weights of this network's key encoder."""
        return same_weights(backbone, self.backbone)

    def with_maps(self, maps: FrameMaps, length: int = 0) -> Propagator:
        """See `Propagator`."""
        return _SharingStcn(self, MapsOf(maps, length))

    def _view(self, frames: Frames, maps: MapsOf | None) -> View:
        if maps is not None:
            return View(*frames.size, maps.kept.rows, maps.kept.columns, maps.multiple, centred=False)
        side = self.settings.short_side
        return View.of(*frames.size, self.model.config.short_side if side is None else side)

    def _pass(
        self,
        frames: Frames,
        order: Sequence[int],
        prompts: Mapping[int, FramePrompts],
        first: _Hints,
        view: View,
        maps: MapsOf | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        session = _Session(self.model, self.settings, view, len(first.known))
        for time, t in enumerate(order):
            image, prompt = frames[t], prompts.get(t)
            with torch.inference_mode():
                told = first if time == 0 else (None if prompt is None else self._hints(image, prompt, view))
                found = session.step(image, told, time, t == order[-1], None if maps is None else (maps, t))
            yield t, as_drawn(view.restore(found), () if prompt is None else prompt.masks)

    def _hints(self, image: np.ndarray, prompt: FramePrompts, view: View) -> _Hints:
        """Prompts as the network takes them."""
        config, k = self.model.config, len(prompt)
        masks: list[np.ndarray | None] = list(prompt.masks or [None] * k)
        points: list[PointPrompts | None] = list(prompt.points or [None] * k)
        asked = {i: told for i, told in enumerate(points) if masks[i] is None and told is not None}
        pointed = [i for i, told in asked.items() if len(told.positive)]
        if pointed and self._reader == "segmenter":
            made = self._segmenter(image, [asked[i] for i in pointed])
            for i, mask in zip(pointed, made, strict=True):
                masks[i] = mask > THRESHOLD
            asked = {}
        maps, negatives = np.zeros((k, *view.padded), np.float32), np.zeros((k, *view.padded), np.float32)
        for i, mask in enumerate(masks):
            if mask is not None:
                maps[i] = view.mask(mask)
        for i, told in asked.items():
            maps[i] = point_map(view.points(told.positive), view.padded, config.point_radius)
            if config.takes_negatives:
                negatives[i] = point_map(view.points(told.negative), view.padded, config.point_radius)
        known = [i in pointed or mask is not None for i, mask in enumerate(masks)]
        model = self.model
        return _Hints(
            torch.from_numpy(maps).to(model.device, model.dtype),
            torch.from_numpy(negatives).to(model.device, model.dtype),
            torch.tensor(known, device=model.device),
            torch.tensor([i in asked for i in range(k)], device=model.device),
        )

    @property
    def _reader(self) -> str:
        config = self.model.config
        return self.settings.points or config.points_by or READERS[not config.takes_points]

    @cached_property
    def _segmenter(self) -> Segmenter:
        checkpoint = self.settings.segmenter_checkpoint
        return load_segmenter(self.settings.segmenter, **({} if checkpoint is None else {"checkpoint": checkpoint}))


@dataclass(frozen=True)
class _Hints:
    """What one frame's prompts say of K objects."""

    maps: Tensor  # [K, rows, columns], masks or point maps
    negatives: Tensor  # [K, rows, columns]
    known: Tensor  # bool [K], of which objects a mask or a positive point is given
    pointed: Tensor  # bool [K], of which points are given, be they negative ones


class _Session:
    """One pass over a video in one direction."""

    def __init__(self, model: Stcn, settings: StcnSettings, view: View, count: int) -> None:
        self.model, self.settings, self.view, self.count = model, settings, view, count
        self.memory = Memory(settings.top_k, settings.budget)
        self.order: list[int] = []  # objects as they entered; memory knows them in this order
        self.remembered = 0  # time of the last lasting frame

    def step(
        self,
        image: np.ndarray,
        hints: _Hints | None,
        time: int,
        final: bool,
        known: tuple[MapsOf, int] | None = None,
    ) -> np.ndarray:
        """One frame -> probabilities float32 [K, rows, columns], zero for objects that have not entered.

        `known`: whose maps may be there already, and which frame this is.
        """
        pixels = self.model.normalise(self.view.image(image).to(self.model.device), self.model.dtype)
        features = self.model.encode_key(pixels, None if known is None else known[0].get(known[1], pixels))
        found = torch.zeros(self.count, *self.view.padded, device=self.model.device)
        if self.order:
            found[self.order] = self._decoded(self.memory.read(features.key[0])[None], features)
        if hints is not None and (bool(hints.known.any()) or bool(self._corrected(hints).any())):
            found = self._prompted(pixels, features, found, hints, time)
            self.remembered = time
        elif not final and self.order:
            lasting = time - self.remembered >= (self.settings.every or self.model.config.memory_every)
            if lasting or self.settings.last:
                value = self._value(pixels, features, found[self.order].to(self.model.dtype))
                self.memory.add(features.key[0], value, time, lasting)
                self.remembered = time if lasting else self.remembered
        return found.cpu().numpy()

    def _decoded(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """Probabilities [objects in memory, rows, columns], at most one of them at a pixel more than 0.5."""
        logits = self.model.decode(readout, features)
        return self.model.aggregate(logits.float().sigmoid()).softmax(1)[0, 1:]

    def _value(self, pixels: Tensor, features: KeyFeatures, masks: Tensor, others: Tensor | None = None) -> Tensor:
        others = None if others is None else others[None]
        return self.model.encode_value(pixels, features.deep, masks[None], others)[0]

    def _prompted(self, pixels: Tensor, features: KeyFeatures, found: Tensor, hints: _Hints, time: int) -> Tensor:
        """A frame with prompts: what they say replaces what was found, and is remembered for good."""
        new = [k for k in range(self.count) if bool(hints.known[k]) and k not in self.order]
        self.order += new
        if new:
            self.memory.enter(len(new), time)
        drawn = hints.known & ~hints.pointed
        taken = (hints.maps[drawn] > THRESHOLD).any(0)
        found = torch.where(taken, 0.0, found)  # where a mask says whose a pixel is, it is nobody else's
        found[drawn] = hints.maps[drawn].float()
        corrected = self._corrected(hints)
        pointed = bool(corrected.any())
        if pointed:
            found = self._read_points(pixels, features, found, hints, corrected, time)
        found[self.order] = self.model.aggregate(found[self.order][None]).softmax(1)[0, 1:]
        if self.model.config.reads_reference or not pointed:
            value = self._value(pixels, features, found[self.order].to(self.model.dtype))
            self.memory.add(features.key[0], value, time, kept=True)
        return found

    def _corrected(self, hints: _Hints) -> Tensor:
        """Bool [K]: objects whose points say something; a negative one corrects only what has entered."""
        entered = torch.tensor([k in self.order for k in range(self.count)], device=hints.known.device)
        return hints.pointed & (hints.known | entered)

    def _read_points(
        self, pixels: Tensor, features: KeyFeatures, found: Tensor, hints: _Hints, which: Tensor, time: int
    ) -> Tensor:
        """Points are remembered as such; what they mean in their own frame is read from that very memory.

        Points of an object that is being tracked correct what was found: positives are added, negatives taken out.
        """
        corrected = torch.maximum(hints.maps, found.to(hints.maps.dtype) * (1 - hints.negatives))
        masks = torch.where(which[:, None, None], corrected, found.to(hints.maps.dtype))[self.order]
        others = (masks.sum(0) - masks).maximum(hints.negatives[self.order])
        value = self._value(pixels, features, masks, others)
        self.memory.add(features.key[0], value, time, kept=True)
        read = torch.zeros_like(found)
        own = self.model.read(features.key.flatten(2), value.flatten(2)[None], features.key)
        read[self.order] = self._decoded(own, features)
        return torch.where(which[:, None, None], read, found)
