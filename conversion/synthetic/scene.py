"""Scenes of the procedural world: textured shapes that move, occlude each other, leave and return, and a moving camera.

Exact ground truth: an object's mask is the set of its visible pixels after all objects are painted back to front.
Shapes: T frames, K objects, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 44, 44),
    "green": (44, 160, 60),
    "blue": (48, 84, 212),
    "yellow": (226, 202, 50),
    "purple": (146, 62, 178),
    "orange": (238, 134, 30),
    "pink": (240, 140, 186),
    "cyan": (60, 196, 204),
}
PATTERNS = ("plain", "striped", "spotted", "checked")
MOTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0), "still": (0.0, 0.0)}


def _regular(n: int, phase: float = 0.0) -> np.ndarray:
    angle = np.arange(n) * 2 * np.pi / n + phase
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _star(points: int, inner: float) -> np.ndarray:
    corners = _regular(2 * points, -np.pi / 2)
    corners[1::2] *= inner
    return corners


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], 1) / 17


def _moon() -> np.ndarray:
    outer = np.linspace(-0.75 * np.pi, 0.75 * np.pi, 40)
    inner = outer[::-1]
    first = np.stack([-np.cos(outer), np.sin(outer)], 1)
    second = np.stack([-np.cos(inner) * 0.62 + 0.32, np.sin(inner) * 0.78], 1)
    return np.concatenate([first, second])


_CROSS = np.array(
    [
        *[(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1)],
        *[(-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)],
    ]
)
# Unit outlines, float [V, 2], by noun.
SHAPES: dict[str, np.ndarray] = {
    "ball": _regular(48),
    "box": _regular(4, np.pi / 4) * 1.15,
    "star": _star(5, 0.48) * 1.1,
    "kite": np.array([(0, -1.25), (0.8, -0.1), (0, 1.0), (-0.8, -0.1)]),
    "heart": _heart() * 1.05,
    "moon": _moon() * 1.1,
    "cross": _CROSS,
    "tile": np.array([(-1.35, -0.62), (1.35, -0.62), (1.35, 0.62), (-1.35, 0.62)]),
}


def _wheel(x: float = 0.0, y: float = 0.0, radius: float = 1.0, spokes: int = 8) -> list[np.ndarray]:
    """A rim and its spokes."""
    rim = np.concatenate([_regular(40), _regular(40)[:1]])
    lines = [rim, *(np.array([[0, 0], end]) for end in _regular(spokes))]
    return [line * radius + (x, y) for line in lines]


# Things of thin parts by noun: lines, float [V, 2] each, drawn `STROKE` wide.
STROKE = 0.11  # share of the thing's radius
THIN_SHAPES: dict[str, list[np.ndarray]] = {
    "wheel": _wheel(),
    "bicycle": [
        *(line for x in (-0.72, 0.72) for line in _wheel(x, 0.35, 0.55, 5)),
        np.array([(-0.72, 0.35), (-0.3, -0.4), (0.5, -0.4), (0.0, 0.35), (-0.72, 0.35)]),
        np.array([(-0.38, -0.62), (0.0, 0.35)]),
        np.array([(0.72, 0.35), (0.45, -0.7), (0.7, -0.75)]),
    ],
    "chair": [
        np.array([(-0.6, -1.1), (-0.6, 1.0)]),
        np.array([(0.6, 0.1), (0.6, 1.0)]),
        np.array([(-0.6, 0.1), (0.6, 0.1), (0.85, 0.3), (-0.35, 0.3), (-0.6, 0.1)]),
        np.array([(-0.35, 0.3), (-0.35, 1.1)]),
        np.array([(0.85, 0.3), (0.85, 1.1)]),
        np.array([(-0.6, -1.1), (-0.3, -0.95), (-0.3, 0.3)]),
        np.array([(-0.6, -0.6), (-0.3, -0.45)]),
    ],
    "ladder": [
        *(np.array([(x, -1.3), (x, 1.3)]) for x in (-0.4, 0.4)),
        *(np.array([(-0.4, y), (0.4, y)]) for y in np.linspace(-1.0, 1.0, 6)),
    ],
    "rake": [
        np.array([(0, -1.3), (0, 0.5)]),
        np.array([(-0.6, 0.5), (0.6, 0.5)]),
        *(np.array([(x, 0.5), (x, 1.1)]) for x in np.linspace(-0.6, 0.6, 5)),
    ],
}


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """Settings of the procedural world; see `PRESETS`."""

    height: int = 240
    width: int = 416
    frames: int = 24
    nouns: tuple[str, ...] = tuple(sorted(SHAPES))  # of `SHAPES` and `THIN_SHAPES`
    objects: tuple[int, int] = (3, 6)  # fewest and most
    radius: tuple[float, float] = (0.08, 0.17)  # of an object, as a share of the height
    same_noun: float = 0.8  # chance that an object repeats a noun of the video
    # Chance that an object of the same noun also repeats the colour: only place, motion or relation distinguish it.
    same_colour: float = 0.5
    patterned: float = 0.5  # chance that an object has a pattern
    leave: float = 0.35  # chance that an object leaves the frame, enters late or returns
    camera: float = 0.08  # camera travel, as a share of the frame
    pillars: int = 1  # most foreground pillars that hide objects
    pillar_width: tuple[float, float] = (0.05, 0.09)  # as a share of the frame's width
    paths: int = 12  # candidate paths, of which the one farthest from other objects is used; with 1, paths cross
    clutter: float = 1.0  # contrast of the background texture
    noise: float = 4.0  # standard deviation of pixel noise, grey levels
    speed: float = 0.35  # most travel of an object over the video, as a share of the frame
    # Cues by which captions distinguish things with the same noun, and their weights.
    cues: tuple[tuple[str, float], ...] = (
        ("colour", 1.0),
        ("pattern", 1.0),
        ("size", 1.0),
        ("motion", 1.0),
        ("place", 1.5),
        ("relation", 2.0),
    )


_EASY = WorldSettings(
    height=96,
    width=160,
    frames=12,
    objects=(2, 3),
    radius=(0.13, 0.2),
    same_noun=0.6,
    same_colour=0.0,
    patterned=0.2,
    leave=0.15,
    camera=0.04,
    pillars=0,
    clutter=0.45,
    noise=3.0,
    speed=0.3,
    cues=(("colour", 12.0), ("pattern", 1.0), ("place", 1.0), ("relation", 1.0)),
)
PRESETS = {
    "hard": WorldSettings(),
    "easy": _EASY,
    "stills": replace(_EASY, frames=1),
    # Between "easy" and "hard": videos of mixed difficulty.
    "varied": replace(
        _EASY,
        objects=(2, 4),
        radius=(0.11, 0.2),
        patterned=0.4,
        leave=0.25,
        camera=0.08,
        pillars=1,
        clutter=0.7,
        noise=5.0,
        speed=0.4,
        cues=(("colour", 8.0), ("pattern", 2.0), ("place", 1.0), ("relation", 1.0)),
    ),
    # The frame size of "easy" with another look: more and smaller things, patterns, pillars that occlude them.
    "crowded": replace(
        _EASY,
        objects=(3, 5),
        radius=(0.1, 0.17),
        patterned=0.6,
        leave=0.3,
        camera=0.1,
        pillars=2,
        clutter=0.9,
        noise=7.0,
        speed=0.45,
        cues=(("colour", 6.0), ("pattern", 2.0), ("place", 1.0), ("relation", 1.0)),
    ),
    # The look of "easy", but things cross, pass behind pillars, leave and return.
    # Thin things (frames, wheels, legs) beside solid ones, larger and closer together than in "hard".
    "thin": WorldSettings(
        nouns=(*sorted(THIN_SHAPES), "ball", "box", "star"), objects=(3, 7), radius=(0.11, 0.26), paths=2
    ),
    "occlusions": replace(_EASY, frames=24, pillars=2, pillar_width=(0.12, 0.22), paths=1, leave=0.4, speed=0.6),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene."""

    noun: str
    colour: str
    pattern: str
    radius: float  # pixels
    motion: str  # key of MOTIONS: its motion over the ground
    centre: np.ndarray  # float64 [T, 2], (x, y) in ground pixels
    angle: np.ndarray  # float64 [T], radians
    shade: float  # brightness factor
    big: bool


