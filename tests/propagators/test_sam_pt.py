"""SAM-PT: its passes and re-initialisation beside calls recorded from the authors' program, and prompts of our own.

`sam_pt_calls.json`: what reached SAM in a run of the unedited program (SysCV/sam-pt, 874ff7e) with the tracker and the
SAM of this file in place of real ones: [frame, positives, negatives, sum of positives' coordinates, of negatives', box,
mean of the mask that was fed back].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vng.errors import UsageError
from vng.frames import ArrayFrames, Frames
from vng.points import PointPrompts
from vng.propagators import FramePrompts
from vng.propagators.point_filters import PatchFiltered, in_frame
from vng.propagators.sam_pt import NOTHING, Queries, SamPtPropagator, SamPtSettings, merged
from vng.propagators.sam_pt_reinit import choose
from vng.segmenters import Decoded, Decoder, Segmenter
from vng.trackers import PointTracker

RECORDED = json.loads((Path(__file__).parent / "sam_pt_calls.json").read_text())


class Waves(PointTracker):
    """Points that move evenly with a small wave, hidden now and then; frames carry their number in one red value."""

    threshold = 0.5

    def __init__(
        self,
        velocity: Sequence[float] = (0.0, 0.0),
        drift: Sequence[float] = (0.0, 0.0),
        amp: float = 0.3,
        mod: int = 11,
        occlusions: Sequence[Sequence[int]] = (),
        repeat: int = 10_000,
    ) -> None:
        self.velocity, self.drift, self.amp, self.mod = velocity, drift, amp, mod
        self.occlusions, self.repeat = occlusions, repeat

    def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        ids = [int(frames[t][0, 0, 0]) for t in range(len(frames))]
        place = queries.astype(np.float64)
        own = np.array([ids[int(t)] for t in place[:, 0]], float)
        n = (np.arange(len(place)) % self.repeat).astype(float)
        vx, vy = (self.velocity[i] + (n % 3 == 2) * self.drift[i] for i in (0, 1))
        for t in range(int(place[:, 0].min()), len(frames)):
            f = float(ids[t])
            x = place[:, 1] + vx * (f - own) + self.amp * (np.sin(1.7 * n + 2.3 * f) - np.sin(1.7 * n + 2.3 * own))
            y = place[:, 2] + vy * (f - own) + self.amp * (np.cos(2.1 * n + 1.9 * f) - np.cos(2.1 * n + 1.9 * own))
            hidden = (7 * n + 3 * f) % self.mod == 0
            for low, high, first, end in self.occlusions:
                hidden |= (n >= low) & (n < high) & (first <= f < end)
            yield t, np.stack([x, y], 1).astype(np.float32), ((f == own) | ~hidden).astype(np.float32)


class Discs(Segmenter):
    """A disc around the positives, carved by negatives, drawn towards a box, moved by what is fed back."""

    takes_boxes = True
    takes_feedback = True

    def __init__(self, r0: float = 9.0, bad_iou_mod: int = 13, carve: float = 2.0, target_length: int = 80) -> None:
        self.r0, self.bad_iou_mod, self.carve, self.target_length = r0, bad_iou_mod, carve, target_length
        self.calls: list[list[Any]] = []

    def __call__(self, image: np.ndarray, prompts: Sequence[PointPrompts]) -> np.ndarray:
        raise NotImplementedError

    def decoder(self, image: np.ndarray) -> Decoder:
        def decode(prompts: Sequence[PointPrompts], feedback: Sequence[Any] | None) -> Decoded:
            results = [
                self._one(image, prompt, None if feedback is None else feedback[k]) for k, prompt in enumerate(prompts)
            ]
            logits, scores, low = zip(*results, strict=True)
            return Decoded(logits=np.stack(logits), scores=np.array(scores, np.float32), feedback=low)

        return decode

    def _one(self, image: np.ndarray, prompt: PointPrompts, low: np.ndarray | None) -> tuple[np.ndarray, float, Any]:
        (height, width), f = image.shape[:2], int(image[0, 0, 0])
        positive, negative = prompt.positive.astype(float), prompt.negative.astype(float)
        box = None if prompt.box is None else prompt.box.astype(float)
        self.calls.append(
            [
                f,
                len(positive),
                len(negative),
                positive.sum(),
                negative.sum(),
                None if box is None else box.tolist(),
                None if low is None else low.astype(float).mean(),
            ]
        )
        centre = positive.mean(0) if len(positive) else np.array([width / 2, height / 2])
        radius = self.r0 + 0.5 * len(positive) + 0.3 * np.sin(float(f))
        if box is not None:
            scale = self.target_length / max(height, width)
            inner = np.array([width / int(width * scale + 0.5), height / int(height * scale + 0.5)])
            box = box * np.tile(inner, 2)
            centre = 0.5 * centre + 0.25 * (box[:2] + box[2:])
            radius = 0.5 * radius + (box[2] - box[0] + box[3] - box[1]) / 8
        rows, columns = np.mgrid[:height, :width].astype(float)
        logit = radius - np.hypot(columns - centre[0], rows - centre[1])
        for x, y in negative:
            logit = np.minimum(logit, np.hypot(columns - x, rows - y) - self.carve)
        if low is not None:
            logit = logit + 0.5 * np.tanh(low.astype(float).mean())
        picked = [np.floor((np.arange(16) + 0.5) * side / 16).astype(int) for side in (height, width)]
        bad = (5 * f + len(positive)) % self.bad_iou_mod == 0
        score = 0.95 - 0.02 * len(negative) - 0.4 * bad
        return logit.astype(np.float32), score, logit[np.ix_(*picked)].astype(np.float32)


def numbered(count: int, height: int, width: int, first: int = 0) -> ArrayFrames:
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:, 0, 0, 0] = first + np.arange(count)
    return ArrayFrames(frames)


def prompts_of(queries: np.ndarray, positives: int) -> dict[int, FramePrompts]:
    by_frame: dict[int, list[PointPrompts | None]] = {}
    for k, own in enumerate(queries):
        row = by_frame.setdefault(int(own[0, 0]), [None] * len(queries))
        row[k] = PointPrompts(own[:positives, 1:], own[positives:, 1:])
    return {t: FramePrompts(points=tuple(row)) for t, row in by_frame.items()}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_calls_are_those_of_the_authors_program(name: str) -> None:
    record = RECORDED[name]
    settings, queries = record["settings"], np.array(record["queries"], np.float32)
    tracker = Waves(**record["tracker"], repeat=record["batch"] * queries.shape[1])
    sam = Discs(**record["sam"])
    engine = SamPtPropagator(settings=SamPtSettings(**settings, without_positives=True), tracker=tracker, segmenter=sam)
    drawn = list(record["drawn"])

    def points_of_mask(k: int, t: int, mask: np.ndarray, image: np.ndarray) -> Queries:
        place = next(i for i, (area, _) in enumerate(drawn) if area == mask.sum())
        points = np.array(drawn.pop(place)[1])
        return Queries.of(k, t, points[: settings["positives"]], points[settings["positives"] :])

    engine.points_of_mask = points_of_mask  # type: ignore[method-assign]
    video = numbered(record["frames"], *record["size"])
    list(engine(video, prompts_of(queries, settings["positives"])))
    assert len(sam.calls) == len(record["calls"])
    left = list(record["calls"])
    for call in sam.calls:
        match = next((i for i, other in enumerate(left) if _same(call, other)), None)
        assert match is not None, call
        left.pop(match)


def _same(call: list[Any], other: list[Any]) -> bool:
    if call[:3] != other[:3] or [v is None for v in call] != [v is None for v in other]:
        return False
    if not np.allclose(call[3:5], other[3:5], atol=0.05):
        return False
    if call[5] is not None and not np.allclose(call[5], other[5], atol=1e-3):
        return False
    return call[6] is None or abs(call[6] - other[6]) < 5e-3


class TestSettings:
    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"positives": 0}, "positives=0"),
            ({"tracker": "magic"}, "unknown tracker 'magic'; choose one of: cotracker, lucas_kanade"),
            ({"segmenter": "magic"}, "unknown segmenter 'magic'"),
            ({"positives_by": "best"}, "positives_by"),
            ({"reinit": "sometimes"}, "reinit"),
            ({"horizon": 30}, "tracker_horizon=24"),
        ],
    )
    def test_values_out_of_range(self, changed: dict[str, Any], told: str) -> None:
        with pytest.raises(UsageError, match=told):
            SamPtSettings(**changed)


class TestPropagation:
    def engine(self, **settings: Any) -> SamPtPropagator:
        return SamPtPropagator(
            settings=SamPtSettings(refinements=1, **settings),
            tracker=Waves((2, 1), mod=999),
            segmenter=Discs(r0=6, bad_iou_mod=9973),
        )

    def test_both_directions_from_the_prompt(self) -> None:
        prompts = {4: FramePrompts(points=(PointPrompts([(40, 30)], []), PointPrompts([(15, 20)], [(40, 30)])))}
        found = dict(self.engine()(numbered(9, 60, 90, first=1), prompts))
        assert sorted(found) == list(range(9))
        for t, probabilities in found.items():
            assert probabilities.shape == (2, 60, 90) and probabilities.dtype == np.float32
            rows, columns = np.nonzero(probabilities[0] > 0.5)
            assert abs(columns.mean() - (40 + 2 * (t - 4))) < 4 and abs(rows.mean() - (30 + t - 4)) < 4
            assert ((probabilities > 0.5).sum(0) <= 1).all()

    def test_masks_become_points_and_stay_exact(self) -> None:
        mask = np.zeros((60, 90), bool)
        mask[20:35, 30:50] = True
        found = dict(self.engine(positives=5)(numbered(4, 60, 90), {0: FramePrompts(masks=(mask,))}))
        assert (found[0][0] == mask).all() and (found[3][0] > 0.5).any()

    def test_an_object_without_positives_or_with_an_empty_mask_is_nowhere(self) -> None:
        empty = np.zeros((60, 90), bool)
        prompts = {0: FramePrompts(masks=(empty, None), points=(None, PointPrompts([(40, 30)], [])))}
        found = dict(self.engine()(numbered(5, 60, 90), prompts))
        assert not any((p[0] > 0.5).any() for p in found.values()) and (found[2][1] > 0.5).any()

    def test_no_point_is_visible(self) -> None:
        engine = SamPtPropagator(
            tracker=Waves(occlusions=[(0, 99, 1, 99)]), segmenter=Discs(), settings=SamPtSettings(refinements=0)
        )
        found = dict(engine(numbered(3, 60, 90), {0: FramePrompts(points=(PointPrompts([(40, 30)], []),))}))
        assert (found[0] > 0.5).any() and not (found[1] > 0.5).any() and not (found[2] > 0.5).any()

    def test_points_on_the_border_are_outside(self) -> None:
        prompts = {0: FramePrompts(points=(PointPrompts([(0, 30)], []),))}
        found = dict(self.engine()(numbered(3, 60, 90), prompts))
        assert not (found[0] > 0.5).any() and (found[2] > 0.5).any()  # it moves inside

    def test_reinit_needs_one_prompt_an_object(self) -> None:
        point = FramePrompts(points=(PointPrompts([(40, 30)], []),))
        with pytest.raises(UsageError, match=r"object 0: prompts in frames 0, 2"):
            list(self.engine(reinit="median-area")(numbered(5, 60, 90), {0: point, 2: point}))

    @pytest.mark.parametrize("reinit", ["horizon", "median-area", "similar-area", "similar-area-together"])
    def test_reinit_gives_every_frame_once(self, reinit: str) -> None:
        engine = self.engine(reinit=reinit, horizon=4, tracker_horizon=5, positives=3)
        prompts = {
            3: FramePrompts(points=(PointPrompts([(40, 30)], []), None)),
            6: FramePrompts(points=(None, PointPrompts([(20, 15)], []))),
        }
        found = [t for t, _ in engine(numbered(12, 60, 90), prompts)]
        assert sorted(found) == list(range(12))

    def test_engines_without_feedback_are_called_once_a_frame(self) -> None:
        class Plain(Discs):
            takes_feedback = False

        plain = Plain(r0=6)
        engine = SamPtPropagator(tracker=Waves(), segmenter=plain)
        list(engine(numbered(3, 60, 90), {0: FramePrompts(points=(PointPrompts([(40, 30)], [(5, 5)]),))}))
        assert len(plain.calls) == 3


class TestMerged:
    def test_the_largest_logit_wins_where_it_is_positive(self) -> None:
        logits = np.array([[[2.0, 1.0, -3.0, NOTHING]], [[1.0, 3.0, -1.0, 0.5]]], np.float32)
        assert (merged(logits) > 0.5).tolist() == [[[True, False, False, False]], [[False, True, False, True]]]


class TestChoose:
    AREAS = np.array([[100.0, 90, 80, 10, 120, 101, 60, 95]])  # frame 3: no area; an eighth of the window: frames 1, 2

    def test_variants(self) -> None:
        assert choose(self.AREAS, "horizon", [], 10) == [7]
        assert choose(self.AREAS, "horizon", [14], 10) == [4]
        assert choose(self.AREAS, "similar-area", [], 10) == [5]
        assert choose(self.AREAS, "median-area", [], 10) == [7]  # of 120, 101, 60, 95: the lower median, 95
        assert choose(self.AREAS, "similar-area-together", [], 10) == [5]
        assert choose(np.concatenate([self.AREAS, self.AREAS[:, ::-1]]), "similar-area-together", [16], 10) == [6, 6]

    def test_nothing_left_means_lost(self) -> None:
        assert choose(np.array([[100.0, 3, 2, 1]]), "median-area", [], 0) == [None]


class TestFilters:
    def test_border(self) -> None:
        xy = np.array([[0.5, 50], [2.5, 50], [198.5, 50], [100, 99.5], [100, 50]], np.float32)
        assert in_frame(xy, (100, 200)).tolist() == [False, True, False, False, True]

    def test_a_changed_patch_rejects_for_good(self) -> None:
        frames = np.full((4, 40, 50, 3), 60, np.uint8)
        frames[1, 10:20, 10:20] = (250, 250, 30)  # something else passes over one of two points
        queries = np.array([[0, 15, 15], [0, 40, 30]], np.float32)
        still = Waves(amp=0.0, mod=9999)

        class Still(Waves):
            def __call__(self, frames: Frames, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
                for t in range(len(frames)):
                    yield t, queries[:, 1:].astype(np.float32), np.ones(len(queries), np.float32)

        seen = [v.tolist() for _, _, v in PatchFiltered(Still(), 3, 0.01)(ArrayFrames(frames), queries)]
        assert still.threshold == 0.5 and seen == [[1, 1], [0, 1], [0, 1], [0, 1]]
