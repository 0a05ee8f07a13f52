"""The result of grounding: masks and scores of the nouns of a narrative, and how they are saved."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.frames import Frames
from vng.manifest import to_json, write_atomic
from vng.masks import RLE, decode, decode_many
from vng.narratives import mark

# Unfiltered rows make masks smaller, and four times faster to read (older OpenCV has no such option).
PNG = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []


@dataclass(frozen=True, kw_only=True)
class GroundingResult:
    """Masks and scores of a narrative's nouns in a video."""

    frames: Frames
    description: str
    spans: tuple[tuple[int, int], ...]  # length N
    rles: tuple[tuple[RLE, ...], ...]  # N lists of T masks
    scores: np.ndarray  # float64 [N] in [0, 1], mean confidence of the chosen query over the video
    frame_scores: np.ndarray  # float64 [N, T]
    propagated: np.ndarray | None = None  # bool [N, T], masks from a propagator; None: no propagation
    details: tuple[Mapping[str, Any], ...] = ()  # of each noun, why its masks were chosen; plain JSON values

    @property
    def nouns(self) -> list[str]:
        """The marked words, length N."""
        return [self.description[start:end] for start, end in self.spans]

    @property
    def masks(self) -> np.ndarray:
        """bool [N, T, H, W]; `rles` holds the same masks in little memory."""
        return np.stack([decode_many(row) for row in self.rles])

    def save(self, out: str | Path, overlay: bool = True) -> None:
        """Write masks as PNG (`masks/<noun>/<frame>.png`), `result.json`, and with `overlay` an MP4 and contact sheet.

        Holds one frame at a time.
        """
        out = Path(out)
        shutil.rmtree(out / "masks", ignore_errors=True)  # of an earlier result
        for number, row in enumerate(self.rles):
            write_mask_pngs(row, self.frames.names, out / "masks" / str(number))
        if overlay:
            from vng.viewer import contact_sheet, write_overlay_video

            write_overlay_video(self.frames, self.rles, self.description, self.spans, out / "overlay.mp4")
            contact_sheet(self.frames, self.rles, self.description, self.spans, out / "overlay.png")
        write_atomic(out / "result.json", to_json(self._summary()))

    def _summary(self) -> dict[str, Any]:
        nouns: list[dict[str, Any]] = [
            {"noun": noun, "span": list(span), "score": float(score), "masks": f"masks/{number}"}
            for number, (noun, span, score) in enumerate(zip(self.nouns, self.spans, self.scores, strict=True))
        ]
        if self.propagated is not None:
            for noun, row in zip(nouns, self.propagated, strict=True):
                noun["propagated_frames"] = int(row.sum())
        for noun, details in zip(nouns, self.details or ({},) * len(nouns), strict=True):
            noun |= {key: value for key, value in details.items() if key not in noun}
        return {
            "narrative": mark(self.description, list(self.spans)),
            "nouns": nouns,
            "frames": self.frames.names,
            "notes": [str(note) for note in self.frames.notes],
        }


def write_mask_pngs(rles: Sequence[RLE], names: Sequence[str], folder: Path) -> None:
    """Write one single-channel PNG per frame, 0 or 255, named by the frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rle in zip(names, rles, strict=True):
        path = folder / f"{name}.png"
        if not cv2.imwrite(str(path), decode(rle).view(np.uint8) * 255, PNG):
            raise OSError(f"{path}: cannot be written")


@dataclass(frozen=True)
class GroundedPart:
    """Masks of some frames, as yielded by `NarrativeGrounder.stream`."""

    start: int  # the first frame
    rles: tuple[tuple[RLE, ...], ...]  # N lists of t masks
    frame_scores: np.ndarray  # float64 [N, t] in [0, 1]
    final: bool  # whether these are the final masks; if not, the same frames follow again
