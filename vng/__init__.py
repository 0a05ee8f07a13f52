"""vng: Video Narrative Grounding. Given a video and a narrative with marked nouns, segment what each noun means."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vng.evaluation.accumulators import NarrativeScore, VosScore
    from vng.evaluation.instances import InstanceScore
    from vng.evaluation.point_agreement import PointScore
    from vng.evaluation.traces import TraceScore
    from vng.grounding.grounder import NarrativeGrounder
    from vng.grounding.result import GroundingResult
    from vng.propagation.video import propagate

__all__ = [
    "GroundingResult",
    "InstanceScore",
    "NarrativeGrounder",
    "NarrativeScore",
    "PointScore",
    "TraceScore",
    "VosScore",
    "__version__",
    "propagate",
]

_HOMES = {
    "NarrativeGrounder": "grounding.grounder",
    "GroundingResult": "grounding.result",
    "propagate": "propagation.video",
    "VosScore": "evaluation.accumulators",
    "NarrativeScore": "evaluation.accumulators",
    "InstanceScore": "evaluation.instances",
    "PointScore": "evaluation.point_agreement",
    "TraceScore": "evaluation.traces",
}


def __getattr__(name: str) -> Any:
    # torch is imported only when it is really wanted: `import vng` and `vng --help` stay quick.
    if name in _HOMES:
        return getattr(import_module(f"vng.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vng' has no attribute {name!r}")