@dataclass(frozen=True)
class Scene:
    """All that is drawn in one video; things later in the tuple are closer to the camera."""

    settings: WorldSettings
    things: tuple[Thing, ...]
    camera: np.ndarray  # float64 [T, 2], the frame's corner on the ground
    ground: np.ndarray  # uint8 [H', W', 3]
    pillars: tuple[tuple[float, float], ...]  # (left edge, width) in frame pixels


def make_scene(settings: WorldSettings, rng: np.random.Generator) -> Scene:
    """Draw a random scene, determined by the settings and the generator."""
    camera = _camera_path(settings, rng)
    count = int(rng.integers(settings.objects[0], settings.objects[1] + 1))
    things: list[Thing] = []
    for _ in range(count):
        things.append(_make_thing(settings, rng, things, camera))
    pillars = tuple(
        (float(rng.uniform(0.2, 0.75) * settings.width), float(rng.uniform(*settings.pillar_width) * settings.width))
        for _ in range(int(rng.integers(0, settings.pillars + 1)))
    )
    return Scene(settings, tuple(things), camera, _ground(settings, rng), pillars)


def _camera_path(settings: WorldSettings, rng: np.random.Generator) -> np.ndarray:
    margin = settings.camera * np.array([settings.width, settings.height])
    steps = np.linspace(0, 1, settings.frames)[:, None]
    start, end = rng.uniform(0, 1, (2, 2))
    sway = 0.12 * np.sin(steps * rng.uniform(3, 7, 2) + rng.uniform(0, 6, 2))
    return np.clip(start + (end - start) * steps + sway, 0, 1) * margin


