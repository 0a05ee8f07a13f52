"""Grounders: a video and a narrative in, a mask for each noun and frame out; one is trained, one needs no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from vng.frames import Frames
    from vng.grounding.result import GroundingResult

Narrative = tuple[str, Sequence[tuple[int, int]]]  # a description and [start, end) of its nouns


class Grounder(Protocol):
    """The interface of a grounder: `NarrativeGrounder` (trained) and `ZeroShotGrounder`."""

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
        """
        ...

    def ground(
        self,
        frames: Frames,
        description: str,
        spans: Sequence[tuple[int, int]],
        on_frames: Callable[[int], object] | None = None,
    ) -> GroundingResult:
        """Ground noun spans of a description."""
        ...

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
