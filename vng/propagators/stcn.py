"""STCN and Point-STCN as a propagator: frames stream in, masks stream out, memory stays bounded.

A forward pass from the first prompted frame, then a backward pass from the same prompts to the frames before it. An
object with a later first prompt starts there. Later prompts of a tracked object replace its prediction and are stored
in memory.
Shapes: K objects, H x W pixels of the video, rows x columns pixels of the network's input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vng.errors import UsageError, one_of
from vng.frames import Frames
from vng.models.frame_maps import FrameMaps
from vng.models.loading import device_named, fingerprint, load_strictly, same_weights, shipped_weights
from vng.models.stcn.memory import Memory
from vng.models.stcn.modeling_stcn import KeyFeatures, Stcn
from vng.models.stcn.processing_stcn import View, point_map
from vng.models.transfer import ahead
from vng.points import PointPrompts
from vng.propagators import FramePrompts, Propagator, as_drawn, check_prompts
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter

T = TypeVar("T")
THRESHOLD = 0.5
READERS = ("model", "segmenter")
TOGETHER = 4  # frames whose keys are computed at a time off the CPU: they depend on no memory


@dataclass(frozen=True, kw_only=True)
class StcnSettings:
    """Settings of the engine; raises UsageError for an invalid value."""

    every: int | None = None  # interval of frames stored in memory; None: from the model's config (published: 5)
    last: bool = False  # whether the last frame is kept until the next one; this spreads errors (docs/benchmarks.md)
    top_k: int = 20  # memory cells that each cell reads
    budget: int | None = 8192  # maximum memory cells, not counting prompted frames; None: no limit, as published
    short_side: int | None = None  # pixels of the network's input; None: as in training, 0: as the video
    points: str | None = None  # reader of points: the "model" or a "segmenter"; None: from the model's config
    segmenter: str = DEFAULT_SEGMENTER  # turns points into masks if the reader is a segmenter
    segmenter_checkpoint: str | None = None  # weights of the segmenter: a folder, a hub id, or the authors' .pth
    device: str | None = None  # None: a GPU if there is one
    dtype: str = "float32"  # on a GPU, torch lets convolutions in float32 use TF32 (torch.backends.cudnn.allow_tf32)

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("top_k", 1), ("budget", 1), ("short_side", 0)):
            value = getattr(self, name)
            if (value is None and name == "top_k") or (value is not None and value < least):
                raise UsageError(f"{name}={value}: expected {least} or more")
        if self.points is not None:
            one_of(self.points, READERS, "reader of points")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise UsageError(f"dtype={self.dtype}: expected float32, bfloat16 or float16")


@dataclass(frozen=True)
class MapsOf:
    """Feature maps of a video's frames from another network with the same backbone."""

    kept: FrameMaps
    length: int = 0  # number of frames if they are requested in reverse order, else 0
    multiple: int = 32  # padded sides are multiples of this

    def get(self, frame: int, like: Tensor) -> list[Tensor] | None:
        """Maps [1, C, h, w] of a frame; None if there are none."""
        return self.kept.get(self.length - 1 - frame if self.length else frame, like)


class _SharingStcn(Propagator):
    """The engine with feature maps of another network."""

    def __init__(self, engine: StcnPropagator, maps: MapsOf) -> None:
        self._engine, self._maps = engine, maps

    def __call__(self, frames: Frames, prompts: Mapping[int, FramePrompts]) -> Iterator[tuple[int, np.ndarray]]:
        return self._engine(frames, prompts, self._maps)


