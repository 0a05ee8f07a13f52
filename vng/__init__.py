"""vng: Video Narrative Grounding. Given a video and a narrative with marked nouns, segment what each noun means.

`__all__` lists the public names; each is imported on first use, so that `import vng` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vng.auto_classes import register
from vng.processes import bound_spinning

__version__ = "0.2.0"
bound_spinning()
register()

if TYPE_CHECKING:
    from vng import detectors, propagators, segmenters
    from vng.dataset import VngDataset
    from vng.evaluation.instances import InstanceScore
    from vng.evaluation.narrative.accumulator import NarrativeScore
    from vng.evaluation.point_agreement import PointScore
    from vng.evaluation.protocols import evaluate
    from vng.evaluation.traces import TraceScore
    from vng.evaluation.vos.accumulator import VosScore
    from vng.grounding.dataset import predict
    from vng.grounding.grounder import NarrativeGrounder
    from vng.grounding.result import GroundingResult
    from vng.grounding.zero_shot import ZeroShotGrounder
    from vng.inspection.comparison import compare
    from vng.inspection.dataset import inspect
    from vng.models.referformer.modeling_referformer import ReferFormerForVNG
    from vng.models.referformer.processing_referformer import ReferFormerProcessor
    from vng.points import Points
    from vng.propagation.dataset import propagate_dataset
    from vng.propagation.video import propagate
    from vng.training.tasks import train

# public name -> the module that defines it; a module maps to itself
_HOMES = {
    "GroundingResult": "grounding.result",
    "InstanceScore": "evaluation.instances",
    "NarrativeGrounder": "grounding.grounder",
    "NarrativeScore": "evaluation.narrative.accumulator",
    "PointScore": "evaluation.point_agreement",
    "Points": "points",
    "ReferFormerForVNG": "models.referformer.modeling_referformer",
    "ReferFormerProcessor": "models.referformer.processing_referformer",
    "TraceScore": "evaluation.traces",
    "VngDataset": "dataset",
    "VosScore": "evaluation.vos.accumulator",
    "ZeroShotGrounder": "grounding.zero_shot",
    "detectors": "detectors",
    "compare": "inspection.comparison",
    "evaluate": "evaluation.protocols",
    "inspect": "inspection.dataset",
    "predict": "grounding.dataset",
    "propagate": "propagation.video",
    "propagate_dataset": "propagation.dataset",
    "propagators": "propagators",
    "segmenters": "segmenters",
    "train": "training.tasks",
}

__all__ = [
    "GroundingResult",
    "InstanceScore",
    "NarrativeGrounder",
    "NarrativeScore",
    "PointScore",
    "Points",
    "ReferFormerForVNG",
    "ReferFormerProcessor",
    "TraceScore",
    "VngDataset",
    "VosScore",
    "ZeroShotGrounder",
    "__version__",
    "compare",
    "detectors",
    "evaluate",
    "inspect",
    "predict",
    "propagate",
    "propagate_dataset",
    "propagators",
    "segmenters",
    "train",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import vng` and `vng --help` do not import torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'vng' has no attribute {name!r}")
    module = import_module(f"vng.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
