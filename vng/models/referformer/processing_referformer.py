"""Frames and narratives -> the grounder's inputs, and its outputs -> masks of the frames' size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin

from vng.errors import DataError, UsageError
from vng.models.transfer import normalised, to_device
from vng.narratives import parse_marked

STRIDE = 32
MOST_SIDE = 1 << 13  # pixels


class ReferFormerProcessor(ProcessorMixin):
    """Resizes and normalises frames, tokenises narratives and finds the tokens of a noun span.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        short_side, long_side: frames are scaled so that the short side is `short_side`, unless the long side would
            exceed `long_side`. 0 keeps frames as they are.
    """

    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, short_side: int = 360, long_side: int = 640, **kwargs: Any
    ) -> None:
        if not tokenizer.is_fast:
            raise UsageError("the grounder requires a fast tokenizer: its offsets locate the noun spans")
        for name, side in (("short_side", short_side), ("long_side", long_side)):
            if isinstance(side, bool) or not isinstance(side, int) or not 0 <= side <= MOST_SIDE:
                raise UsageError(f"processor: {name} must be 0 to {MOST_SIDE} pixels, got {side!r:.40}")
        self.short_side, self.long_side = short_side, long_side
        super().__init__(tokenizer, **kwargs)

    def __call__(
        self,
        videos: Any = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Everything that the model takes, for one clip or a batch: `model(**processor(videos=..., text=...))`.

        Args:
            videos: a clip, or a list of clips of one length: uint8 arrays or tensors [T, H, W, 3] or [T, 3, H, W], or
                lists of frames (arrays or PIL images).
            text: a narrative with marked nouns, "A [man] feeds a [dog].", or one for each clip.
            return_tensors: "pt" alone.

        Returns:
            pixel_values, pixel_mask, input_ids, attention_mask, noun_tokens; only those of what was given.

        Raises:
            UsageError: nothing was given, numbers differ, a narrative without a marked noun, another kind of tensor.
        """
        if return_tensors != "pt":
            raise UsageError(f"return_tensors={return_tensors!r}: this processor gives PyTorch tensors, 'pt'")
        if videos is None and text is None:
            raise UsageError("processor: give videos=, text=, or both")
        data: dict[str, Tensor] = {}
        clips = None if videos is None else [as_clip(video) for video in as_batch(videos)]
        texts = [text] if isinstance(text, str) else None if text is None else list(text)
        if clips is not None and texts is not None and len(clips) != len(texts):
            raise UsageError(f"processor: {len(clips)} videos and {len(texts)} texts; give one text for each video")
        if clips is not None:
            if len({len(clip) for clip in clips}) > 1:
                raise UsageError(f"processor: clips of {[len(clip) for clip in clips]} frames; a batch has one length")
            data |= self.pad([self.frames(clip) for clip in clips])
        if texts is not None:
            parsed = [parse_marked(narrative) for narrative in texts]
            bare = next((narrative for narrative, (_, spans) in zip(texts, parsed, strict=True) if not spans), None)
            if bare is not None:
                raise UsageError(
                    f"processor: no marked noun in {bare[:40]!r}; write [noun], or use vng.NarrativeGrounder"
                )
            data |= self.text([plain for plain, _ in parsed], [spans for _, spans in parsed])
        return BatchFeature(data)

    def post_process_grounding(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]], threshold: float = 0.5
    ) -> list[dict[str, Tensor]]:
        """Masks of each noun from the model's outputs, at the size of each video.

        The query of a noun is the one with the highest mean score over the frames.

        Args:
            outputs: of the model, for B videos.
            target_sizes: (height, width) of each video.
            threshold: probability above which a pixel belongs to the noun's object.

        Returns:
            For each video `masks`, bool [N, T, H, W], and `scores`, float [N]; N includes padded nouns.

        Raises:
            UsageError: another number of sizes than of videos.
        """
        if len(target_sizes) != len(outputs.logits):
            raise UsageError(f"{len(target_sizes)} target_sizes for {len(outputs.logits)} videos")
        scores = outputs.logits.float().sigmoid().mean(2)  # [B, N, Q]
        best = scores.argmax(-1)
        results = []
        for b, (height, width) in enumerate(target_sizes):
            index = best[b][:, None, None, None, None].expand(-1, outputs.masks.shape[2], 1, *outputs.masks.shape[-2:])
            logits = outputs.masks[b].gather(2, index)[:, :, 0]  # [N, T, h, w]
            full = self.upsample(logits, self.target_size(height, width), (height, width))
            results.append({"masks": full.sigmoid() > threshold, "scores": scores[b].gather(1, best[b][:, None])[:, 0]})
        return results

    def target_size(
        self, height: int, width: int, short_side: int | None = None, long_side: int | None = None
    ) -> tuple[int, int]:
        """The size (height, width) to which a frame is scaled; sides that are given replace the processor's."""
        short_side = self.short_side if short_side is None else short_side
        if not short_side:
            return height, width
        scale = min(short_side / min(height, width), (long_side or self.long_side) / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def frames(self, frames: Iterable[np.ndarray]) -> Tensor:
        """RGB uint8 frames [H, W, 3] -> float [T, 3, H', W'], normalised, not yet padded."""
        return self.normalised(self.resized(frames))

    def resized(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """RGB uint8 frames [H, W, 3] -> uint8 [T, H', W', 3]."""
        resized = []
        for frame in frames:
            height, width = self.target_size(*frame.shape[:2])
            if (height, width) != frame.shape[:2]:
                frame = cv2.resize(
                    frame,
                    (width, height),
                    interpolation=cv2.INTER_AREA if height < frame.shape[0] else cv2.INTER_LINEAR,
                )
            resized.append(frame)
        return np.stack(resized)

    @staticmethod
    def normalised(frames: np.ndarray, device: torch.device | None = None) -> Tensor:
        """RGB uint8 [T, H, W, 3] -> float [T, 3, H, W] on a device, to which the bytes travel."""
        return normalised(to_device(torch.from_numpy(frames), device or torch.device("cpu")).permute(0, 3, 1, 2))

    def text(self, narratives: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]]) -> dict[str, Tensor]:
        """Tokenise B narratives and locate N noun spans each, in the raw text.

        Returns:
            input_ids, attention_mask int64 [B, L]; noun_tokens bool [B, N, L], nouns padded with no token.

        Raises:
            DataError: a narrative too long for the text encoder.
        """
        limit = self.tokenizer.model_max_length
        encoded = self.tokenizer(list(narratives), padding=True, return_offsets_mapping=True, return_tensors="pt")
        length = encoded["input_ids"].shape[1]
        if length > limit:
            longest = narratives[int(encoded["attention_mask"].sum(1).argmax())]
            reason = f"{length} tokens, the text encoder takes at most {limit}"
            raise DataError("narrative", record=repr(longest[:40] + "..."), reason=reason, cure="shorten or split it")
        offsets = encoded["offset_mapping"]  # [B, L, 2]; special tokens are (0, 0)
        nouns = torch.zeros(len(narratives), max(map(len, spans), default=0), length, dtype=torch.bool)
        for b, row in enumerate(spans):
            for n, (start, end) in enumerate(row):
                nouns[b, n] = (offsets[b, :, 0] < end) & (offsets[b, :, 1] > start)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "noun_tokens": nouns}

    @staticmethod
    def pad(clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """Clips [T, 3, H, W] of one length -> pixel_values [B, T, 3, H', W'] and pixel_mask; H', W' multiples of 32."""
        height = -(-max(c.shape[2] for c in clips) // STRIDE) * STRIDE
        width = -(-max(c.shape[3] for c in clips) // STRIDE) * STRIDE
        values = [F.pad(c, (0, width - c.shape[3], 0, height - c.shape[2])) for c in clips]
        masks = torch.zeros(len(clips), clips[0].shape[0], height, width, dtype=torch.bool, device=clips[0].device)
        for mask, clip in zip(masks, clips, strict=True):
            mask[:, : clip.shape[2], : clip.shape[3]] = True
        return {"pixel_values": torch.stack(values), "pixel_mask": masks}

    @staticmethod
    def upsample(masks: Tensor, resized: tuple[int, int], original: tuple[int, int]) -> Tensor:
        """Mask logits at stride 4 of the padded frame -> logits of the original frame, cropped and scaled.

        Args:
            masks: float [..., h, w].
            resized: (height, width) of the scaled frame without padding.
            original: (height, width) of the original frame.
        """
        flat = masks.reshape(-1, 1, *masks.shape[-2:]).float()
        full = F.interpolate(flat, scale_factor=4, mode="bilinear", align_corners=False)
        full = full[..., : resized[0], : resized[1]]
        if resized != original:
            full = F.interpolate(full, size=original, mode="bilinear", align_corners=False)
        return full.view(*masks.shape[:-2], *original)


def as_batch(videos: Any) -> list[Any]:
    """One clip, or several, as a list of clips: an array of four dimensions or a list of images is one clip."""
    if hasattr(videos, "ndim"):
        return list(videos) if videos.ndim == 5 else [videos]
    videos = list(videos)
    first = videos[0] if videos else None
    is_frame = first is not None and (getattr(first, "ndim", 0) == 3 or hasattr(first, "convert"))
    return [videos] if is_frame else videos


def as_clip(video: Any) -> np.ndarray:
    """A clip as uint8 [T, H, W, 3]; raises UsageError for anything else."""
    if not hasattr(video, "ndim"):
        video = np.stack([np.asarray(frame.convert("RGB") if hasattr(frame, "convert") else frame) for frame in video])
    array = np.asarray(video)
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not len(array):
        raise UsageError(f"a clip is uint8 [T, H, W, 3] or [T, 3, H, W], got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array)


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from texts, with RoBERTa's special tokens; for models trained from scratch."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=max_length,
    )
