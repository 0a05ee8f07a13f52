"""Inference of a trained grounder: a video and a narrative in, a mask per noun and frame out.

Shapes: N nouns, T frames, t frames of a window, Q queries, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vng.errors import DataError, UsageError, one_of
from vng.frames import Frames, as_frames
from vng.grounding import Grounder
from vng.grounding.ground_then_propagate import Grounded, GroundThenPropagate, PropagationSettings
from vng.grounding.result import GroundedPart, GroundingResult
from vng.grounding.windows import QueryRecord, Window, WindowSettings
from vng.manifest import file_hash
from vng.masks import RLE, encode
from vng.models.frame_maps import FrameMaps
from vng.models.loading import device_named, fingerprint
from vng.models.referformer.loading import load_model, load_processor
from vng.models.referformer.modeling_referformer import ReferFormerForVNG
from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.models.transfer import ahead, masks_to_host
from vng.narratives import DEFAULT_PIPELINE, nouns_in

DTYPES = ("float32", "bfloat16", "float16")
ONE_CELL = 64  # pixels per side covered by one cell of the coarsest map
AT_ONCE = 8  # number of masks resized to the frames together


@dataclass(frozen=True)
class ComputeSettings:
    """How the network computes; raises UsageError for an unknown precision."""

    dtype: str = "float32"  # of convolutions and matrix products (autocast); weights stay as they are
    compile: bool = False  # use torch.compile: slow to start, faster afterwards

    def __post_init__(self) -> None:
        one_of(self.dtype, DTYPES, "dtype")


class NarrativeGrounder(Grounder):
    """A trained grounder, ready for videos and narratives.

    grounder = NarrativeGrounder.from_pretrained("out/oops-vng")
    result = grounder("parrots.mp4", "A green [parrot] is playing with the other [parrot].")

    Args:
        windows: how videos are split; this determines memory, not the length of a video.
        propagation: if given, masks of the most confident frames are propagated through the video.
        compute: precision and compilation.
        nouns: the spaCy pipeline that finds nouns if none is marked.

    Attributes:
        shares_features: whether the propagator uses the feature maps of the backbone, as both are one network.
    """

    def __init__(
        self,
        model: ReferFormerForVNG,
        processor: ReferFormerProcessor,
        device: str | None = None,
        *,
        windows: WindowSettings | None = None,
        propagation: PropagationSettings | None = None,
        compute: ComputeSettings | None = None,
        nouns: str = DEFAULT_PIPELINE,
    ) -> None:
        self.device = device_named(device)
        self.model: ReferFormerForVNG = model.eval()
        torch.nn.Module.to(self.model, self.device)
        self.processor = processor
        self.windows, self.compute, self.nouns = windows or WindowSettings(), compute or ComputeSettings(), nouns
        self.propagation = None if propagation is None else GroundThenPropagate(propagation, str(self.device))
        self.shares_features = self.propagation is not None and self._one_network(self.propagation)
        self.source: str | None = None  # folder or hub id the model was loaded from
        self.fused = False  # whether layers of the model were fused for inference, so that it cannot be saved
        self.encode: Callable[..., Any] = self.model.encode
        self.decode: Callable[..., Any] = self.model.decode
        if self.compute.compile:
            self.encode, self.decode = torch.compile(self.encode), torch.compile(self.decode)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | None = None,
        dtype: str | None = None,
        compile: bool = False,
        attn_implementation: str | None = None,
        *,
        windows: WindowSettings | None = None,
        propagation: PropagationSettings | None = None,
        nouns: str = DEFAULT_PIPELINE,
    ) -> NarrativeGrounder:
        """Load a run folder or hub id.

        Args:
            device: "cpu", "cuda", ...; None: a GPU if there is one.
            dtype: "float32" (None too), "bfloat16" or "float16".
            compile: compile the network with `torch.compile`.
            attn_implementation: attention of the text encoder and of backbones that use it, as named in `transformers`.
            windows, propagation, nouns: see the class.

        Raises:
            DataError: the folder has no finished model, or its weights do not fit.
            UsageError: an unknown device, precision or attention.
        """
        compute = ComputeSettings(dtype or "float32", compile)
        model = load_model(str(path))
        if attn_implementation is not None:
            try:
                model.set_attn_implementation(attn_implementation)
            except (ValueError, ImportError) as error:
                raise UsageError(f"attention {attn_implementation!r}: {str(error).splitlines()[0]}") from error
        grounder = cls(
            model,
            load_processor(str(path)),
            device,
            windows=windows,
            propagation=propagation,
            compute=compute,
            nouns=nouns,
        )
        grounder.source = str(path)
        if grounder.device.type == "cpu" and compute == ComputeSettings():
            grounder.model.fused()  # faster on a CPU; this model is only used here, not trained or saved
            grounder.fused = True
        return grounder

    def _one_network(self, propagation: GroundThenPropagate) -> bool:
        return propagation.settings.share and propagation.engine.reads_maps_of(self.model.backbone)

    def passes(self, frames: int) -> int:
        """See `Grounder`: one pass over the frames, and one for each direction of propagation."""
        return frames * (1 + (0 if self.propagation is None else self.propagation.passes))

    def content(self) -> str:
        """See `Grounder`: hashes of the model's files, else its hub id, or a hash of its weights."""
        if self.source is None:
            return fingerprint(self.model)
        files = [Path(self.source) / name for name in ("config.json", "model.safetensors")]
        return " ".join(map(file_hash, files)) if all(file.is_file() for file in files) else self.source

    def manifest_settings(self) -> dict[str, Any]:
        """All settings that masks depend on, for a manifest."""
        return {
            "window": self.windows.frames,
            "overlap": self.windows.overlap,
            "dtype": self.compute.dtype,
            "propagation": None if self.propagation is None else self.propagation.manifest_settings(),
        }

    def stream(self, video: str | Path | np.ndarray | Frames, narrative: str) -> Iterator[GroundedPart]:
        """As a call, but yields masks as soon as they are available; for arguments and errors see the call.

        The best query is only known at the end of the video. So each window is first yielded with the best query so far
        (`final` is false), and at the end all frames again with the final masks. If nothing can change (one query, no
        propagation), every frame is yielded once.
        """
        description, spans = nouns_in(narrative, self.nouns)
        return self._stream(_Run(self, _Video(self, as_frames(video)), description, spans))

    def _stream(self, run: _Run) -> Iterator[GroundedPart]:
        with run:
            settled = self.model.config.num_queries == 1 and self.propagation is None
            for window in run.windows():
                yield run.part(window, settled)
            if not settled:
                result = run.result()
                for window in self.windows.of(len(run.frames)):
                    cut = slice(window.fresh, window.stop)
                    rles = tuple(row[cut] for row in result.rles)
                    yield GroundedPart(window.fresh, rles, result.frame_scores[:, cut], final=True)

    def ground_all(
        self,
        frames: Frames,
        narratives: Sequence[tuple[str, Sequence[tuple[int, int]]]],
        on_frames: Callable[[int], object] | None = None,
    ) -> list[GroundingResult]:
        """Ground several narratives of one video, each a description and its noun spans, as `ground` does one.

        They advance window by window together: frames are read, and pass the backbone, once for all of them.
        """
        if not narratives:
            return []
        video = _Video(self, frames, several=len(narratives) > 1)
        with ExitStack() as stack:
            runs = [stack.enter_context(_Run(self, video, *narrative, on_frames)) for narrative in narratives]
            for _ in zip(*(run.windows() for run in runs), strict=True):
                pass
            return [run.result() for run in runs]

    def precision(self) -> torch.autocast:
        """The precision of convolutions and matrix products, for a block."""
        kind = getattr(torch, self.compute.dtype)
        return torch.autocast(self.device.type, kind, enabled=kind != torch.float32)

    def push_to_hub(self, repo_id: str, scores: str | Path | None = None, private: bool = True) -> str:
        """Upload model, processor and model card to the Hugging Face hub; returns the address of its page.

        Args:
            repo_id: "name" or "owner/name"; created if it does not exist.
            scores: a file of `vng evaluate vng --json`, for the card.
            private: whether a new repository is private.
        """
        from vng.grounding.model_card import push

        model = load_model(str(self.source)) if self.fused else self.model
        return push(model, self.processor, self.source, repo_id, scores, private)


