"""The rules of the PV-Oops benchmark (Point-VOS, App. B) for one object, and what they decide, with the reasons.

For raw annotations, in this order:

1. The reference frame is the first with at least 7 positive points; earlier frames are removed. Without such a frame,
   the object is dropped.
2. Some later frame has at least 3 positive points and 1 negative; else the object is dropped.
3. The frame with the mouse trace, where it is known, comes after the reference frame; else the object is dropped.
4. Up to 3 frames, evenly spaced over the frames with points of the object after the reference frame, are for evaluation;
   where the trace frame is not among them, it replaces the one nearest to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from vng.dataset import VideoObject
from vng.frames import evenly_spaced
from vng.points import NEGATIVE, POSITIVE, Points

# What becomes of an object: placed by the rules, taken as it is, or dropped by the rule of this name.
PLACED, PUBLISHED = "placed", "published"
NO_REFERENCE, NO_SUPPORT, EARLY_TRACE = "no reference", "no support", "early trace"
KEPT, DROPPED = (PLACED, PUBLISHED), (NO_REFERENCE, NO_SUPPORT, EARLY_TRACE)


@dataclass(frozen=True)
class BenchmarkRules:
    """Thresholds of the benchmark; the defaults are the paper's."""

    reference_positives: int = 7
    later_positives: int = 3
    later_negatives: int = 1
    evaluation_frames: int = 3


PAPER = BenchmarkRules()


@dataclass(frozen=True)
class Placement:
    """Frame indices at which an object is prompted and scored."""

    reference: int
    evaluation: tuple[int, ...]  # after the reference, in time order


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision of the rules on one object, and its reason. Frames are indices into its video.

    Raises ValueError for frames that contradict each other.
    """

    outcome: str  # one of KEPT and DROPPED
    most_positives: int  # of a frame
    reference: int | None = None  # first frame with enough positives; None where there is none
    annotated: tuple[int, ...] = ()  # frames with points, in time order
    even: tuple[int, ...] = ()  # evenly spaced over those after the reference
    trace: int | None = None  # the frame with its mouse trace; None where unknown
    replaced: int | None = None  # the frame of `even` whose place the trace frame takes
    evaluation: tuple[int, ...] = ()  # after the reference, in time order

    def __post_init__(self) -> None:
        if self.outcome not in KEPT + DROPPED:
            raise ValueError(f"outcome {self.outcome!r}: expected one of {', '.join(KEPT + DROPPED)}")
        if (self.reference is None) != (self.outcome == NO_REFERENCE):
            raise ValueError(f"outcome {self.outcome!r} with reference frame {self.reference}")
        if list(self.evaluation) != sorted({t for t in self.evaluation if t > (self.reference or 0)}):
            raise ValueError(f"evaluation frames {self.evaluation}: expected frames after {self.reference}, in order")
        taken = {*self.even} - {self.replaced} | ({self.trace} if self.replaced is not None else set())
        if self.outcome == PLACED and taken != {*self.evaluation}:
            raise ValueError(f"evaluation frames {self.evaluation}: expected {sorted(t for t in taken if t)}")

    @property
    def placement(self) -> Placement | None:
        """Where the object is prompted and scored; None where it is dropped."""
        kept = self.outcome in KEPT and self.reference is not None
        return Placement(self.reference, self.evaluation) if kept and self.reference is not None else None


def place(points: Points, trace: int | None, rules: BenchmarkRules = PAPER) -> Decision:
    """Decide where one object is prompted and scored, or by which rule it is dropped.

    Args:
        points: raw points of the object, on several frames.
        trace: the frame with its mouse trace; None where that is unknown, and the rule about it is skipped.
        rules: thresholds.
    """
    positives, negatives = (Counter(points.of(label).frame.tolist()) for label in (POSITIVE, NEGATIVE))
    most = max(positives.values(), default=0)
    annotated = tuple(sorted({int(t) for t in points.frame}))
    reference = min((t for t, count in positives.items() if count >= rules.reference_positives), default=None)
    if reference is None:
        return Decision(outcome=NO_REFERENCE, most_positives=most, annotated=annotated, trace=trace)
    supported = any(
        t > reference and positives[t] >= rules.later_positives and negatives[t] >= rules.later_negatives
        for t in positives
    )
    if not supported or (trace is not None and trace <= reference):
        return Decision(
            outcome=EARLY_TRACE if supported else NO_SUPPORT,
            most_positives=most,
            reference=reference,
            annotated=annotated,
            trace=trace,
        )
    even = evenly_spaced([t for t in annotated if t > reference], rules.evaluation_frames)
    replaced = min(even, key=lambda t: abs(t - trace)) if trace is not None and trace not in even else None
    chosen = {*even} if replaced is None or trace is None else {*even} - {replaced} | {trace}
    return Decision(
        outcome=PLACED,
        most_positives=most,
        reference=reference,
        annotated=annotated,
        even=tuple(even),
        trace=trace,
        replaced=replaced,
        evaluation=tuple(sorted(chosen)),
    )


def published(item: VideoObject) -> Decision | None:
    """The decision about an object that has the benchmark's form already: points on one frame, true masks after it."""
    frames = {int(t) for t in item.points.frame}
    if len(frames) != 1:
        return None
    (reference,) = frames
    masks = () if item.has_pseudo_masks else enumerate(item.segmentations)
    return Decision(
        outcome=PUBLISHED,
        most_positives=len(item.points.of(POSITIVE)),
        reference=reference,
        annotated=(reference,),
        evaluation=tuple(t for t, rle in masks if rle is not None and t > reference),
    )


def why_dropped(decision: Decision, rules: BenchmarkRules = PAPER) -> str:
    """Why an object is dropped; "" where it is kept."""
    wanted = f"{rules.later_positives} positive and {rules.later_negatives} negative points"
    most = decision.most_positives
    return {
        NO_REFERENCE: f"no frame has {rules.reference_positives} positive points (at most {most})",
        NO_SUPPORT: f"no frame after the reference frame has {wanted}",
        EARLY_TRACE: "the frame with the mouse trace is not after the reference frame",
    }.get(decision.outcome, "")
