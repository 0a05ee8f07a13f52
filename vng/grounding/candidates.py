"""Candidates of a grounder without training: what a detector finds in a few frames, as masks with scores.

Shapes: X texts that the detector is asked for, C candidates of a frame, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vng.detectors import Detections, Detector
from vng.detectors.boxes import overlaps
from vng.frames import Frames
from vng.grounding.phrases import Phrase
from vng.masks import RLE, area, encode, intersections
from vng.points import PointPrompts
from vng.segmenters import Segmenter
from vng.segmenters.box_points import boxed

SAME_BOX = 0.7  # IoU of boxes that are one candidate
SAME_MASK = 0.85  # IoU of masks that are one candidate
SHARPNESS_ROWS = 180  # height at which sharpness is measured
LOOKS = 3  # frames near each place that are compared
MARGIN = 0.1  # of a box's sides, by which a mask may reach over it


@dataclass(frozen=True, kw_only=True)
class NounTexts:
    """The texts of one noun, as indices; None where a text would repeat a shorter one."""

    noun: int
    phrase: int | None
    clause: int | None


@dataclass(frozen=True)
class Queries:
    """The texts of all nouns, each once: X texts, and which of them belong to each noun."""

    texts: tuple[str, ...]
    nouns: tuple[NounTexts, ...]

    @property
    def naming(self) -> list[int]:
        """Texts that name a thing: bare nouns and phrases. A clause may name two ("parrot playing with the other")."""
        found = {n.noun for n in self.nouns} | {n.phrase for n in self.nouns if n.phrase is not None}
        return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A thing in one frame."""

    frame: int
    box: np.ndarray  # float32 [4], as in `Detections`
    mask: RLE
    scores: np.ndarray  # float32 [X], of the detector for each text; 0 where it did not find the thing


def queries_of(phrases: Sequence[Phrase]) -> Queries:
    """The texts for nouns: the bare noun, its phrase, its clause, in lower case."""
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    nouns = []
    for phrase in phrases:
        noun, long, clause = (" ".join(text.lower().split()) for text in (phrase.head, phrase.text, phrase.clause))
        nouns.append(
            NounTexts(
                noun=number(noun),
                phrase=number(long) if long not in ("", noun) else None,
                clause=number(clause) if clause not in ("", noun, long) else None,
            )
        )
    return Queries(tuple(texts), tuple(nouns))