@dataclass(frozen=True, kw_only=True)
class _Clip:
    """The frames of a window as input of the network."""

    batch: dict[str, Tensor]  # pixel_values [1, t, 3, h, w], pixel_mask [1, t, h, w]
    count: int  # of frames; a single tiny one is there twice
    resized: tuple[int, int]  # size of a frame in the network's input, without padding
    maps: list[Tensor] | None  # the backbone's, where they are needed more than once


class _Video:
    """The clips of a video, each made once for all narratives; the latest one is kept.

    Args:
        grounder, frames: of the video.
        several: whether there are several narratives, so that the backbone's maps are kept with the clip.
    """

    def __init__(self, grounder: NarrativeGrounder, frames: Frames, several: bool = False) -> None:
        if not len(frames):
            raise DataError(frames.source, reason="this video has no frames", cure="check that it plays")
        self.frames = frames
        self._grounder, self._with_maps = grounder, several or grounder.shares_features
        self._overlap: Tensor | None = None  # pixels of the frames shared with the next window
        self._latest: tuple[Window, _Clip] | None = None
        self._resized = ahead(self._read, grounder.windows.of(len(frames)), grounder.device, depth=1)

    def clip(self, window: Window) -> _Clip:
        """The frames of a window; windows are asked for in order."""
        if self._latest is None or self._latest[0] != window:
            self._latest = None  # before the next one is made
            self._latest = window, self._made(window, next(self._resized))
        return self._latest[1]

    def _read(self, window: Window) -> np.ndarray:
        return self._grounder.processor.resized(self.frames[i] for i in range(window.fresh, window.stop))

    def _made(self, window: Window, resized_frames: np.ndarray) -> _Clip:
        g = self._grounder
        pixels = g.processor.normalised(resized_frames, g.device)
        if window.fresh > window.start and self._overlap is not None:
            pixels = torch.cat([self._overlap, pixels])
        self._overlap = pixels[-g.windows.overlap :] if g.windows.overlap else None
        resized = (int(pixels.shape[2]), int(pixels.shape[3]))
        # Group norm requires more than one cell, so such a frame is repeated, which gives the same result.
        clip = pixels.repeat(2, 1, 1, 1) if len(pixels) == 1 and max(resized) <= ONE_CELL else pixels
        batch = g.processor.pad([clip])
        maps = None
        if self._with_maps:
            with g.precision():
                maps = g.model.feature_maps(batch["pixel_values"])
        return _Clip(batch=batch, count=len(pixels), resized=resized, maps=maps)


