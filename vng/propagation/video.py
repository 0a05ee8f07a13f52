"""Propagation: a video and prompts for its objects in, a mask per object and frame out (engines: `vng/propagators`).

Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vng.errors import DataError, UsageError
from vng.frames import Frames, as_frames
from vng.label_maps import exclusive, write_label_map
from vng.manifest import check_folder, claimed_folder, to_json, versions, write_atomic
from vng.points import Points
from vng.propagation.mask_prompts import read_masks
from vng.propagation.point_prompts import Prompts, prompts_of_points, read_points
from vng.propagators import DEFAULT, FramePrompts, Propagator, check_prompts, load

RESULT, MASKS, FILM, OBJECTS = "result.json", "masks", "overlay.mp4", "objects.json"


@dataclass(frozen=True)
class PropagatedFrame:
    """The prediction of one frame."""

    index: int
    name: str
    masks: np.ndarray  # bool [K, H, W], at most one object per pixel
    probabilities: np.ndarray | None = None  # float32 [K, H, W] in [0, 1], if requested


AnyPrompts = Prompts | Mapping[int, FramePrompts] | Mapping[str, Points] | str | Path


def propagate(
    video: str | Path | np.ndarray | Frames,
    prompts: AnyPrompts,
    propagator: str | Propagator = DEFAULT,
    probabilities: bool = False,
    **options: Any,
) -> Iterator[PropagatedFrame]:
    """Propagate prompts of some frames to all frames of a video.

    parrot = Points.of_lists([0, 0], [(120, 80), (140, 95)], [POSITIVE, POSITIVE])
    for frame in propagate("parrots.mp4", {"parrot": parrot}):
        print(frame.name, frame.masks[0].sum())

    Args:
        video: a video file, a folder of frames, or uint8 [T, H, W, 3].
        prompts: points by object name; `FramePrompts` by frame index; or the path of a points file or of masks.
        propagator: an engine, or its name; `options` are those of the named engine.
        probabilities: whether to return them with the masks.

    Returns:
        An iterator over all frames, each once, in the engine's order (which may not be time order). Prompts and engine
        are checked by the call itself, frames are read during iteration; memory does not grow with the video.

    Raises:
        DataError, DataErrors: the video or a file of prompts is faulty. UsageError: an unknown engine or option, or
            prompts that do not fit the video.
    """
    frames = as_frames(video)
    by_frame = _as_prompts(prompts, frames)
    check_prompts(frames, by_frame)
    engine = load(propagator, **options) if isinstance(propagator, str) else propagator
    return _frames_of(engine, frames, by_frame, probabilities)


def _frames_of(
    engine: Propagator, frames: Frames, prompts: Mapping[int, FramePrompts], probabilities: bool
) -> Iterator[PropagatedFrame]:
    for t, values in engine(frames, prompts):
        yield PropagatedFrame(t, frames.names[t], exclusive(values), values if probabilities else None)


def _as_prompts(prompts: AnyPrompts, frames: Frames) -> Mapping[int, FramePrompts]:
    if isinstance(prompts, (str, Path)):
        path = Path(prompts)
        is_points = path.suffix.lower() in (".json", ".csv")
        prompts = read_points(path, frames) if is_points else read_masks(path, frames)
    if isinstance(prompts, Prompts):
        return prompts.frames
    points = {name: value for name, value in prompts.items() if isinstance(name, str) and isinstance(value, Points)}
    hints = {t: value for t, value in prompts.items() if isinstance(t, int) and isinstance(value, FramePrompts)}
    if len(points) + len(hints) != len(prompts) or (points and hints):
        raise UsageError("prompts: expected Points by object's name, FramePrompts by frame index, or a path")
    return prompts_of_points(points, frames).frames if points else hints


def propagate_to_folder(
    frames: Frames,
    prompts: Prompts,
    engine: Propagator,
    out: Path,
    settings: Mapping[str, Any],
    on_frame: Callable[[], object] | None = None,
) -> list[dict[str, Any]]:
    """Propagate and write `masks/<frame>.png` (object numbers), `overlay.mp4`, `objects.json` and `result.json`.

    Everything is written beside `out` and moved there when complete, replacing an earlier result.

    Args:
        settings: those of the result, for `result.json`.
        on_frame: called after each frame, for progress bars; twice per frame, for masks and for the video.

    Returns:
        The content of `objects.json`, one entry per object.

    Raises:
        DataError: `out` holds something else, or a frame cannot be read; then `out` is left unchanged.
    """
    out = out.resolve()  # "." has no name to derive others from
    check_out(out)
    check_prompts(frames, prompts.frames)
    temporary = out.with_name(out.name + ".tmp")
    with claimed_folder(temporary):
        return _write_folder(frames, prompts, engine, temporary, out, settings, on_frame)


def _write_folder(
    frames: Frames,
    prompts: Prompts,
    engine: Propagator,
    temporary: Path,
    out: Path,
    settings: Mapping[str, Any],
    on_frame: Callable[[], object] | None,
) -> list[dict[str, Any]]:
    """Write everything into a folder that this process has claimed, and move it to `out`."""
    for left in temporary.iterdir():  # of a run that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    try:
        (temporary / MASKS).mkdir(parents=True)
        areas: list[dict[str, int]] = [{} for _ in prompts.names]
        for frame in _frames_of(engine, frames, prompts.frames, False):
            write_label_map(temporary / MASKS / f"{frame.name}.png", frame.masks, prompts.numbers)
            for by_name, area in zip(areas, frame.masks.sum((1, 2)).tolist(), strict=True):
                by_name.update({frame.name: area} if area else {})
            if on_frame is not None:
                on_frame()
        _write_film(frames, prompts, temporary, on_frame)
        objects = _summary(frames, prompts, areas)
        write_atomic(temporary / OBJECTS, to_json(objects))
        notes = (*frames.notes, *prompts.notes)
        made_by = {"settings": dict(settings), "versions": versions(), "frames": len(frames), "size": frames.size}
        write_atomic(temporary / RESULT, to_json(made_by | {"notes": [str(note) for note in notes]}))
        _move(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return objects


def check_out(out: Path) -> None:
    """Raise DataError if `out` is a file, or a folder with anything but a result of propagation."""
    check_folder(out)
    if out.exists() and any(out.iterdir()) and not (out / RESULT).exists():
        raise DataError(out, reason="this folder holds something else", cure="choose another --out")


def _move(temporary: Path, out: Path) -> None:
    earlier = out.with_name(out.name + ".tmp.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if out.exists():
        os.replace(out, earlier)
    os.replace(temporary, out)
    shutil.rmtree(earlier, ignore_errors=True)


def _summary(frames: Frames, prompts: Prompts, areas: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
    from vng.label_maps import colour

    prompted = [
        [frames.names[t] for t in sorted(prompts.frames) if _hinted(prompts.frames[t], k)] for k in range(len(areas))
    ]
    return [
        {
            "name": name,
            "number": number,  # its pixel value in the masks
            "colour": colour(number - 1),
            "prompted": prompted[k],
            "frames_seen": len(areas[k]),
            "area": {t: areas[k][t] for t in frames.names if t in areas[k]},  # pixels, for frames with a non-empty mask
        }
        for k, (name, number) in enumerate(zip(prompts.names, prompts.numbers, strict=True))
    ]


def _hinted(prompt: FramePrompts, k: int) -> bool:
    return any(hints and hints[k] is not None for hints in (prompt.masks, prompt.points))


def _write_film(frames: Frames, prompts: Prompts, folder: Path, on_frame: Callable[[], object] | None) -> None:
    """Write the video with coloured objects, their names below, and the prompts in their frames."""
    from vng.label_maps import colour
    from vng.viewer import caption_strip, overlay, write_video

    colours = [colour(number - 1) for number in prompts.numbers]
    factor = max(1, -(-480 // frames.size[1]))  # small videos are enlarged, so that names are readable
    starts = np.cumsum([0, *(len(name) + 2 for name in prompts.names)]).tolist()
    spans = [(start, start + len(name)) for start, name in zip(starts, prompts.names, strict=False)]
    strip = caption_strip(", ".join(prompts.names), spans, frames.size[1] * factor, colours)

    def images() -> Iterator[np.ndarray]:
        for t, image in enumerate(frames):
            with Image.open(folder / MASKS / f"{frames.names[t]}.png") as file:
                labels = np.asarray(file)
            width = factor * image.shape[1]
            painted = overlay(image, [labels == number for number in prompts.numbers], colours, width)
            yield np.concatenate([_with_prompts(painted, prompts, t, factor, colours), strip])
            if on_frame is not None:
                on_frame()

    write_video(images(), folder / FILM, frames.fps or 8.0)


def _with_prompts(
    image: np.ndarray, prompts: Prompts, t: int, factor: int, colours: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Draw the prompts of frame t: points as discs, masks as white outlines."""
    from vng.viewer import draw_points

    for rgb, points in zip(colours, prompts.points, strict=True):
        here = points.in_frame(t)
        if len(here):
            image = draw_points(image, Points(here.frame, (here.xy + 0.5) * factor - 0.5, here.label), positive=rgb)
    for mask in prompts.frames[t].masks if t in prompts.frames else ():
        if mask is not None and mask.any():
            enlarged = np.repeat(np.repeat(mask.astype(np.uint8), factor, 0), factor, 1)
            outline, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(image, outline, -1, (255, 255, 255), 1)
    return image
