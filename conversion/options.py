"""Settings of a conversion, and the engines that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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

_SEGMENTING = ("segmenter", "checkpoint", "settings", "propagator", "use_trace", "pseudo", "min_agreement")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Settings of a conversion; all but `progress` can change the result."""

    segmenter: str = DEFAULT_SEGMENTER
    checkpoint: str | None = None  # of the segmenter
    settings: tuple[tuple[str, str], ...] = ()  # of the segmenter, by name
    propagator: str | None = None  # None: only annotated frames get masks
    propagator_checkpoint: str | None = None
    nouns: str = "auto"
    use_trace: bool = True
    pseudo: PseudoMaskSettings = field(default_factory=PseudoMaskSettings)
    min_agreement: float = 0.0  # leave out objects with a lower point agreement
    link_frames: bool = False  # refer to frames by path instead of embedding them
    dataset: str = ""  # name of the dataset in its rows; "" takes it from the annotations
    split: str = ""
    only: tuple[str, ...] = ()  # videos to convert; () takes all
    subset: Path | None = None  # a list of object keys or videos (conversion.wanted); None takes all
    limit: int | None = None  # most videos
    threads: int = 1  # per process; they change masks in the last digits, so more processes are better
    progress: bool = True

    @staticmethod
    def of(
        *,
        name: str = "",
        only: Sequence[str] = (),
        segmenter_checkpoint: str | None = None,
        segmenter_set: Sequence[tuple[str, str]] = (),
        seed: int = 0,
        held_out: float = 0.0,
        link: str = "name+trace",
        **more: Any,
    ) -> BuildOptions:
        """The settings, from options as the command line and `conversion.convert` name them (`conversion.kinds`).

        Raises:
            UsageError: a value out of range, options that exclude each other.
        """
        options = BuildOptions(
            dataset=name,
            only=tuple(only),
            checkpoint=segmenter_checkpoint,
            settings=tuple(sorted(dict(segmenter_set).items())),
            use_trace=link == "name+trace",
            pseudo=PseudoMaskSettings(held_out, seed),
            **more,
        )
        if options.propagator_checkpoint is not None and options.propagator is None:
            raise UsageError("--propagator-checkpoint requires --propagator NAME")
        if not 0 <= held_out < 1:
            raise UsageError(f"--held-out {held_out}: expected a share in [0, 1)")
        if not 0 <= options.min_agreement <= 1:
            raise UsageError(f"--min-agreement {options.min_agreement}: expected a share in [0, 1]")
        if options.min_agreement and not held_out:
            raise UsageError("--min-agreement requires held-out points to measure agreement on; raise --held-out")
        return options

    def as_settings(self, engines: Engines | None) -> dict[str, Any]:
        """Settings for the manifest; weights and lists by content, not by path.

        Args:
            engines: engines of the conversion; None where it makes no masks.
        """
        values = asdict(self)
        for key in ("progress", "nouns", "propagator_checkpoint"):
            values.pop(key)
        if engines is None:
            for key in _SEGMENTING:
                values.pop(key)
        else:
            values["checkpoint"] = getattr(engines.segmenter, "fingerprint", None)
            if (weights := getattr(engines.propagator, "fingerprint", None)) is not None:
                values["propagator_checkpoint"] = weights
        values["subset"] = None if self.subset is None else content_hash(self.subset)
        return values


@dataclass(frozen=True)
class Engines:
    """Engines that make the masks of a conversion, loaded once for all its videos."""

    segmenter: Segmenter
    propagator: Propagator | None = None  # None: only annotated frames get masks


def load_engines(options: BuildOptions) -> Engines:
    """Load the engines that the options name.

    Raises:
        UsageError: an unknown engine or setting. DataError: weights that do not exist or do not fit.
    """
    current_processes()  # connects the processes of a launcher before weights are loaded
    segmenter_options: dict[str, Any] = {} if options.checkpoint is None else {"checkpoint": options.checkpoint}
    segmenter_options |= {"settings": dict(options.settings)} if options.settings else {}
    weights = options.propagator_checkpoint
    propagator = None
    if options.propagator is not None:
        propagator = load_propagator(options.propagator, **({} if weights is None else {"checkpoint": weights}))
    return Engines(load_segmenter(options.segmenter, **segmenter_options), propagator)
