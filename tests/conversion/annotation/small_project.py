"""A tiny project of annotation: a clip with a bright square that moves, and candidates round it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from conversion.annotation.candidates import BACKGROUND, FOREGROUND, UNCERTAIN, Candidate
from conversion.annotation.proposals import ProposalFolder, ProposedObject, ProposedVideo
from tests.helpers import box, write_frames
from vng.masks import encode
from vng.narratives import Expression, Narrative

FRAMES, HEIGHT, WIDTH = 5, 48, 80
SENTENCE = "A ball rolls past the other ball."


def square(t: int) -> np.ndarray:
    """Where the square is in frame t, bool [H, W]."""
    return box(16, 8 + 6 * t, 32, 26 + 6 * t, HEIGHT, WIDTH)


def write_clip(folder: Path, name: str = "balls") -> Path:
    """Frames of a clip, as PNGs in a folder of its name."""
    images = np.full((FRAMES, HEIGHT, WIDTH, 3), 50, np.uint8)
    for t in range(FRAMES):
        images[t, square(t)] = (230, 60, 40)
    write_frames(folder / name, images, "{:05d}.png")
    return folder / name


def proposed(object_id: str, name: str, frames: int = 3) -> ProposedObject:
    """An object with one candidate of each kind in some frames; the likely one is on the square."""
    rows = {FOREGROUND: (18, 24), BACKGROUND: (4, 4), UNCERTAIN: (10, 17)}
    drawn = [
        Candidate(frame=t, x=float(x + 6 * t * (kind != BACKGROUND)), y=float(y), kind=kind, probability=0.5)
        for kind, (x, y) in rows.items()
        for t in range(frames)
    ]
    return ProposedObject(
        object_id=object_id, name=name, rough_frame=1, rough_mask=encode(square(1)), candidates=tuple(drawn)
    )


def write_candidates(folder: Path, ids: tuple[str, ...] = ("a", "b"), frames: int = 3) -> Path:
    """A folder of candidates of the clip `balls`."""
    video = ProposedVideo(
        video_id="balls",
        video="balls",
        split="train",
        frame_names=tuple(f"{t:05d}" for t in range(FRAMES)),
        narratives=(Narrative("Ball", SENTENCE),),
        expressions=tuple(Expression(0, *span, own) for span, own in zip([(2, 6), (28, 32)], ids, strict=False)),
        objects=tuple(proposed(own, "ball", frames) for own in ids),
    )
    ProposalFolder(folder, {"of": "a test"}).write(video)
    return folder


def as_lines(*clips: dict[str, object]) -> str:
    """Own clips as JSON lines."""
    return "".join(json.dumps(clip) + "\n" for clip in clips)
