"""vng: Video Narrative Grounding. Given a video and a narrative with marked nouns, segment what each noun means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vng.grounding import GroundingResult, NarrativeGrounder

__all__ = ["GroundingResult", "NarrativeGrounder", "__version__"]


def __getattr__(name: str) -> Any:
    # torch is imported only when the grounder is really wanted: `import vng` and `vng --help` stay quick.
    if name in ("NarrativeGrounder", "GroundingResult"):
        from vng import grounding

        return getattr(grounding, name)
    raise AttributeError(f"module 'vng' has no attribute {name!r}")