class StcnPropagator(Propagator):
    """The STCN propagator; see `vng.propagators.Propagator` for the call.

    Args:
        checkpoint: a folder of `vng train` with a recipe of the task "stcn", or a hub id; None: the shipped weights.
        settings: None: the defaults.

    Raises:
        DataError: there is no checkpoint, or its weights do not fit (listed by name).
    """

    network: type[Stcn] = Stcn
    shipped = "stcn"  # name of the shipped weights

    def __init__(self, checkpoint: str | None = None, settings: StcnSettings | None = None) -> None:
        self.settings = settings or StcnSettings()
        model = load_strictly(self.network, shipped_weights(self.shipped) if checkpoint is None else checkpoint)
        self.fingerprint = fingerprint(model)
        # The trained weights, before conversion and fusing, to compare with backbones of other networks.
        self.backbone = deepcopy(model.key_encoder)
        nn.Module.to(model.float(), device_named(self.settings.device))
        self.model: Stcn = model.fused(getattr(torch, self.settings.dtype))

    def __call__(
        self, frames: Frames, prompts: Mapping[int, FramePrompts], maps: MapsOf | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Propagator`; raises UsageError for invalid prompts (`check_prompts`).

        `maps` come from a network with the weights of this one's `backbone`; frames are then scaled as in that network.
        """
        check_prompts(frames, prompts)
        first = min(prompts)
        view = self._view(frames, maps)
        hints = self._hints(frames[first], prompts[first], view)
        yield from self._pass(frames, range(first, len(frames)), prompts, hints, view, maps)
        if first:
            backwards = self._pass(frames, range(first, -1, -1), {}, hints, view, maps)
            next(backwards)  # the prompted frame was returned already
            yield from backwards

    def reads_maps_of(self, backbone: nn.Module) -> bool:
        """Whether a backbone has the same weights as this network's key encoder."""
        return same_weights(backbone, self.backbone)

    def with_maps(self, maps: FrameMaps, length: int = 0) -> Propagator:
        """See `Propagator`."""
        return _SharingStcn(self, MapsOf(maps, length))

    def _session(self, view: View, count: int) -> Session:
        """A pass over a video with `count` objects."""
        return Session(self.model, self.settings, view, count)

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
        first: Hints,
        view: View,
        maps: MapsOf | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        session = self._session(view, len(first.prompted))
        for time, (t, image, pixels, features) in enumerate(self._encoded(frames, order, view, maps)):
            prompt = prompts.get(t)
            with torch.inference_mode():
                hints = first if time == 0 else (None if prompt is None else self._hints(image, prompt, view))
                probabilities = session.step(pixels, features, hints, time, t == order[-1])
            yield t, as_drawn(view.restore(probabilities), () if prompt is None else prompt.masks)

    def _encoded(
        self, frames: Frames, order: Sequence[int], view: View, maps: MapsOf | None
    ) -> Iterator[tuple[int, np.ndarray, Tensor, KeyFeatures]]:
        """(frame, image, pixels [1, 3, rows, columns], features) in an order; off the CPU several frames at a time."""
        device = self.model.device

        def read(t: int) -> tuple[int, np.ndarray, Tensor]:
            return t, (image := frames[t]), view.image(image, device)

        together = 1 if device.type == "cpu" or maps is not None else TOGETHER
        for batch in _batched(ahead(read, order, device, 2 * together), together):
            with torch.inference_mode():
                pixels = self.model.normalise(torch.cat([own for *_, own in batch]), self.model.dtype)
                shared = None if maps is None else maps.get(batch[0][0], pixels)
                features = self.model.encode_key(pixels, shared).by_frame(len(batch))
            for i, (t, image, _) in enumerate(batch):
                yield t, image, pixels[i : i + 1], features[i]

    def _hints(self, image: np.ndarray, prompt: FramePrompts, view: View) -> Hints:
        """Prompts as inputs of the network."""
        config, k = self.model.config, len(prompt)
        masks: list[np.ndarray | None] = list(prompt.masks or [None] * k)
        points: list[PointPrompts | None] = list(prompt.points or [None] * k)
        points_of = {i: own for i, own in enumerate(points) if masks[i] is None and own is not None}
        pointed = [i for i, own in points_of.items() if len(own.positive)]
        if pointed and self._reader == "segmenter":
            segmented = self._segmenter(image, [points_of[i] for i in pointed])
            for i, mask in zip(pointed, segmented, strict=True):
                masks[i] = mask > THRESHOLD
            points_of = {}
        maps, negatives = np.zeros((k, *view.padded), np.float32), np.zeros((k, *view.padded), np.float32)
        for i, mask in enumerate(masks):
            if mask is not None:
                maps[i] = view.mask(mask)
        for i, own in points_of.items():
            maps[i] = point_map(view.points(own.positive), view.padded, config.point_radius)
            if config.takes_negatives:
                negatives[i] = point_map(view.points(own.negative), view.padded, config.point_radius)
        prompted = [i in pointed or mask is not None for i, mask in enumerate(masks)]
        model = self.model
        return Hints(
            torch.from_numpy(maps).to(model.device, model.dtype),
            torch.from_numpy(negatives).to(model.device, model.dtype),
            np.array(prompted, bool),
            np.array([i in points_of for i in range(k)], bool),
        )

    @property
    def _reader(self) -> str:
        config = self.model.config
        return self.settings.points or config.points_by or READERS[not config.takes_points]

    @cached_property
    def _segmenter(self) -> Segmenter:
        checkpoint = self.settings.segmenter_checkpoint
        options = {} if checkpoint is None else {"checkpoint": checkpoint}
        return load_segmenter(self.settings.segmenter, device=str(self.model.device), **options)


def _batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


@dataclass(frozen=True)
class Hints:
    """Prompts of K objects in one frame, as tensors."""

    maps: Tensor  # [K, rows, columns], masks or point maps
    negatives: Tensor  # [K, rows, columns]
    prompted: np.ndarray  # bool [K], objects with a mask or a positive point
    pointed: np.ndarray  # bool [K], objects with points, including negative ones only


class Session:
    """One pass over a video in one direction."""

    keeps_predictions = True  # whether the mask that points gave stays in memory for good

    def __init__(self, model: Stcn, settings: StcnSettings, view: View, count: int) -> None:
        self.model, self.settings, self.view, self.count = model, settings, view, count
        self.memory = Memory(settings.top_k, settings.budget)
        self.order: list[int] = []  # objects in the order of their first prompts, as in memory
        self.remembered = 0  # time of the last frame stored permanently

    def step(self, pixels: Tensor, features: KeyFeatures, hints: Hints | None, time: int, final: bool) -> np.ndarray:
        """One frame -> probabilities float32 [K, rows, columns], zero for objects without a prompt so far."""
        return self.advance(pixels, features, hints, time, final).cpu().numpy()

    def advance(self, pixels: Tensor, features: KeyFeatures, hints: Hints | None, time: int, final: bool) -> Tensor:
        """As `step`, on the device."""
        probabilities = torch.zeros(self.count, *self.view.padded, device=self.model.device)
        if self.order:
            self._put(probabilities, self._decoded(self.memory.read(features.key[0])[None], features))
        if hints is not None and (hints.prompted.any() or self._corrected(hints).any()):
            probabilities = self._prompted(pixels, features, probabilities, hints, time)
            self.remembered = time
        elif not final and self.order:
            lasting = time - self.remembered >= (self.settings.every or self.model.config.memory_every)
            if lasting or self.settings.last:
                value = self._value(pixels, features, self._entered(probabilities).to(self.model.dtype))
                self.memory.add(features.key[0], value, time, lasting)
                self.remembered = time if lasting else self.remembered
        return probabilities

    def _entered(self, maps: Tensor) -> Tensor:
        """The maps [K, ...] of the objects in memory, in the order of memory."""
        return maps if self.order == list(range(self.count)) else maps[self.order]

    def _put(self, maps: Tensor, values: Tensor) -> None:
        """Write maps of the objects in memory into maps [K, ...] of all."""
        if self.order == list(range(self.count)):
            maps.copy_(values)
        else:
            maps[self.order] = values

    def _decoded(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """Probabilities [objects in memory, rows, columns]; at most one object per pixel is above 0.5."""
        logits = self.model.decode(readout, features)
        return self.model.aggregate(logits.float().sigmoid()).softmax(1)[0, 1:]

    def _value(self, pixels: Tensor, features: KeyFeatures, masks: Tensor, others: Tensor | None = None) -> Tensor:
        others = None if others is None else others[None]
        return self.model.encode_value(pixels, features.deep, masks[None], others)[0]

    def _prompted(
        self, pixels: Tensor, features: KeyFeatures, probabilities: Tensor, hints: Hints, time: int
    ) -> Tensor:
        """A frame with prompts: they replace the prediction, and are stored in memory permanently."""
        new = [k for k in range(self.count) if hints.prompted[k] and k not in self.order]
        self.order += new
        if new:
            self.memory.enter(len(new), time)
        drawn = np.flatnonzero(hints.prompted & ~hints.pointed).tolist()
        taken = (hints.maps[drawn] > THRESHOLD).any(0)
        probabilities = torch.where(taken, 0.0, probabilities)  # pixels of given masks belong to no other object
        probabilities[drawn] = hints.maps[drawn].float()
        corrected = self._corrected(hints)
        pointed = corrected.any()
        if pointed:
            probabilities = self._read_points(pixels, features, probabilities, hints, corrected, time)
        if drawn:  # what points gave is disjoint already
            self._put(probabilities, self.model.aggregate(self._entered(probabilities)[None]).softmax(1)[0, 1:])
        if self.model.config.reads_reference or not pointed:
            value = self._value(pixels, features, self._entered(probabilities).to(self.model.dtype))
            self.memory.add(features.key[0], value, time, kept=self.keeps_predictions or not pointed)
        return probabilities

    def _corrected(self, hints: Hints) -> np.ndarray:
        """Bool [K]: objects whose points are used; negative points alone only correct tracked objects."""
        entered = np.array([k in self.order for k in range(self.count)], bool)
        return hints.pointed & (hints.prompted | entered)

    def _read_points(
        self, pixels: Tensor, features: KeyFeatures, probabilities: Tensor, hints: Hints, which: np.ndarray, time: int
    ) -> Tensor:
        """Store points in memory as point maps, and read the masks of their own frame from that memory.

        Points of a tracked object correct its prediction: positives are added, negatives removed.
        """
        chosen = torch.from_numpy(which).to(probabilities.device)[:, None, None]
        corrected = torch.maximum(hints.maps, probabilities.to(hints.maps.dtype) * (1 - hints.negatives))
        masks = self._entered(torch.where(chosen, corrected, probabilities.to(hints.maps.dtype)))
        others = (masks.sum(0) - masks).maximum(self._entered(hints.negatives))
        value = self._value(pixels, features, masks, others)
        self.memory.add(features.key[0], value, time, kept=True)
        read = torch.zeros_like(probabilities)
        own = self.model.read(features.key.flatten(2), value.flatten(2)[None], features.key)
        self._put(read, self._decoded(own, features))
        return torch.where(chosen, read, probabilities)