class _Run:
    """The grounding of one narrative in one video."""

    def __init__(
        self,
        grounder: NarrativeGrounder,
        video: _Video,
        description: str,
        spans: Sequence[tuple[int, int]],
        on_frames: Callable[[int], object] | None = None,
    ) -> None:
        if not spans:
            raise UsageError("no noun span to ground")
        self.grounder, self.video, self.frames = grounder, video, video.frames
        self.description, self.spans = description, tuple(spans)
        self.on_frames = on_frames or (lambda count: None)
        text = grounder.processor.text([description], [list(spans)])
        self.text = {name: value.to(grounder.device) for name, value in text.items()}
        self.record, self.maps = QueryRecord(), None if not grounder.shares_features else self._new_maps()
        self.resized = (0, 0)  # size of a frame in the network's input, without padding

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.record.close()
        if self.maps is not None:
            self.maps.close()

    def _new_maps(self) -> FrameMaps:
        assert self.grounder.propagation is not None
        size = self.grounder.processor.target_size(*self.frames.size)
        return FrameMaps(*size, self.grounder.propagation.settings.share_bytes)

    def windows(self) -> Iterator[Window]:
        """Process the video window by window; each is yielded after it is recorded."""
        for window in self.grounder.windows.of(len(self.frames)):
            self._process(window)
            self.on_frames(window.stop - window.fresh)
            yield window

    @torch.inference_mode()
    def _process(self, window: Window) -> None:
        g, clip = self.grounder, self.video.clip(window)
        inputs = (clip.batch["pixel_mask"], self.text["input_ids"], self.text["attention_mask"])
        with g.precision():
            if clip.maps is None:
                scene = g.encode(clip.batch["pixel_values"], *inputs)
            else:
                scene = g.encode(None, *inputs, feature_maps=clip.maps)
            logits, _, masks, _ = g.decode(scene, self.text["noun_tokens"])[-1]
        if self.maps is not None and clip.maps is not None:
            for t in range(window.fresh, window.stop):
                self.maps.add(t, [m[t - window.start] for m in clip.maps])
        self.resized = clip.resized
        scores = logits[0, :, : clip.count].float().cpu().numpy()
        self.record.add(window, scores, masks[0, :, : clip.count].half(), g.windows.overlap)

    def part(self, window: Window, final: bool) -> GroundedPart:
        """The latest window, with the best queries so far."""
        scores, cut = self.record.scores(), slice(window.fresh, window.stop)
        chosen = self.record.chosen()
        masks = [self._finish(len(self.record) - 1, n, q)[0] for n, q in enumerate(chosen)]
        part_scores = np.stack([scores[n, cut, q] for n, q in enumerate(chosen)])
        return GroundedPart(window.fresh, tuple(map(tuple, masks)), part_scores, final)

    def result(self) -> GroundingResult:
        """The result for the video, all windows of which must have been processed."""
        scores, chosen = self.record.scores(), self.record.chosen()
        frame_scores = np.stack([scores[n, :, q] for n, q in enumerate(chosen)])
        rles, certainty = [], []
        for n, q in enumerate(chosen):
            parts = [self._finish(number, n, q) for number in range(len(self.record))]
            rles.append(tuple(rle for part, _ in parts for rle in part))
            certainty.append(np.concatenate([sure for _, sure in parts]))
        grounded = Grounded(tuple(rles), frame_scores, np.stack(certainty))
        propagated = None
        if self.grounder.propagation is not None:
            spread = self.grounder.propagation(self.frames, grounded, self.maps, lambda: self.on_frames(1))
            rles, propagated = list(spread.rles), spread.propagated
        return GroundingResult(
            frames=self.frames,
            description=self.description,
            spans=self.spans,
            rles=tuple(rles),
            scores=frame_scores.mean(1),
            frame_scores=frame_scores,
            propagated=propagated,
        )

    def _finish(self, number: int, noun: int, query: int) -> tuple[list[RLE], np.ndarray]:
        """Full-size masks of a noun's query in a window, and the mean probability of their pixels, float64 [t]."""
        logits = self.record.masks(number, noun, query).float()
        inside = logits > 0
        certainty = (logits.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        rles: list[RLE] = []
        for piece in logits.split(AT_ONCE):
            full = self.grounder.processor.upsample(piece, self.resized, self.frames.size)
            rles += [encode(mask) for mask in masks_to_host(full > 0)]
        return rles, certainty.double().cpu().numpy()
