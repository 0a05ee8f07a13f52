"""Grounders: a video and a narrative in, a mask for each noun and frame out; one is trained, one needs no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vng.frames import Frames, as_frames
from vng.narratives import nouns_in

if TYPE_CHECKING:
    from vng.grounding.result import GroundingResult

Narrative = tuple[str, Sequence[tuple[int, int]]]  # a description and [start, end) of its nouns


class Grounder(Protocol):
    """The interface of a grounder: `NarrativeGrounder` (trained) and `ZeroShotGrounder`.

    A subclass has `ground_all` and the methods below it; a call and `ground` follow from that.
    """

    nouns: str  # the spaCy pipeline that finds nouns if none is marked

    def __call__(
        self,
        video: str | Path | np.ndarray | Frames,
        narrative: str,
        on_frames: Callable[[int], object] | None = None,
    ) -> GroundingResult:
        """Ground the nouns in [brackets] of a narrative, or those that a spaCy pipeline finds where none is marked.

        Args:
            video: a video file, a folder of frames, or uint8 [T, H, W, 3].
            narrative: the text.
            on_frames: called with the number of frames done since the last call.

        Raises:
            UsageError: unpaired brackets; no noun is marked, and none is found or there is no pipeline to find them.
            DataError: the video cannot be read; the narrative is too long for a network.
        """
        description, spans = nouns_in(narrative, self.nouns)
        return self.ground(as_frames(video), description, spans, on_frames)

    def ground(
        self,
        frames: Frames,
        description: str,
        spans: Sequence[tuple[int, int]],
        on_frames: Callable[[int], object] | None = None,
    ) -> GroundingResult:
        """Ground noun spans of a description."""
        return self.ground_all(frames, [(description, spans)], on_frames)[0]

    def ground_all(
        self, frames: Frames, narratives: Sequence[Narrative], on_frames: Callable[[int], object] | None = None
    ) -> list[GroundingResult]:
        """Ground several narratives of one video; what they can share is done once."""
        ...

    def passes(self, frames: int) -> int:
        """How many frames are counted by `on_frames`, for a video of this length."""
        ...

    def content(self) -> str:
        """An identifier of the weights, for manifests: the same only for the same weights."""
        ...

    def manifest_settings(self) -> dict[str, Any]:
        """All settings that masks depend on."""
        ...