def choose_frames(frames: Frames, count: int) -> list[int]:
    """Frames spread evenly over a video, in each place the sharpest of a few; ascending, at most `count`.

    Sharpness is the variance of the Laplacian.
    """
    length = len(frames)
    if length <= count:
        return list(range(length))
    gap = length / count
    chosen = []
    for place in range(count):
        centre = int((place + 0.5) * gap)
        step = max(1, int(gap / 4))
        near = sorted({min(max(centre + step * (i - LOOKS // 2), 0), length - 1) for i in range(LOOKS)})
        chosen.append(max(near, key=lambda t: (_sharpness(frames[t]), -abs(t - centre))))
    return sorted(set(chosen))


def _sharpness(image: np.ndarray) -> float:
    height, width = image.shape[:2]
    scale = min(1.0, SHARPNESS_ROWS / height)
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return float(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())


def find_candidates(
    image: np.ndarray, frame: int, queries: Queries, detector: Detector, segmenter: Segmenter, most: int
) -> list[Candidate]:
    """The candidates of one frame, the best first; one pass of the detector, one encoding for the segmenter.

    Args:
        image: uint8 [H, W, 3].
        frame: its index.
        queries: what to look for.
        detector, segmenter: engines; the segmenter is not asked where the detector gives masks.
        most: candidates for each naming text.
    """
    detections = detector(image, queries.texts)
    boxes, scores, masks = _pooled(detections, queries, most)
    if not len(boxes):
        return []
    own = segment_boxes(segmenter, image, boxes) if masks is None else masks
    found = [
        Candidate(frame=frame, box=box, mask=encode(mask), scores=row)
        for box, mask, row in zip(boxes, own, scores, strict=True)
    ]
    return _distinct([candidate for candidate in found if area(candidate.mask)])


def _pooled(
    detections: Sequence[Detections], queries: Queries, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Detections of all texts as things: boxes [C, 4], scores [C, X], masks bool [C, H, W] or None; the best first."""
    count, naming = len(queries.texts), queries.naming
    rows = sorted(
        ((float(d.scores[i]), x, i) for x, d in enumerate(detections) if x in naming for i in range(len(d))),
        key=lambda row: (-row[0], row[1], row[2]),
    )
    boxes, scores, masks = np.zeros((0, 4), np.float32), np.zeros((0, count), np.float32), list[np.ndarray]()
    for score, x, i in rows:
        box = detections[x].boxes[i]
        near = overlaps(box[None], boxes)[0] if len(boxes) else np.zeros(0)
        if len(near) and near.max() >= SAME_BOX:
            scores[near.argmax(), x] = max(scores[near.argmax(), x], score)
            continue
        boxes = np.concatenate([boxes, box[None]])
        scores = np.concatenate([scores, np.zeros((1, count), np.float32)])
        scores[-1, x] = score
        own = detections[x].masks
        if own is not None:
            masks.append(own[i])
    for x, found in enumerate(detections):
        if x not in naming and len(found) and len(boxes):
            near = overlaps(found.boxes, boxes)
            for i, k in enumerate(near.argmax(1)):
                if near[i, k] >= SAME_BOX:
                    scores[k, x] = max(scores[k, x], found.scores[i])
    order = np.argsort(-scores[:, naming], axis=0, kind="stable")[:most]
    kept = sorted({int(k) for column, x in enumerate(naming) for k in order[:, column] if scores[k, x] > 0})
    return boxes[kept], scores[kept], np.stack([masks[k] for k in kept]) if masks and kept else None


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates without those whose mask repeats that of a better one, which gets their scores."""
    kept: list[Candidate] = []
    for candidate in candidates:
        near = overlap_of_masks([candidate.mask], [other.mask for other in kept])[0]
        if len(near) and near.max() >= SAME_MASK:
            k = int(near.argmax())
            kept[k] = replace(kept[k], scores=np.maximum(kept[k].scores, candidate.scores))
        else:
            kept.append(candidate)
    return kept


def overlap_of_masks(first: Sequence[RLE], second: Sequence[RLE]) -> np.ndarray:
    """IoU in [0, 1] of masks: float64 [N, M]; 0 where one is empty."""
    shared = intersections(first, second)
    areas = [np.array([area(rle) for rle in masks], float) for masks in (first, second)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1))


def segment_boxes(segmenter: Segmenter, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Masks bool [C, H, W] of the things in boxes [C, 4]; nothing reaches far over a box.

    Engines that take no boxes get points (`vng/segmenters/box_points.py`). They are asked for one thing at a time, as
    they would take one thing's points as another's negatives.
    """
    nothing = PointPrompts(np.empty((0, 2)), np.empty((0, 2)))
    prompts = [boxed(nothing, box, segmenter, image) for box in boxes]
    if segmenter.takes_boxes:
        masks = segmenter(image, prompts) > 0.5
    else:
        encoded = segmenter.encoded(image)
        masks = np.concatenate([encoded([prompt]) for prompt in prompts]) > 0.5
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        across, down = MARGIN * (x1 - x0 + 1), MARGIN * (y1 - y0 + 1)
        inside = np.zeros(mask.shape, bool)
        rows = slice(max(0, int(y0 - down)), int(np.ceil(y1 + down)) + 1)
        inside[rows, max(0, int(x0 - across)) : int(np.ceil(x1 + across)) + 1] = True
        mask &= inside
    return np.asarray(masks)
