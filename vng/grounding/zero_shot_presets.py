"""The published checkpoints that a grounder without training uses, by preset, with their licences and sizes.

None of them could be downloaded where this was written: licences and sizes, rounded, are those of their pages and papers as
far as these could be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vng.detectors import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class Published:
    """A checkpoint of the Hugging Face hub; its parameters in millions."""

    name: str
    licence: str
    parameters: int
    gated: bool = False


PUBLISHED = (
    Published(
        name="openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det", licence="Apache-2.0", parameters=173
    ),
    Published(name="openmmlab-community/mm_grounding_dino_large_all", licence="Apache-2.0", parameters=344),
    Published(name="IDEA-Research/grounding-dino-tiny", licence="Apache-2.0", parameters=172),
    Published(name="google/owlv2-base-patch16-ensemble", licence="Apache-2.0", parameters=155),
    Published(name="google/owlv2-large-patch14-ensemble", licence="Apache-2.0", parameters=438),
    Published(name="facebook/sam3", licence="SAM License", parameters=848, gated=True),
    Published(name="facebook/sam2.1-hiera-tiny", licence="Apache-2.0", parameters=39),
    Published(name="facebook/sam2.1-hiera-large", licence="Apache-2.0", parameters=224),
    Published(name="yonigozlan/EdgeTAM-hf", licence="Apache-2.0", parameters=14),
    Published(name="google/siglip2-base-patch16-224", licence="Apache-2.0", parameters=375),
    Published(name="google/siglip2-so400m-patch14-384", licence="Apache-2.0", parameters=1136),
)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Engines and checkpoints: `detectors` by engine, then the segmenter, the propagator, the image-text model."""

    detectors: Mapping[str, str]
    segmenter: str
    segmenter_checkpoint: str
    propagator: str
    propagator_checkpoint: str
    image_text: str


PRESETS = {
    # for a CPU or a small GPU
    "small": Preset(
        detectors=CHECKPOINTS,
        segmenter="sam2",
        segmenter_checkpoint="facebook/sam2.1-hiera-tiny",
        propagator="sam2",
        propagator_checkpoint="facebook/sam2.1-hiera-tiny",
        image_text="google/siglip2-base-patch16-224",
    ),
    "large": Preset(
        detectors={
            **CHECKPOINTS,
            "grounding-dino": "openmmlab-community/mm_grounding_dino_large_all",
            "owlv2": "google/owlv2-large-patch14-ensemble",
        },
        segmenter="sam2",
        segmenter_checkpoint="facebook/sam2.1-hiera-large",
        propagator="sam2",
        propagator_checkpoint="facebook/sam2.1-hiera-large",
        image_text="google/siglip2-so400m-patch14-384",
    ),
}
DEFAULT_PRESET = "small"
