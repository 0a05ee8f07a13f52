"""The tracker of SAM 3 as a propagator, through `transformers`: SAM 2's memory behind SAM 3's encoder.

Network: Carion et al., SAM 3: Segment Anything with Concepts, 2025. Its weights are gated on the hub.
"""

from __future__ import annotations

from vng.propagators.sam2 import Sam2Propagator


class Sam3TrackerPropagator(Sam2Propagator):
    """The SAM 3 tracker; arguments and errors as of `Sam2Propagator`."""

    name, network, example = "sam3_tracker", "SAM 3's tracker", "facebook/sam3"
    model_type = "sam3_tracker_video"
