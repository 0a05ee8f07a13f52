"""DynaMITe as a segmenter: all objects of an image in one pass (Rana et al., ICCV 2023; model: `vng.models.dynamite`).

Positives are clicks on their object, a mouse trace is one query (Point-VOS, Sec. 3.2). Objects compete for every pixel,
so other objects' positives need not be added as negatives. Negatives become clicks on the background; but a negative
may lie on another object, where a background click would remove that object's pixels. With several objects, a first
pass with positives only finds the mask below each negative; negatives on another object are left out.

Choices: clicks are numbered object by object, background last; images are scaled as in the authors' tests (short side
800, long side at most 1333) unless `short_side` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from vng.errors import UsageError, one_of
from vng.models.dynamite.clicks import Prompts, Trace, trace_pixels
from vng.models.dynamite.import_checkpoint import from_file
from vng.models.dynamite.modeling_dynamite import DynamiteModel, EncodedImage, instance_logits
from vng.models.dynamite.processing_dynamite import InputFit, probabilities
from vng.models.loading import device_named, fingerprint, load_strictly
from vng.points import BACKGROUND, Click, PointPrompts
from vng.segmenters import Segmenter


@dataclass(frozen=True)
class DynamiteSettings:
    """Settings of the engine; raises UsageError for an unknown value."""

    short_side: int | None = None  # pixels; None: the checkpoint's, 0: images are not scaled
    # "together": all objects of an image in one pass, as DynaMITe does, and a pixel belongs to one of them; "alone":
    # each in a pass with its own negatives, as Point-VOS makes masks, which may overlap
    objects: str = "together"

    def __post_init__(self) -> None:
        one_of(self.objects, ("together", "alone"), "value of objects")


class DynamiteSegmenter(Segmenter):
    """The DynaMITe segmenter; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder or hub id that `from_pretrained` opens, or the authors' `.pth`; required.
        settings: None: the defaults.
        device: None: a GPU if there is one.

    Raises:
        UsageError: no checkpoint.
        DataError: the checkpoint cannot be loaded, or its weights do not fit (listed by name).
    """

    takes_boxes = False

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        settings: DynamiteSettings | None = None,
        device: str | None = None,
    ) -> None:
        self.settings = settings or DynamiteSettings()
        if checkpoint is None:
            raise UsageError(
                "segmenter 'dynamite' requires --checkpoint: "
                "a folder or hub id of a trained DynaMITe, or the authors' .pth"
            )
        if Path(checkpoint).suffix in (".pth", ".pt"):
            model = from_file(checkpoint)
        else:
            model = load_strictly(DynamiteModel, checkpoint)
        self.fingerprint = fingerprint(model)
        if self.settings.short_side is not None:
            model.config.short_side = self.settings.short_side
        self.device = device_named(device)
        self.model = model.eval().to(self.device)

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; an object without positives gets zeros."""
        return self.encoded(image)(prompts)

    def encoded(self, image: np.ndarray) -> Callable[[Sequence[PointPrompts]], np.ndarray]:
        """See `Segmenter.encoded`."""
        fit = InputFit.of(image, self.model.config)

        @cache
        def features() -> EncodedImage:
            return self.model.encode_image(fit.pixel_values(image).to(self.device))

        return lambda prompts: self._all(features, fit, prompts)

    @torch.inference_mode()
    def _all(self, features: Callable[[], EncodedImage], fit: InputFit, prompts: Sequence[PointPrompts]) -> np.ndarray:
        result = np.zeros((len(prompts), fit.height, fit.width), np.float32)
        prompted = [k for k, prompt in enumerate(prompts) if len(prompt.positive)]
        if not prompted:
            return result
        encoded = features()
        for group in [prompted] if self.settings.objects == "together" else [[k] for k in prompted]:
            result[group] = self._segmented(encoded, fit, [prompts[k] for k in group])
        return result

    def _segmented(self, encoded: EncodedImage, fit: InputFit, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """Probabilities float32 [K, H, W] of objects that share the pixels."""
        queries = _positives(prompts, fit)
        negatives = [fit.places(prompt.negative) for prompt in prompts]
        places = self._on_background(encoded, queries, negatives) if len(prompts) > 1 else negatives[0]
        places = np.unique(places, axis=0)
        queries += [Click(float(y), float(x), len(queries) + i, BACKGROUND) for i, (y, x) in enumerate(places)]
        output = self.model.segment(encoded, Prompts.of([queries], self.device))
        assert output.mask_logits is not None and output.owners is not None
        logits = instance_logits(
            output.mask_logits[0],
            output.owners[0],
            len(prompts),
            fit.padded,
            inner=(fit.rows, fit.columns),
            wanted=(fit.height, fit.width),
        )
        return probabilities(logits).cpu().numpy()

    def _on_background(
        self, encoded: EncodedImage, queries: list[Click | Trace], negatives: list[np.ndarray]
    ) -> np.ndarray:
        """The negatives [P', 2], of all [P, 2], that do not lie on another object in a pass without negatives."""
        places = np.concatenate(negatives)
        if not len(places):
            return places
        output = self.model.segment(encoded, Prompts.of([queries], self.device))
        assert output.mask_logits is not None and output.owners is not None
        shares = (torch.from_numpy(places).to(self.device) + 0.5) / torch.tensor(encoded.size, device=self.device)
        logits = sample_point(output.mask_logits.float(), shares.flip(-1)[None], align_corners=False)[0]  # [Q, P]
        owners = output.owners[0][logits.argmax(0)].cpu().numpy()
        origin = np.repeat(np.arange(len(negatives)), [len(n) for n in negatives])
        return places[(owners == BACKGROUND) | (owners == origin)]


def _positives(prompts: Sequence[PointPrompts], fit: InputFit) -> list[Click | Trace]:
    """Clicks and traces of the objects' positives, numbered consecutively."""
    queries: list[Click | Trace] = []
    for k, prompt in enumerate(prompts):
        places = fit.places(prompt.positive)
        if prompt.trace:
            queries.append(Trace(trace_pixels(places, fit.padded), len(queries), k))
        else:
            queries += [Click(float(y), float(x), len(queries) + i, k) for i, (y, x) in enumerate(places)]
    return queries
