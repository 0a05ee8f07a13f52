"""SAM, SAM 2 (and 2.1) and the tracker of SAM 3 as segmenters, through `transformers`.

The image is encoded once; the objects are decoded in chunks against it. Three things `transformers` leaves to its caller:

* *Padding.* Objects have unequal numbers of points. The processors pad with label -10, which makes the token zero but
  lets every other token attend to it, so that a mask would depend on what it was batched with. `TwoWay` masks those
  tokens: a batch gives what its objects give one by one.
* *Processors.* Those of SAM 2 and 3 want torchvision. The few lines here do the same: bilinear with antialias on uint8;
  SAM: longer side to 1024 and zeros below or to the right; SAM 2: a square of 1024; SAM 3: a square of 1008.
  Coordinates are pixel index times (resized / original side), as there; the prompt encoders then add half a pixel.
* *Post-processing.* SAM's way to the image goes over a map of 1024 x 1024 per object; here one bilinear step from the
  decoder's logits (256 x 256, in SAM 3 288 x 288), and of the chosen mask alone.

Refinement (SAM-PT, PEERS.md section 5): the mask's own logits and its box go back in with the points.
Shapes: K objects, P points, M masks a decoding, H x W image, h x w decoder's logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

from vng.errors import DataError, UsageError, one_of
from vng.models.fit import Fit
from vng.models.loading import device_named, fingerprint, load_strictly, told
from vng.points import OTHERS, PointPrompts, medoids, trim_trace
from vng.segmenters.sam_decoder import TwoWay

POSITIVE, NEGATIVE, IGNORED = 1, 0, -10  # labels as the prompt encoders know them
CHOICES = ("auto", "iou", "agreement", "single")
SURE = 10.0  # logit of a mask prompt's certain pixels (SAM 2's own scale for masks as input)
MOST = 32.0  # logits that go back in are clipped here, as SAM 2's predictor does
CURE = "name a folder or hub id with whole safetensors, or check the network"


@dataclass(frozen=True)
class SamFamily:
    """What the checkpoints of one generation share."""

    model: str  # class in transformers
    mean: tuple[float, ...]  # of RGB in [0, 1], where the checkpoint brings no preprocessor_config.json
    std: tuple[float, ...]
    keeps_aspect: bool  # padded to the square, not stretched


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SAM = SamFamily("SamModel", *_IMAGENET, keeps_aspect=True)
_SAM2 = SamFamily("Sam2Model", *_IMAGENET, keeps_aspect=False)
_SAM3 = SamFamily("Sam3TrackerModel", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), keeps_aspect=False)
FAMILIES = {  # `model_type` in a checkpoint's config.json; the video models hold the image model's weights too
    "sam": _SAM,
    "sam2": _SAM2,
    "sam2_video": _SAM2,
    "sam3_tracker": _SAM3,
    "sam3_tracker_video": _SAM3,
    "sam3_video": _SAM3,
}
VIDEO_FAMILIES = {"sam2_video": replace(_SAM2, model="Sam2VideoModel")}


@dataclass(frozen=True, kw_only=True)
class SamSettings:
    """How prompts are put and answers chosen; raises UsageError for a value that does not exist."""

    choice: str = "auto"
    """Which mask of a first decoding: of three the one whose predicted IoU is best ("iou") or which agrees with most of
    the given points, then IoU ("agreement"); the one for clear prompts ("single": SAM 2 and 3 still fall back to the best
    of three where it is unstable); or, as its authors advise, "iou" for a lone point and "single" otherwise ("auto")."""
    negatives_of_others: str = "points"
    """Other objects' positives as negatives: "always", "never", or ("points") unless either is a mouse trace."""
    most_of_others: int = 10  # the nearest ones; SAM was trained with a handful of points
    refinements: int = 0  # how often the logits go back in
    refine_with_box: bool = True  # and with them the box of the mask they are
    trace_points: int = 6  # positives made of a mouse trace
    trace_keep: float = 0.73  # share of a mouse trace that lies on its object (VidLN, Sec. 3)
    chunk: int | None = None  # objects decoded at once; None: 2 on a CPU (beyond, memory traffic takes over), else 32
    half: bool | None = None  # encode the image in half precision; None: on a GPU. Prompts and masks stay in float32

    def __post_init__(self) -> None:
        one_of(self.choice, CHOICES, "choice")
        one_of(self.negatives_of_others, (*OTHERS, "always"), "negatives_of_others")
        for name, least in (("most_of_others", 0), ("refinements", 0), ("trace_points", 1), ("chunk", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}; give {least} or more")


class SamSegmenter:
    """One model of the SAM family as an engine; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder or hub id, such as facebook/sam-vit-huge, facebook/sam2.1-hiera-large or facebook/sam3.
        settings: how it is asked.
        device: where it runs; a GPU if there is one.

    Raises:
        UsageError: no checkpoint, or a device that is not here.
        DataError: no such checkpoint, not one of the family, or weights missing, unknown or of another size.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        settings: SamSettings | None = None,
        device: str | None = None,
    ) -> None:
        if checkpoint is None:
            raise UsageError("this segmenter has no weights of its own; name a checkpoint: facebook/sam2.1-hiera-tiny")
        self.settings = settings or SamSettings()
        self.device = device_named(device)
        self.family, model = load_sam(checkpoint)
        self.fingerprint = fingerprint(model)
        self.model: Any = model.to(self.device).eval()  # type: ignore[arg-type]
        self._side = int(self.model.prompt_encoder.input_image_size)
        self._mean, self._std = normalisation(checkpoint, self.family, self.device)
        self._two_way = TwoWay(self.model.mask_decoder.transformer)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; zeros for an object with no positive, box or mask."""
        fit = self._fit(*image.shape[:2])
        result = torch.zeros(len(prompts), fit.height, fit.width)
        asked = {k: ask for k, ask in enumerate(self._asks(fit, prompts)) if ask is not None}
        if not asked:
            return result.numpy()
        levels = self._encode(image, fit)
        # What may be decoded together: one answer or several, with or without a box, with or without a mask
        kinds: dict[tuple[bool, ...], list[int]] = {}
        for k, ask in asked.items():
            kinds.setdefault((self._several(ask), ask.box is not None, ask.mask is not None), []).append(k)
        size = self.settings.chunk or (2 if self.device.type == "cpu" else 32)
        for (several, *_), members in kinds.items():
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                asks = [asked[k] for k in chunk]
                logits = self._refine(levels, asks, self._decode(levels, asks, several), fit)
                result[chunk] = fit.to_image(logits).sigmoid_().cpu()
        return result.numpy()

    def _fit(self, height: int, width: int) -> SquareFit:
        side = rows = columns = self._side
        if self.family.keeps_aspect:
            scale = side / max(height, width)
            rows, columns = (max(1, int(length * scale + 0.5)) for length in (height, width))
        return SquareFit(height, width, rows, columns, side, 4 * self.model.prompt_encoder.image_embedding_size[0])

    def _encode(self, image: np.ndarray, fit: SquareFit) -> list[Tensor]:
        """Feature levels float32 [1, C, h, w] of an image, coarsest last."""
        pixels = fit.pixels(image, self._mean, self._std)
        self._two_way.new_image()
        with self._precision():
            levels = self.model.get_image_embeddings(pixels)
        return [level.float() for level in (levels if isinstance(levels, list) else [levels])]

    def _precision(self) -> AbstractContextManager[Any]:
        """Half precision for the image encoder alone: coordinates lose whole pixels in bfloat16."""
        half = self.settings.half if self.settings.half is not None else self.device.type == "cuda"
        bfloat = self.device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16 if bfloat else torch.float16, enabled=half)

    def _asks(self, fit: SquareFit, prompts: Sequence[PointPrompts]) -> list[Ask | None]:
        """What the model is asked of each object; None where nothing says where it is."""
        s = self.settings
        positive = [
            medoids(trim_trace(p.positive, s.trace_keep), s.trace_points) if p.trace else p.positive for p in prompts
        ]
        asks: list[Ask | None] = []
        for k, prompt in enumerate(prompts):
            mask = prompt.mask if prompt.mask is not None and (prompt.mask > 0.5).any() else None
            if not len(positive[k]) and prompt.box is None and mask is None:
                asks.append(None)
                continue
            negative = np.concatenate([prompt.negative, self._of_others(k, prompts, positive)])
            points = np.concatenate([positive[k], negative])
            asks.append(
                Ask(
                    fit.to_square(points),
                    np.repeat([POSITIVE, NEGATIVE], [len(positive[k]), len(negative)]),
                    None if prompt.box is None else fit.to_square(prompt.box.reshape(2, 2)).reshape(4),
                    None if mask is None else fit.to_logits(mask).to(self.device),
                )
            )
        return asks

    def _of_others(self, k: int, prompts: Sequence[PointPrompts], positive: list[np.ndarray]) -> np.ndarray:
        """The positives [N, 2] of other objects that object k is told are not it."""
        rule = self.settings.negatives_of_others
        if rule == "never" or (rule == "points" and prompts[k].trace):
            return np.empty((0, 2), np.float32)
        others = [points for i, points in enumerate(positive) if i != k and not (rule == "points" and prompts[i].trace)]
        points = np.concatenate([np.empty((0, 2), np.float32), *others])
        if not len(positive[k]) or len(points) <= self.settings.most_of_others:
            return points[: self.settings.most_of_others]
        distance = np.linalg.norm(points[:, None] - positive[k], axis=-1).min(1)
        return points[np.argsort(distance, kind="stable")[: self.settings.most_of_others]]

    def _several(self, ask: Ask) -> bool:
        """Whether the decoder should give several masks to choose from."""
        if self.settings.choice == "auto":
            return len(ask.points) == 1 and ask.box is None and ask.mask is None
        return self.settings.choice != "single"

    def _decode(self, levels: list[Tensor], asks: Sequence[Ask], several: bool) -> Tensor:
        """The chosen mask of each object, logits float32 [K, h, w]; all asks have a box or none has, masks likewise."""
        count = max(1, *(len(ask.points) for ask in asks))
        points = np.zeros((len(asks), 1, count, 2), np.float32)
        labels = np.full((len(asks), 1, count), IGNORED)
        for k, ask in enumerate(asks):
            points[k, 0, : len(ask.points)], labels[k, 0, : len(ask.points)] = ask.points, ask.labels
        boxes = [ask.box for ask in asks if ask.box is not None]
        masks = [ask.mask for ask in asks if ask.mask is not None]
        inputs = {"input_points": torch.from_numpy(points), "input_labels": torch.from_numpy(labels)}
        if boxes:
            inputs["input_boxes"] = torch.from_numpy(np.stack(boxes))[:, None]
        if masks:
            inputs["input_masks"] = torch.stack(masks)[:, None]
        # Objects are the batch: only so may each have a mask prompt of its own. `expand` copies nothing yet.
        seen = [level.expand(len(asks), -1, -1, -1) for level in levels]
        self._two_way.shares = not masks
        answer = self.model(
            image_embeddings=seen if len(seen) > 1 else seen[0],
            multimask_output=several,
            **{name: value.to(self.device) for name, value in inputs.items()},
        )
        self._two_way.shares = False
        logits, iou = answer.pred_masks[:, 0].float(), answer.iou_scores[:, 0].float()
        if self.settings.choice == "agreement" and several:
            right = torch.stack([_agreement(m, ask, self._side) for m, ask in zip(logits, asks, strict=True)])
            iou = iou.masked_fill(right < right.amax(1, keepdim=True), -torch.inf)
        return logits[torch.arange(len(asks), device=logits.device), iou.argmax(1)]

    def _refine(self, levels: list[Tensor], asks: Sequence[Ask], logits: Tensor, fit: SquareFit) -> Tensor:
        """Feed logits [K, h, w] back in; a mask narrower than two pixels of the square stays as it is (SAM-PT)."""
        for _ in range(self.settings.refinements):
            boxes = [fit.box_of(mask) for mask in (logits > 0).cpu()]
            again = [k for k, box in enumerate(boxes) if box is not None]
            if not again:
                break
            refined = [replace(asks[k], mask=logits[k].clamp(-MOST, MOST)) for k in again]
            if self.settings.refine_with_box:  # a box the user drew stands
                refined = [
                    a if a.box is not None else replace(a, box=boxes[k]) for k, a in zip(again, refined, strict=True)
                ]
            logits = logits.clone()
            logits[again] = self._decode(levels, refined, several=False)
        return logits


