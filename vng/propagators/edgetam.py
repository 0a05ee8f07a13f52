"""EdgeTAM as a propagator, through `transformers`: SAM 2's memory behind a small encoder, for a CPU or a telephone.

Its image encoder comes from `timm`, which must be installed.
Network: Zhou et al., EdgeTAM: On-Device Track Anything Model, CVPR 2025.
"""

from __future__ import annotations

from vng.propagators.sam2 import Sam2Propagator


class EdgeTamPropagator(Sam2Propagator):
    """The EdgeTAM propagator; arguments and errors as of `Sam2Propagator`."""

    name, network, example = "edgetam", "EdgeTAM", "yonigozlan/EdgeTAM-hf"
    model_type = "edgetam_video"
