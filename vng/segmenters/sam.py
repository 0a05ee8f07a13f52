"""SAM, HQ-SAM, SAM 2 (and 2.1) and the tracker of SAM 3 as segmenters, through `transformers`.

The image is encoded once; the objects are decoded in chunks. Three things are implemented here, not in `transformers`:

* *Padding.* Objects have different numbers of points. The processors pad with label -10, which makes the token zero
  but lets all other tokens attend to it, so that a mask depends on the other objects in its batch. `TwoWay` masks
  those tokens: a batch gives the same masks as its objects one by one.
* *Processors.* Those of SAM 2 and 3 require torchvision. The same is done here: bilinear with antialias on uint8;
  SAM: longer side to 1024 and zeros below or to the right; SAM 2: a square of 1024; SAM 3: a square of 1008.
  Coordinates are pixel index times (resized / original side), as there; the prompt encoders then add half a pixel.
* *Post-processing.* SAM upsamples to the image via a map of 1024 x 1024 per object; here one bilinear step from the
  decoder's logits (256 x 256, in SAM 3 288 x 288), for the chosen mask only.

Refinement (SAM-PT, PEERS.md section 5): the logits of the mask and its box are fed back with the points.
Shapes: K objects, P points, M masks per decoding, H x W image, h x w decoder's logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin

from vng.errors import DataError, UsageError, one_of
from vng.models.fit import Fit
from vng.models.loading import device_named, fingerprint
from vng.models.published import load_published
from vng.points import OTHERS, PointPrompts, medoids, trim_trace
from vng.segmenters import Decoded, Decoder, Segmenter
from vng.segmenters.sam_decoder import TwoWay

POSITIVE, NEGATIVE, IGNORED = 1, 0, -10  # labels of the prompt encoders
CHOICES = ("auto", "iou", "agreement", "single")
SURE = 10.0  # logit of a mask prompt's certain pixels (SAM 2's scale for input masks)
MOST = 32.0  # logits that are fed back are clipped to this, as in SAM 2's predictor
CURE = "name a folder or hub id with whole safetensors, or check the network"


@dataclass(frozen=True)
class SamFamily:
    """Properties shared by the checkpoints of one generation."""

    model: str  # class in transformers
    mean: tuple[float, ...]  # of RGB in [0, 1], for checkpoints without preprocessor_config.json
    std: tuple[float, ...]
    keeps_aspect: bool  # whether images are padded to the square, not stretched
    session: str = ""  # class in transformers that holds a video's state; "" for models of images
    early_map: bool = False  # whether the decoder reads the first map inside the image encoder too (HQ-SAM)


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SAM = SamFamily("SamModel", *_IMAGENET, keeps_aspect=True)
_SAM2 = SamFamily("Sam2Model", *_IMAGENET, keeps_aspect=False)
_SAM3 = SamFamily("Sam3TrackerModel", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), keeps_aspect=False)
# By `model_type` in a checkpoint's config.json; video models include the weights of the image model.
FAMILIES = {
    "sam": _SAM,
    "sam_hq": replace(_SAM, model="SamHQModel", early_map=True),
    "sam2": _SAM2,
    "sam2_video": _SAM2,
    "sam3_tracker": _SAM3,
    "sam3_tracker_video": _SAM3,
    "sam3_video": _SAM3,
}
VIDEO_FAMILIES = {
    "sam2_video": replace(_SAM2, model="Sam2VideoModel", session="Sam2VideoInferenceSession"),
    "edgetam_video": replace(_SAM2, model="EdgeTamVideoModel", session="EdgeTamVideoInferenceSession"),
    "sam3_tracker_video": replace(_SAM3, model="Sam3TrackerVideoModel", session="Sam3TrackerVideoInferenceSession"),
}


@dataclass(frozen=True, kw_only=True)
class SamSettings:
    """How prompts are built and masks chosen; raises UsageError for an invalid value."""

    choice: str = "auto"
    """The mask chosen from the first decoding. "iou": of three masks, that with the highest predicted IoU. "agreement":
    of three masks, that which agrees with most points, then by IoU. "single": the one mask for unambiguous prompts (SAM
    2 and 3 fall back to the best of three if it is unstable). "auto": "iou" for a single point, otherwise "single", as
    the authors recommend."""
    negatives_of_others: str = "points"
    """Other objects' positives as negatives: "always", "never", or "points": unless one of the two is a mouse trace."""
    most_of_others: int = 10  # maximum number of these, nearest first; SAM was trained with few points
    refinements: int = 0  # how often the logits are fed back
    refine_with_box: bool = True  # whether the box of the mask is fed back too
    trace_points: int = 6  # number of positives chosen from a mouse trace
    trace_keep: float = 0.73  # share of a mouse trace that lies on its object (VidLN, Sec. 3)
    chunk: int | None = None  # objects decoded at once; None: 2 on a CPU (limited by memory bandwidth), else 32
    half: bool | None = None  # encode images in half precision; None: on a GPU. Prompts and masks stay in float32

    def __post_init__(self) -> None:
        one_of(self.choice, CHOICES, "choice")
        one_of(self.negatives_of_others, (*OTHERS, "always"), "negatives_of_others")
        for name, least in (("most_of_others", 0), ("refinements", 0), ("trace_points", 1), ("chunk", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}; give {least} or more")


class SamSegmenter(Segmenter):
    """A segmenter with one model of the SAM family; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder or hub id, such as facebook/sam-vit-huge, facebook/sam2.1-hiera-large or facebook/sam3.
        settings: None: the defaults.
        device: None: a GPU if there is one.

    Raises:
        UsageError: no checkpoint, or an unavailable device.
        DataError: no such checkpoint, one of another family, or weights that are missing, unknown or of another size.
    """

    takes_boxes = True
    takes_feedback = True

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
        self._decoded: list[Tensor] | None = None  # the levels decoded last

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; zeros for an object with no positive, box or mask."""
        return self.encoded(image)(prompts)

    def encoded(self, image: np.ndarray) -> Callable[[Sequence[PointPrompts]], np.ndarray]:
        """See `Segmenter.encoded`."""
        fit = self._fit(*image.shape[:2])
        levels = cache(lambda: self._encode(image, fit))
        return lambda prompts: self._segmented(levels, fit, prompts)

    def decoder(self, image: np.ndarray) -> Decoder:
        """See `Segmenter.decoder`: one mask a pass; the feedback is the decoder's low-resolution logits."""
        fit = self._fit(*image.shape[:2])
        levels = cache(lambda: self._encode(image, fit))
        return lambda prompts, feedback: self._passed(levels(), fit, prompts, feedback)

    @torch.no_grad()
    def _passed(
        self, levels: list[Tensor], fit: SquareFit, prompts: Sequence[PointPrompts], feedback: Sequence[Any] | None
    ) -> Decoded:
        self._of_image(levels)
        asks = {}
        for k, prompt in enumerate(prompts):
            points = np.concatenate([prompt.positive, prompt.negative])
            asks[k] = Ask(
                fit.to_square(points),
                np.repeat([POSITIVE, NEGATIVE], [len(prompt.positive), len(prompt.negative)]),
                None if prompt.box is None else fit.to_square(prompt.box.reshape(2, 2)).reshape(4),
                None if feedback is None or feedback[k] is None else feedback[k].clamp(-MOST, MOST),
            )
        logits = np.empty((len(prompts), fit.height, fit.width), np.float32)
        scores, low = np.empty(len(prompts), np.float32), [torch.empty(0)] * len(prompts)
        for _, chunk in self._together(asks, lambda ask: False):
            masks, found = self._decode_scored(levels, [asks[k] for k in chunk], several=False)
            logits[chunk], scores[chunk] = fit.to_image(masks).cpu().numpy(), found.cpu().numpy()
            for k, mask in zip(chunk, masks, strict=True):
                low[k] = mask
        return Decoded(logits=logits, scores=scores, feedback=tuple(low))

    def _of_image(self, levels: list[Tensor]) -> None:
        """Forget what the decoder keeps of another image."""
        if levels is not self._decoded:
            self._two_way.new_image()
            self._decoded = levels

    def _together(self, asks: Mapping[int, Ask], several: Callable[[Ask], bool]) -> Iterator[tuple[bool, list[int]]]:
        """Objects that are decoded together: alike in the number of masks, and in whether they have a box and a mask."""
        kinds: dict[tuple[bool, ...], list[int]] = {}
        for k, ask in asks.items():
            kinds.setdefault((several(ask), ask.box is not None, ask.mask is not None), []).append(k)
        size = self.settings.chunk or (2 if self.device.type == "cpu" else 32)
        for (many, *_), members in kinds.items():
            for start in range(0, len(members), size):
                yield many, members[start : start + size]

    @torch.no_grad()
    def _segmented(
        self, encoded: Callable[[], list[Tensor]], fit: SquareFit, prompts: Sequence[PointPrompts]
    ) -> np.ndarray:
        result = torch.zeros(len(prompts), fit.height, fit.width)
        asks = {k: ask for k, ask in enumerate(self._asks(fit, prompts)) if ask is not None}
        if not asks:
            return result.numpy()
        levels = encoded()
        self._of_image(levels)
        for several, chunk in self._together(asks, self._several):
            group = [asks[k] for k in chunk]
            logits = self._refine(levels, group, self._decode(levels, group, several), fit)
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
        with self._precision():
            levels = self.model.get_image_embeddings(pixels)
        if self.family.early_map:
            levels = [levels[0], levels[1][0].permute(0, 3, 1, 2)]
        return [level.float() for level in (levels if isinstance(levels, list) else [levels])]

    def _precision(self) -> AbstractContextManager[Any]:
        """Half precision for the image encoder only: in bfloat16, coordinates are off by whole pixels."""
        half = self.settings.half if self.settings.half is not None else self.device.type == "cuda"
        bfloat = self.device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16 if bfloat else torch.float16, enabled=half)

    def _asks(self, fit: SquareFit, prompts: Sequence[PointPrompts]) -> list[Ask | None]:
        """The prompts of each object for the model; None for an object with no positive, box or mask."""
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
        """The positives [N, 2] of other objects that become negatives of object k."""
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
        """Whether the decoder should return several masks to choose from."""
        if self.settings.choice == "auto":
            return len(ask.points) == 1 and ask.box is None and ask.mask is None
        return self.settings.choice != "single"

    def _decode(self, levels: list[Tensor], asks: Sequence[Ask], several: bool) -> Tensor:
        """The chosen mask of each object, logits float32 [K, h, w]; all `asks` or none have a box, likewise masks."""
        return self._decode_scored(levels, asks, several)[0]

    def _decode_scored(self, levels: list[Tensor], asks: Sequence[Ask], several: bool) -> tuple[Tensor, Tensor]:
        """As `_decode`, and the predicted IoU [K] of the chosen masks."""
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
        # Objects form the batch, so that each may have its own mask prompt. `expand` copies nothing.
        expanded = [level.expand(len(asks), -1, -1, -1) for level in levels]
        more = {"intermediate_embeddings": [expanded.pop().permute(0, 2, 3, 1)]} if self.family.early_map else {}
        self._two_way.shares = not masks
        output = self.model(
            image_embeddings=expanded if len(expanded) > 1 else expanded[0],
            multimask_output=several,
            **more,
            **{name: value.to(self.device) for name, value in inputs.items()},
        )
        self._two_way.shares = False
        logits, iou = output.pred_masks[:, 0].float(), output.iou_scores[:, 0].float()
        if self.settings.choice == "agreement" and several:
            right = torch.stack([_agreement(m, ask, self._side) for m, ask in zip(logits, asks, strict=True)])
            iou = iou.masked_fill(right < right.amax(1, keepdim=True), -torch.inf)
        chosen = torch.arange(len(asks), device=logits.device), iou.argmax(1)
        return logits[chosen], output.iou_scores[:, 0].float()[chosen]

    def _refine(self, levels: list[Tensor], asks: Sequence[Ask], logits: Tensor, fit: SquareFit) -> Tensor:
        """Feed logits [K, h, w] back; masks narrower than two pixels of the square are left unchanged (SAM-PT)."""
        for _ in range(self.settings.refinements):
            boxes = [fit.box_of(mask) for mask in (logits > 0).cpu()]
            again = [k for k, box in enumerate(boxes) if box is not None]
            if not again:
                break
            refined = [replace(asks[k], mask=logits[k].clamp(-MOST, MOST)) for k in again]
            if self.settings.refine_with_box:  # a box given by the user is kept
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
    """The mapping of an image of height x width to the model's square: rows x columns in its upper left corner."""

    side: int  # of the square input
    low: int  # side of the decoder's logits

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """Pixel positions [P, 2] -> float32 [P, 2] in the square, scaled as by the processors of transformers."""
        return (xy * np.array([self.columns / self.width, self.rows / self.height])).astype(np.float32)

    def pixels(self, image: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
        """An image uint8 [H, W, 3] as float32 [1, 3, side, side], normalised, on the device of `mean`."""
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
        # One more row and column, equal to the last: for the edge of the logits, and to cover the size below.
        part = F.pad(part, (0, 1, 0, 1), mode="replicate")
        scale = (self.height / used[0], self.width / used[1])
        large = F.interpolate(part, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)
        return large[:, 0, : self.height, : self.width]

    def box_of(self, mask: Tensor) -> np.ndarray | None:
        """The box float32 [4] of a mask bool [h, w] in the square; None if narrower than two pixels there."""
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
    """Share [M] of an object's points that each mask [M, h, w] puts on the right side; 1 if there are no points."""
    if not len(ask.points):
        return masks.new_ones(len(masks))
    height, width = masks.shape[1:]
    column, row = (((ask.points + 0.5) * [width / side, height / side]).astype(int).clip(0, [width - 1, height - 1])).T
    inside = masks[:, torch.from_numpy(row), torch.from_numpy(column)] > 0
    positive = torch.from_numpy(ask.labels == POSITIVE).to(inside.device)
    return (inside == positive).float().mean(1)


def load_sam(
    checkpoint: str | Path, families: Mapping[str, SamFamily] = FAMILIES, named: str = "SAM, SAM 2 or SAM 3"
) -> tuple[SamFamily, PreTrainedModel]:
    """The family and model, float32, of a checkpoint of one of `families`; raises errors as `SamSegmenter` does."""
    classes = {name: family.model for name, family in families.items()}
    model, config = load_published(checkpoint, classes, f"a checkpoint of {named}", cure=CURE, surplus=False)
    return families[config.model_type], model


def normalisation(checkpoint: str | Path, family: SamFamily, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1, 3, 1, 1] of RGB in [0, 1]: of the checkpoint, else of its family.

    Raises DataError for invalid values.
    """
    try:
        config, _ = ImageProcessingMixin.get_image_processor_dict(str(checkpoint))
    except (OSError, ValueError):  # there is none
        config = {}
    mean, std = config.get("image_mean") or family.mean, config.get("image_std") or family.std
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        reason = f"image_mean {mean}, image_std {std}; expected three numbers each, with deviations above 0"
        raise DataError(
            checkpoint,
            record="preprocessor_config.json",
            field="image_mean",
            reason=reason,
            cure="fix or remove the file",
        )
    tensors = [torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std)]
    return tensors[0], tensors[1]
