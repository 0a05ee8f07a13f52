"""Frames and narratives -> the grounder's inputs, and its outputs -> masks of the frames' size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin

from vng.errors import DataError, UsageError
from vng.models.transfer import normalised, to_device

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
