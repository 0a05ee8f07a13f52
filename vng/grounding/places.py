"""Places and ways that a narrative tells ("on the left", "behind the [car]", "moving up"), and how well tracks fit them.

Geometry alone decides: "behind" is judged by where things stand, further up in the frame; a way is that in the frame, so
a moving camera can mislead. All fits lie in [0, 1].
Shapes: T frames, K tracks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vng.grounding.phrases import Phrase
from vng.masks import RLE, area, bounding_box

SOFT = 0.06  # of the frame's side: distance at which a fit of place is nearly sure
NEAR = 0.15  # of the frame's diagonal
_DETERMINERS = r"(?:the|a|an|his|her|its|their|this|that|another|other|second|first)"
_ABSOLUTE = {
    "left": r"(?:on|at|in) the (?:far |very )?left(?: side| hand side)?",
    "right": r"(?:on|at|in) the (?:far |very )?right(?: side| hand side)?",
    "top": r"(?:on|at|in) the (?:very )?top",
    "bottom": r"(?:on|at|in) the (?:very )?bottom",
    "middle": r"(?:on|at|in) the (?:middle|center|centre)",
    "front": r"(?:on|at|in) (?:the )?(?:front|foreground)",
    "back": r"(?:on|at|in) the (?:back|background|rear)",
}
_GOES = r"(?:mov|go|walk|run|driv|fly|drift|slid|com|head|rid|swim|crawl|jump|roll)\w*"
_MOTION = {
    "moving left": rf"{_GOES} (?:to|towards?) the left|{_GOES} left(?:wards?)?",
    "moving right": rf"{_GOES} (?:to|towards?) the right|{_GOES} right(?:wards?)?",
    "moving up": rf"{_GOES} up(?:wards?)?|ris(?:es|ing)|float(?:s|ing) up(?:wards?)?",
    "moving down": rf"{_GOES} down(?:wards?)?|sink(?:s|ing)|fall(?:s|ing)",
    "still": r"(?:stand|stay|sit|remain|keep)\w* still|(?:does|do|is) not mov\w*|rest(?:s|ing) in (?:its|his|her|their) place",
}
_RELATIVE = {
    "left of": r"(?:(?:to|on|at) the )?left(?: side)? of",
    "right of": r"(?:(?:to|on|at) the )?right(?: side)? of",
    "in front of": r"in front of|before",
    "behind": r"behind|in back of",
    "on": r"on top of|upon|onto|on",
    "above": r"above|over",
    "below": r"below|under|underneath|beneath",
    "beside": r"next to|beside|near|close to|by|alongside",
    "in": r"inside|into|in",
}
_ABSOLUTE_AFTER = {
    name: re.compile(rf"^(?:\W*\w+){{0,2}}?\W*(?:{words})\b(?!\s+of\b)", re.IGNORECASE)
    for name, words in (_ABSOLUTE | _MOTION).items()
}
_RELATION_BEFORE = {
    name: re.compile(rf"(?:^|\W)(?:{words})\s+(?:{_DETERMINERS}\s+)*$", re.IGNORECASE)
    for name, words in _RELATIVE.items()
}


@dataclass(frozen=True)
class Place:
    """One place or way that is told of a noun: alone, or by another noun of the narrative (its number)."""

    kind: str
    other: int | None = None


def places_of(description: str, phrases: Sequence[Phrase]) -> list[list[Place]]:
    """The places of each noun of a narrative, in order; the other noun of a relation is the next one in the text."""
    places: list[list[Place]] = [[] for _ in phrases]
    order = sorted(range(len(phrases)), key=lambda n: phrases[n].head_span)
    for position, n in enumerate(order):
        end = phrases[n].head_span[1]
        following = order[position + 1 :]
        after = description[end : min((phrases[m].span[0] for m in following), default=len(description))]
        after = re.split(r"[.;!?]", after)[0]
        places[n] += [Place(kind) for kind, pattern in _ABSOLUTE_AFTER.items() if pattern.search(after)]
        for m in following[:1]:
            between = description[end : min(phrases[m].text_span[0], phrases[m].span[0])]
            if len(between.split()) > 8 or re.search(r"[.;!?]", between):
                continue
            kind = next((kind for kind, pattern in _RELATION_BEFORE.items() if pattern.search(between)), None)
            if kind is not None:
                places[n].append(Place(kind, m))
    return places


class Geometry:
    """Boxes of tracks in each frame, as shares of the frame: float64 [K, T, 4] (x0, y0, x1, y1), NaN where not seen."""

    def __init__(self, masks: Sequence[Sequence[RLE]], size: tuple[int, int]) -> None:
        height, width = size
        length = len(masks[0]) if masks else 0
        self.boxes = np.full((len(masks), length, 4), np.nan)
        self.shares = np.zeros((len(masks), length))  # of the frame's pixels
        for k, row in enumerate(masks):
            for t, rle in enumerate(row):
                if size_of := area(rle):
                    x, y, across, down = bounding_box(rle)
                    self.boxes[k, t] = [x / width, y / height, (x + across) / width, (y + down) / height]
                    self.shares[k, t] = size_of / (height * width)

    @property
    def seen(self) -> np.ndarray:
        """bool [K, T]."""
        return ~np.isnan(self.boxes[..., 0])

    def fits(self, kind: str, rivals: Sequence[int]) -> np.ndarray:
        """How well each track fits an absolute place, float64 [K] in [0, 1].

        Args:
            kind: a key of the table of places.
            rivals: the tracks among which the place tells one from another; of "the man on the left" the other men.
        """
        if kind in _MOTION:
            return self._moves(kind)
        x, y = self._centres()
        value = {
            "left": -x,
            "right": x,
            "top": -y,
            "bottom": y,
            "front": self.boxes[..., 3],
            "back": -self.boxes[..., 3],
        }
        if kind == "middle":
            own = -np.hypot(x - 0.5, y - 0.5)
            return np.array([self._above(own, k, rivals, SOFT, -0.2) for k in range(len(own))])
        own = value[kind]
        middle = {"left": -0.5, "right": 0.5, "top": -0.5, "bottom": 0.5, "front": 0.6, "back": -0.6}[kind]
        return np.array([self._above(own, k, rivals, SOFT, middle) for k in range(len(own))])

    def _moves(self, kind: str) -> np.ndarray:
        """How well each track fits a motion, by the way from where it is seen first to where it is seen last."""
        x, y = self._centres()
        fits = np.zeros(len(x))
        for k, seen in enumerate(self.seen):
            own = np.flatnonzero(seen)
            if len(own):
                across, down = x[k, own[-1]] - x[k, own[0]], y[k, own[-1]] - y[k, own[0]]
                way = {"moving left": -across, "moving right": across, "moving up": -down, "moving down": down}
                gap = way[kind] - SOFT if kind != "still" else SOFT - float(np.hypot(across, down))
                fits[k] = float(_soft(np.array([gap]), 2 * SOFT)[0])
        return fits

    def relates(self, kind: str) -> np.ndarray:
        """How well each pair of tracks fits a relation ("left of": the first is left of the second), float64 [K, K]."""
        relation = _RELATIONS[kind]
        count = len(self.boxes)
        fits = np.full((count, count), 0.5)
        for a in range(count):
            for b in range(count):
                both = self.seen[a] & self.seen[b]
                if a != b and both.any():
                    values = relation(self.boxes[a, both], self.boxes[b, both])
                    # "walks by the car" is true for a moment; other relations are meant for most of the time.
                    fits[a, b] = float(values.max() if kind == "beside" else values.mean())
        return fits

    def _centres(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.boxes[..., 0] + self.boxes[..., 2]) / 2, (self.boxes[..., 1] + self.boxes[..., 3]) / 2

    def _above(self, values: np.ndarray, k: int, rivals: Sequence[int], soft: float, middle: float) -> float:
        """How often track k has a larger value than its rivals, or where it has none than the middle; softly."""
        parts = []
        for other in rivals:
            both = self.seen[k] & self.seen[other]
            if other != k and both.any():
                parts.append(float(_soft(values[k, both] - values[other, both], soft).mean()))
        if parts:
            return float(np.mean(parts))
        own = self.seen[k]
        return float(_soft(values[k, own] - middle, 2 * soft).mean()) if own.any() else 0.0


def _soft(gap: np.ndarray, scale: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(4 * gap / scale, -50, 50)))


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of boxes, 0 where they touch."""
    across = np.maximum(0, np.maximum(b[:, 0] - a[:, 2], a[:, 0] - b[:, 2]))
    down = np.maximum(0, np.maximum(b[:, 1] - a[:, 3], a[:, 1] - b[:, 3]))
    return np.hypot(across, down)


def _centre(boxes: np.ndarray, axis: int) -> np.ndarray:
    return (boxes[:, axis] + boxes[:, axis + 2]) / 2


def _beside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - _soft(_gap(a, b) - NEAR, NEAR)


def _above(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _soft(_centre(b, 1) - _centre(a, 1), SOFT)


def _inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of the first box that lies in the second."""
    across = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    down = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    own = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    return np.asarray(np.clip(across, 0, None) * np.clip(down, 0, None) / own)


_RELATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "left of": lambda a, b: _soft(_centre(b, 0) - _centre(a, 0), SOFT),
    "right of": lambda a, b: _soft(_centre(a, 0) - _centre(b, 0), SOFT),
    "in front of": lambda a, b: _soft(a[:, 3] - b[:, 3], SOFT),
    "behind": lambda a, b: _soft(b[:, 3] - a[:, 3], SOFT),
    "on": lambda a, b: _above(a, b) * _beside(a, b),
    "above": _above,
    "below": lambda a, b: _above(b, a),
    "beside": _beside,
    "in": _inside,
}
