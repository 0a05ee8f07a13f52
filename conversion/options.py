"""What a conversion is told beside its inputs, and the engines it names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from conversion.pseudo_masks import PseudoMaskSettings
from vng.errors import UsageError
from vng.manifest import content_hash
from vng.processes import current_processes
from vng.propagators import Propagator
from vng.propagators import load as load_propagator
from vng.segmenters import DEFAULT as DEFAULT_SEGMENTER
from vng.segmenters import Segmenter
from vng.segmenters import load as load_segmenter


@dataclass(frozen=True)
class BuildOptions:
    """What a conversion is told beside its inputs; all but `progress` can change the result."""

    segmenter: str = DEFAULT_SEGMENTER
    checkpoint: str | None = None
    settings: tuple[tuple[str, str], ...] = ()  # of the segmenter, by name
    propagator: str | None = None  # None: only annotated frames get masks
    propagator_checkpoint: str | None = None
    nouns: str = "auto"
    use_trace: bool = True
    pseudo: PseudoMaskSettings = field(default_factory=PseudoMaskSettings)
    min_agreement: float = 0.0  # objects whose point agreement is lower are left out
    link_frames: bool = False  # refer to frames by path instead of embedding them
    dataset: str = ""  # name of the rows; "" takes the annotations' own
    split: str = ""
    only: tuple[str, ...] = ()  # these videos; () takes all
    subset: Path | None = None  # a list of object keys or videos (conversion.wanted); None takes all
    limit: int | None = None  # most videos
    threads: int = 1  # of each process: more of them change the last digits, so processes are what scales
    progress: bool = True

    def engine(self) -> dict[str, Any]:
        """Options of the segmenter."""
        options: dict[str, Any] = {} if self.checkpoint is None else {"checkpoint": self.checkpoint}
        return options | ({"settings": dict(self.settings)} if self.settings else {})

    def as_settings(self) -> dict[str, Any]:
        """What the manifest keeps; of weights and lists their content, wherever they lie."""
        kept = asdict(self)
        for key in ("progress", "nouns", "propagator_checkpoint"):
            kept.pop(key)
        segmenter, propagator = engines(self)
        kept["checkpoint"] = getattr(segmenter, "fingerprint", None)
        if (weights := getattr(propagator, "fingerprint", None)) is not None:
            kept["propagator_checkpoint"] = weights
        kept["subset"] = None if self.subset is None else content_hash(self.subset)
        return kept


@lru_cache(maxsize=1)
def engines(options: BuildOptions) -> tuple[Segmenter, Propagator | None]:
    """The segmenter and propagator of a conversion, made once for all its videos."""
    current_processes()  # a launcher's processes learn which accelerator is theirs before weights are loaded onto it
    weights = options.propagator_checkpoint
    given = {} if weights is None else {"checkpoint": weights}
    propagator = None if options.propagator is None else load_propagator(options.propagator, **given)
    return load_segmenter(options.segmenter, **options.engine()), propagator


def check_options(options: BuildOptions) -> None:
    """Raise UsageError for unknown engines and values out of range before any work is done."""
    if options.propagator_checkpoint is not None and options.propagator is None:
        raise UsageError("--propagator-checkpoint goes with --propagator NAME")
    engines(options)
    if not 0 <= options.pseudo.held_out < 1:
        raise UsageError(f"--held-out {options.pseudo.held_out}: a share in [0, 1)")
    if not 0 <= options.min_agreement <= 1:
        raise UsageError(f"--min-agreement {options.min_agreement}: a share in [0, 1]")
    if options.min_agreement and not options.pseudo.held_out:
        raise UsageError("--min-agreement needs held-out points to measure agreement on; raise --held-out")