def _make_thing(settings: WorldSettings, rng: np.random.Generator, others: list[Thing], camera: np.ndarray) -> Thing:
    noun = str(rng.choice(settings.nouns))
    colour = None
    if others and rng.random() < settings.same_noun:
        twin = others[int(rng.integers(len(others)))]
        noun = twin.noun
        if rng.random() < settings.same_colour:
            colour = twin.colour
    used = {thing.colour for thing in others}
    if colour is None:
        colour = str(rng.choice([name for name in sorted(COLOURS) if name not in used] or sorted(COLOURS)))
    pattern = str(rng.choice(PATTERNS[1:])) if rng.random() < settings.patterned else "plain"
    big = bool(rng.random() < 0.5)
    low, high = settings.radius
    middle = 0.5 * (low + high)
    radius = settings.height * float(rng.uniform(middle * 1.1, high) if big else rng.uniform(low, middle * 0.95))
    motion = str(rng.choice(sorted(MOTIONS)))
    centre = _path(settings, rng, radius, motion, camera, others)
    spin = rng.uniform(-0.6, 0.6) * (motion != "still")
    angle = rng.uniform(-0.4, 0.4) + spin * np.linspace(0, 1, settings.frames)
    return Thing(
        noun=noun,
        colour=colour,
        pattern=pattern,
        radius=radius,
        motion=motion,
        centre=centre,
        angle=angle,
        shade=float(rng.uniform(0.88, 1.08)),
        big=big,
    )


def _path(
    settings: WorldSettings,
    rng: np.random.Generator,
    radius: float,
    motion: str,
    camera: np.ndarray,
    others: list[Thing],
) -> np.ndarray:
    """Ground positions [T, 2]: straight with a wobble; things that leave cross the frame's edge and may return."""
    size = np.array([settings.width, settings.height], float)
    direction = np.array(MOTIONS[motion])
    travel = direction * size * settings.speed * rng.uniform(0.7, 1.0)
    steps = np.linspace(0, 1, settings.frames)[:, None]
    best, best_gap = None, -np.inf
    # The path farthest from the other things, so that few things are fully hidden.
    for _ in range(settings.paths):
        low = np.maximum(radius, radius - travel)
        high = np.minimum(size - radius, size - radius - travel)
        start = rng.uniform(np.minimum(low, high), np.maximum(low, high))
        path = start + travel * steps
        gaps = [np.linalg.norm(path - (thing.centre - camera), axis=1) - radius - thing.radius for thing in others]
        gap = min((float(np.percentile(g, 20)) for g in gaps), default=0.0)
        if gap > best_gap:
            best, best_gap = path, gap
        if gap > 0.1 * radius:
            break
    assert best is not None
    wobble = 0.02 * size * np.sin(steps * rng.uniform(4, 9, 2) + rng.uniform(0, 6, 2)) * (motion != "still")
    path = best + wobble
    if motion != "still" and rng.random() < settings.leave:
        path = path + _absence(settings, rng, radius, path)[:, None] * direction
    return path + camera


def _absence(settings: WorldSettings, rng: np.random.Generator, radius: float, path: np.ndarray) -> np.ndarray:
    """An extra push [T] along the motion, in pixels, that takes a thing out of the frame for some of the time."""
    steps = np.linspace(0, 1, settings.frames)
    far = max(settings.width, settings.height) + 2 * radius
    kind = rng.integers(3)
    middle = rng.uniform(0.4, 0.65)
    if kind == 0:  # leaves and does not return
        return far * np.clip((steps - middle) / 0.35, 0, None)
    if kind == 1:  # enters late
        return -far * np.clip((1 - middle - steps) / 0.35, 0, None)
    return far * np.clip(1 - np.abs(steps - middle) / 0.28, 0, None)  # leaves and returns