@dataclass(frozen=True)
class Ask:
    """The prompts of one object in the coordinates of the model's square input."""

    points: np.ndarray  # float32 [P, 2]
    labels: np.ndarray  # int [P], POSITIVE or NEGATIVE
    box: np.ndarray | None  # float32 [4]
    mask: Tensor | None  # logits float32 [h, w]


@dataclass(frozen=True)
class SquareFit(Fit):
    """How an image of height x width lies in the model's square: as rows x columns, from the upper left corner on."""

    side: int  # of the square input
    low: int  # side of the decoder's logits

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """Pixel positions [P, 2] -> float32 [P, 2] in the square, as the processors of transformers scale them."""
        return (xy * np.array([self.columns / self.width, self.rows / self.height])).astype(np.float32)

    def pixels(self, image: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
        """An image uint8 [H, W, 3] as float32 [1, 3, side, side], by `normalisation`, on its device."""
        pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        pixels = F.interpolate(pixels, (self.rows, self.columns), mode="bilinear", antialias=True)
        pixels = (pixels.to(mean.device) / 255 - mean) / std
        return F.pad(pixels, (0, self.side - self.columns, 0, self.side - self.rows))

    def to_logits(self, mask: np.ndarray) -> Tensor:
        """A mask in [0, 1] float32 [H, W] -> logits [h, w] as a prompt; raises ValueError for another size."""
        if mask.shape != (self.height, self.width):
            raise ValueError(
                f"mask prompt of {mask.shape[1]}x{mask.shape[0]} in an image of {self.width}x{self.height}"
            )
        size = [max(1, round(length * self.low / self.side)) for length in (self.rows, self.columns)]
        small = F.interpolate(torch.tensor(mask)[None, None], size, mode="bilinear", antialias=True)[0, 0]
        outside = (0, self.low - size[1], 0, self.low - size[0])
        return F.pad(SURE * (2 * small - 1), outside, value=-SURE)

    def to_image(self, logits: Tensor) -> Tensor:
        """Logits [K, h, w] of the square -> [K, H, W] of the image, bilinear."""
        used = [length * self.low / self.side for length in (self.rows, self.columns)]  # rows and columns, not whole
        part = logits[:, None, : math.ceil(used[0]) + 1, : math.ceil(used[1]) + 1]
        # One more row and column, equal to the last: past the rim of the logits, and so that the size below suffices
        part = F.pad(part, (0, 1, 0, 1), mode="replicate")
        scale = (self.height / used[0], self.width / used[1])
        large = F.interpolate(part, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)
        return large[:, 0, : self.height, : self.width]

    def box_of(self, mask: Tensor) -> np.ndarray | None:
        """The box float32 [4] of a mask bool [h, w] in the square; None if it is narrower than two pixels there."""
        pixel = self.side / self.low
        ends = []
        for axis, length in ((0, self.columns), (1, self.rows)):
            inside = torch.nonzero(mask.any(axis))[:, 0]
            if not len(inside):
                return None
            ends.append((float(inside[0]) * pixel, min((float(inside[-1]) + 1) * pixel, length) - 1))
        (x0, x1), (y0, y1) = ends
        return np.array([x0, y0, x1, y1], np.float32) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _agreement(masks: Tensor, ask: Ask, side: int) -> Tensor:
    """Share [M] of an object's points that each of its masks [M, h, w] puts on the right side; ones without points."""
    if not len(ask.points):
        return masks.new_ones(len(masks))
    height, width = masks.shape[1:]
    column, row = (((ask.points + 0.5) * [width / side, height / side]).astype(int).clip(0, [width - 1, height - 1])).T
    inside = masks[:, torch.from_numpy(row), torch.from_numpy(column)] > 0
    wanted = torch.from_numpy(ask.labels == POSITIVE).to(inside.device)
    return (inside == wanted).float().mean(1)


def load_sam(
    checkpoint: str | Path, families: Mapping[str, SamFamily] = FAMILIES, named: str = "SAM, SAM 2 or SAM 3"
) -> tuple[SamFamily, PreTrainedModel]:
    """The model of a checkpoint of one of these families, float32; see `SamSegmenter` for what is raised."""
    folder = Path(checkpoint)
    if folder.exists() and not (folder / "config.json").exists():
        raise DataError(checkpoint, reason="no model here (no config.json)", cure="name the folder that holds one")
    config: Any = told(checkpoint, lambda: AutoConfig.from_pretrained(str(checkpoint)), CURE)
    if config.model_type not in families:
        reason = f"a {config.model_type!r} model; expected one of {', '.join(sorted(families))}"
        raise DataError(
            checkpoint, record="config.json", field="model_type", reason=reason, cure=f"name a checkpoint of {named}"
        )
    family = families[config.model_type]
    return family, load_strictly(getattr(transformers, family.model), checkpoint, CURE).float()


def normalisation(checkpoint: str | Path, family: SamFamily, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1, 3, 1, 1] of RGB in [0, 1]: the checkpoint's own, else its family's; DataError for others."""
    try:
        named, _ = ImageProcessingMixin.get_image_processor_dict(str(checkpoint))
    except (OSError, ValueError):  # it brings none
        named = {}
    mean, std = named.get("image_mean") or family.mean, named.get("image_std") or family.std
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        reason = f"image_mean {mean}, image_std {std}; expected three numbers each, the deviations above 0"
        raise DataError(
            checkpoint,
            record="preprocessor_config.json",
            field="image_mean",
            reason=reason,
            cure="mend or remove the file",
        )
    made = [torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std)]
    return made[0], made[1]
