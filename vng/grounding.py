"""Inference: a video and a narrative in, a mask per noun and frame out.

Shapes: N nouns, T frames, Q queries, H x W pixels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vng.frames import ArrayFrames, Frames, open_frames
from vng.manifest import to_json, write_atomic
from vng.masks import RLE, decode_many, encode
from vng.models.loading import device_named
from vng.models.referformer.loading import load_model, load_processor
from vng.models.referformer.modeling_referformer import ReferFormerForVNG, Scene
from vng.models.referformer.processing_referformer import ReferFormerProcessor
from vng.narratives import mark, parse_nouns

WINDOW = 24  # frames that go through the network together


@dataclass(frozen=True)
class GroundingResult:
    """What a narrative's nouns mean in a video."""

    frames: Frames
    description: str
    spans: tuple[tuple[int, int], ...]  # length N
    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    scores: np.ndarray  # float64 [N] in [0, 1], the chosen query's mean confidence over the video
    frame_scores: np.ndarray  # float64 [N, T]

    @property
    def nouns(self) -> list[str]:
        """The marked words, length N."""
        return [self.description[start:end] for start, end in self.spans]

    @property
    def masks(self) -> np.ndarray:
        """bool [N, T, H, W]."""
        return np.stack([decode_many(row) for row in self.rles])

    def save(self, out: str | Path, overlay: bool = True) -> None:
        """Write masks as PNG (`masks/<noun>/<frame>.png`), `result.json`, and, with `overlay`, an MP4 and a contact sheet."""
        out = Path(out)
        shutil.rmtree(out / "masks", ignore_errors=True)  # of an earlier result
        for number, row in enumerate(self.rles):
            write_mask_pngs(row, self.frames.names, out / "masks" / str(number))
        summary = {
            "narrative": mark(self.description, list(self.spans)),
            "nouns": [
                {"noun": noun, "span": list(span), "score": float(score), "masks": f"masks/{number}"}
                for number, (noun, span, score) in enumerate(zip(self.nouns, self.spans, self.scores, strict=True))
            ],
            "frames": self.frames.names,
        }
        if overlay:
            from vng.viewer import contact_sheet, write_overlay_video

            write_overlay_video(self.frames, self.rles, self.description, self.spans, out / "overlay.mp4")
            contact_sheet(self.frames, self.rles, self.description, self.spans, out / "overlay.png")
        write_atomic(out / "result.json", to_json(summary))


def write_mask_pngs(rles: Sequence[RLE], names: Sequence[str], folder: Path) -> None:
    """One single-channel PNG a frame, 0 or 255, named by the frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, decode_many(rles), strict=True):
        path = folder / f"{name}.png"
        if not cv2.imwrite(str(path), mask.astype(np.uint8) * 255):
            raise OSError(f"{path}: cannot be written")


class NarrativeGrounder:
    """A trained grounder, ready for videos and narratives.

    grounder = NarrativeGrounder.from_pretrained("out/oops-vng")
    result = grounder("parrots.mp4", "A green [parrot] is playing with the other [parrot].")
    """

    def __init__(self, model: ReferFormerForVNG, processor: ReferFormerProcessor, device: str | None = None) -> None:
        self.device = device_named(device)
        self.model: ReferFormerForVNG = model.eval()
        torch.nn.Module.to(self.model, self.device)
        self.processor = processor

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str | None = None) -> NarrativeGrounder:
        """Load a run folder or hub id; raises DataError for a folder without a finished model."""
        return cls(load_model(str(path)), load_processor(str(path)), device)

    def __call__(self, video: str | Path | np.ndarray | Frames, narrative: str) -> GroundingResult:
        """Ground the [bracketed] nouns of a narrative.

        Args:
            video: a video file, a folder of frames, or uint8 [T, H, W, 3].
            narrative: text with its nouns in brackets.

        Raises:
            UsageError: no noun is marked, or the brackets do not pair. DataError: the video cannot be read.
        """
        description, spans = parse_nouns(narrative)
        if isinstance(video, np.ndarray):
            frames: Frames = ArrayFrames(video)
        else:
            frames = video if isinstance(video, Frames) else open_frames(Path(video))
        return self.ground(frames, description, spans)

    @torch.inference_mode()
    def ground(
        self,
        frames: Frames,
        description: str,
        spans: Sequence[tuple[int, int]],
        on_frames: Callable[[int], object] | None = None,
    ) -> GroundingResult:
        """Ground noun spans of a description; frames go through the network in windows, each once for all nouns.

        `on_frames` is told how many frames each window had, for progress bars.
        """
        text = self.processor.text([description], [list(spans)])
        text = {name: value.to(self.device) for name, value in text.items()}
        logits: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        resized = (0, 0)
        for start in range(0, len(frames), WINDOW):
            stop = min(len(frames), start + WINDOW)
            pixels = self.processor.frames(frames[i] for i in range(start, stop))
            resized = (int(pixels.shape[2]), int(pixels.shape[3]))
            batch = {name: value.to(self.device) for name, value in self.processor.pad([pixels]).items()}
            scene: Scene = self.model.encode(
                batch["pixel_values"], batch["pixel_mask"], text["input_ids"], text["attention_mask"]
            )
            window_logits, _, window_masks, _ = self.model.decode(scene, text["noun_tokens"])[-1]
            logits.append(window_logits[0].float().cpu().numpy())
            masks.append(window_masks[0].half().cpu().numpy())
            if on_frames is not None:
                on_frames(stop - start)
        score = 1 / (1 + np.exp(-np.concatenate(logits, 1).astype(np.float64)))  # [N, T, Q]
        chosen = score.mean(1).argmax(-1)  # one query a noun for the whole video (ReferFormer's inference)
        rles = tuple(
            self._finish([window[noun, :, query] for window in masks], resized, frames.size)
            for noun, query in enumerate(chosen)
        )
        frame_scores = np.stack([score[noun, :, query] for noun, query in enumerate(chosen)])
        return GroundingResult(frames, description, tuple(spans), rles, frame_scores.mean(1), frame_scores)

    def _finish(self, windows: list[np.ndarray], resized: tuple[int, int], size: tuple[int, int]) -> tuple[RLE, ...]:
        """Mask logits of one noun's query -> RLE of the frames' size, window by window."""
        rles: list[RLE] = []
        for window in windows:
            full = self.processor.upsample(torch.from_numpy(window), resized, size)
            rles += [encode(mask) for mask in (full > 0).numpy()]
        return tuple(rles)