def _ground(settings: WorldSettings, rng: np.random.Generator) -> np.ndarray:
    """A dull textured ground, larger than the frame by the travel of the camera."""
    height = int(settings.height * (1 + settings.camera)) + 2
    width = int(settings.width * (1 + settings.camera)) + 2
    base = rng.uniform(70, 170) + rng.uniform(-18, 18, 3)
    texture = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 34.0), (9, 22.0), (28, 14.0)):
        grid = rng.normal(0, 1, (cells, 2 * cells, 3)).astype(np.float32)
        grid = 0.75 * grid.mean(axis=2, keepdims=True) + 0.25 * grid
        texture += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(base + settings.clutter * texture, 0, 255).astype(np.uint8)


def render(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the video.

    Returns:
        frames uint8 [T, H, W, 3] and visible masks bool [K, T, H, W].
    """
    s = scene.settings
    frames = np.empty((s.frames, s.height, s.width, 3), np.uint8)
    masks = np.zeros((len(scene.things), s.frames, s.height, s.width), bool)
    rows, columns = np.mgrid[0 : s.height, 0 : s.width].astype(np.float32)
    image: Any
    for t in range(s.frames):
        offset = scene.camera[t]
        shift = np.array([[1, 0, -offset[0]], [0, 1, -offset[1]]], np.float32)
        image = cv2.warpAffine(scene.ground, shift, (s.width, s.height), borderMode=cv2.BORDER_REFLECT).astype(
            np.float32
        )
        for k, thing in enumerate(scene.things):
            alpha = _silhouette(thing, t, offset, s)
            inside = alpha >= 128
            masks[:k, t] &= ~inside
            masks[k, t] = inside
            weight = alpha[..., None].astype(np.float32) / 255
            image = image * (1 - weight) + _paint(thing, t, offset, rows, columns) * weight
        for left, width in scene.pillars:
            hidden = (columns >= left) & (columns < left + width)
            masks[:, t] &= ~hidden
            image[hidden] = np.array([92, 84, 76], np.float32) + 10 * np.sin(rows[hidden] / 5)[:, None]
        image += rng.normal(0, s.noise, image.shape).astype(np.float32)
        frames[t] = np.clip(image, 0, 255).astype(np.uint8)
    return frames, masks


def _silhouette(thing: Thing, t: int, offset: np.ndarray, s: WorldSettings) -> np.ndarray:
    """Anti-aliased outline, uint8 [H, W]."""
    cos, sin = np.cos(thing.angle[t]), np.sin(thing.angle[t])
    turn = np.array([[cos, sin], [-sin, cos]])
    alpha = np.zeros((s.height, s.width), np.uint8)
    thin = THIN_SHAPES.get(thing.noun)
    outlines = [SHAPES[thing.noun]] if thin is None else thin
    placed = [outline @ turn * thing.radius + thing.centre[t] - offset for outline in outlines]
    fixed = [np.rint(np.clip(outline, -4000, 4000) * 16).astype(np.int32) for outline in placed]
    if thin is None:
        cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, shift=4)
    else:
        cv2.polylines(alpha, fixed, False, 255, max(1, round(STROKE * thing.radius)), cv2.LINE_AA, shift=4)
    return alpha


def _paint(thing: Thing, t: int, offset: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The thing's colour and pattern at every pixel, float32 [H, W, 3], fixed to the thing."""
    x, y = columns - np.float32(thing.centre[t][0] - offset[0]), rows - np.float32(thing.centre[t][1] - offset[1])
    cos, sin = np.float32(np.cos(thing.angle[t])), np.float32(np.sin(thing.angle[t]))
    u, v = (x * cos + y * sin) / np.float32(thing.radius), (y * cos - x * sin) / np.float32(thing.radius)
    frequency = np.float32(5.5)
    patterns = {
        "plain": np.zeros(u.shape, bool),
        "striped": np.sin(u * frequency * 1.2) > 0.15,
        "spotted": np.cos(u * frequency) * np.cos(v * frequency) > 0.35,
        "checked": (np.sin(u * frequency) > 0) ^ (np.sin(v * frequency) > 0),
    }
    dark = patterns[thing.pattern].astype(np.float32)
    light = np.float32(thing.shade) * (1 - 0.12 * v) * (1 - 0.55 * dark)
    return np.array(COLOURS[thing.colour], np.float32) * light[..., None]
