"""DynaMITe as a segmenter: all objects of an image in one pass (Rana et al., ICCV 2023; network in `vng.models.dynamite`).

Positives are clicks on their object, a mouse trace is one query (Point-VOS, Sec. 3.2). Objects compete for every pixel,
so other objects' positives need no telling. Negatives become clicks on the background; but what is not this object
may be another one, and a background click there would cost it its pixels. Where there are several objects, a first pass with
positives alone says on whose mask a negative lies; those on another object's are left out.

Choices: clicks are numbered object by object, background last; images are scaled as the authors test (short side 800, long
side at most 1333) unless `short_side` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from vng.errors import UsageError
from vng.models.dynamite.clicks import Prompts, Trace
from vng.models.dynamite.import_checkpoint import from_file
from vng.models.dynamite.modeling_dynamite import DynamiteModel, EncodedImage, instance_logits
from vng.models.dynamite.processing_dynamite import InputFit, probabilities
from vng.models.loading import device_named, fingerprint, load_strictly
from vng.points import BACKGROUND, Click, PointPrompts

TRACE_POINTS = 256  # a longer trace is thinned to so many


class DynamiteSegmenter:
    """The segmenter above, as an engine; see `vng.segmenters.Segmenter` for the call.

    Args:
        checkpoint: a folder or hub id that `from_pretrained` opens, or the authors' `.pth`; required.
        short_side: pixels; instead of the checkpoint's. 0 leaves images as they are.
        device: where to run; None: a GPU if there is one.

    Raises:
        UsageError: no checkpoint.
        DataError: nothing there that loads, or weights that do not fit, with their names.
    """

    def __init__(
        self, checkpoint: str | Path | None = None, short_side: int | None = None, device: str | None = None
    ) -> None:
        if checkpoint is None:
            raise UsageError(
                "segmenter 'dynamite' needs --checkpoint: a folder or hub id of a trained DynaMITe, or the authors' .pth"
            )
        if Path(checkpoint).suffix in (".pth", ".pt"):
            model = from_file(checkpoint)
        else:
            model = load_strictly(DynamiteModel, checkpoint)
        self.fingerprint = fingerprint(model)
        if short_side is not None:
            model.config.short_side = short_side
        self.device = device_named(device)
        self.model = model.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        """image uint8 [H, W, 3], K prompts -> float32 [K, H, W]; an object without positives gets zeros."""
        result = np.zeros((len(prompts), *image.shape[:2]), np.float32)
        known = [k for k, prompt in enumerate(prompts) if len(prompt.positive)]
        if not known:
            return result
        fit = InputFit.of(image, self.model.config)
        encoded = self.model.encode_image(fit.pixel_values(image).to(self.device))
        queries = _positives([prompts[k] for k in known], fit)
        negatives = [fit.places(prompts[k].negative) for k in known]
        places = self._on_background(encoded, queries, negatives) if len(known) > 1 else negatives[0]
        places = np.unique(places, axis=0)
        queries += [Click(float(y), float(x), len(queries) + i, BACKGROUND) for i, (y, x) in enumerate(places)]
        output = self.model.segment(encoded, Prompts.of([queries], self.device))
        assert output.mask_logits is not None and output.owners is not None
        logits = instance_logits(
            output.mask_logits[0],
            output.owners[0],
            len(known),
            fit.padded,
            inner=(fit.rows, fit.columns),
            wanted=(fit.height, fit.width),
        )
        result[known] = probabilities(logits).cpu().numpy()
        return result

    def _on_background(
        self, encoded: EncodedImage, queries: list[Click | Trace], negatives: list[np.ndarray]
    ) -> np.ndarray:
        """Those of the objects' negatives [P, 2] that do not lie on another object, by a pass without them; [P', 2]."""
        places = np.concatenate(negatives)
        if not len(places):
            return places
        output = self.model.segment(encoded, Prompts.of([queries], self.device))
        assert output.mask_logits is not None and output.owners is not None
        shares = (torch.from_numpy(places).to(self.device) + 0.5) / torch.tensor(encoded.size, device=self.device)
        read = sample_point(output.mask_logits.float(), shares.flip(-1)[None], align_corners=False)[0]  # [Q, P]
        owners = output.owners[0][read.argmax(0)].cpu().numpy()
        own = np.repeat(np.arange(len(negatives)), [len(n) for n in negatives])
        return places[(owners == BACKGROUND) | (owners == own)]


def _positives(prompts: Sequence[PointPrompts], fit: InputFit) -> list[Click | Trace]:
    """Clicks and traces of the objects' positives, numbered through."""
    queries: list[Click | Trace] = []
    for k, prompt in enumerate(prompts):
        places = fit.places(prompt.positive)
        if prompt.trace:
            kept = np.linspace(0, len(places) - 1, min(len(places), TRACE_POINTS)).round().astype(int)
            queries.append(Trace(places[kept], len(queries), k))
        else:
            queries += [Click(float(y), float(x), len(queries) + i, k) for i, (y, x) in enumerate(places)]
    return queries
