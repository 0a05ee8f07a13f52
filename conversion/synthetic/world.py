"""The procedural world on disk: videos with exact ground truth, written in the formats of the real annotations.

    OUT/
      frames/<video>/000000.jpg       frames
      vidln.jsonl                     Video Localized Narratives with noisy, time-aligned traces
      points.json                     Point-VOS points with wrong and ambiguous verdicts (Oops layout)
      vng/{meta_expressions,extra_masks,orig_masks}.json      the ground truth as a VNG set
      truth.json                      the object that each point record and each span means, and the world's settings

The same seed gives identical output, and video i does not depend on the number of videos.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from conversion.annotation.candidates import BACKGROUND, COUNTS, FOREGROUND, UNCERTAIN, draw_apart
from conversion.annotation.simulated import SimulatedAnnotator
from conversion.formats.jsonio import write_json
from conversion.formats.official_export import write_trio
from conversion.formats.point_vos import AnnotatedPoint, PointRecord, write_points
from conversion.formats.vidln import ActorNarrative, AlignedWord, TracePoint, VidLN, write_vidln
from conversion.synthetic.language import Caption, Mention, narrate
from conversion.synthetic.scene import PRESETS, Scene, WorldSettings, make_scene, render
from vng.dataset import Video, VideoObject
from vng.errors import DataError, one_of
from vng.frames import encode_jpeg
from vng.manifest import check_folder
from vng.masks import decode, encode
from vng.narratives import Expression, Narrative
from vng.points import POINT_FRAMES, point_distance, sample_in_mask
from vng.text_files import load_json

KEY_FRAMES = 10
EXTRA_ID_BASE = 4_850_600_790_000_000_000  # ids beyond 2^32, as in the published extra masks
MIN_VISIBLE = 12  # pixels; a thing with fewer counts as absent


@dataclass(frozen=True, kw_only=True)
class AnnotatorNoise:
    """Error rates of the simulated annotators."""

    wrong_verdict: float = 0.05  # mean share of wrong verdicts; distributed exponentially over annotators
    most_wrong: float = 0.25  # upper limit of an annotator's share
    unsure_distance: float = 1.5  # distance to the outline, in pixels, within which a person may answer "unsure"
    unsure: float = 0.5  # share of "unsure" answers there
    wrong_name: float = 0.02  # share of object names that occur in no caption
    trace_outside: float = 0.25  # share of trace points off the object (73 % of real ones are inside)
    trace_lag_ms: int = 40  # standard deviation of the lag between hand and voice


@dataclass(frozen=True)
class World:
    """One procedural video with its annotations and its ground truth."""

    record: Video
    frames: np.ndarray  # uint8 [T, H, W, 3]
    vidln: VidLN
    points: tuple[PointRecord, ...]
    truth: dict[str, Any]


def make_world(
    index: int, seed: int, settings: WorldSettings, split: str = "train", noise: AnnotatorNoise | None = None
) -> World:
    """Make procedural video `index` of the world with this seed."""
    noise = noise or AnnotatorNoise()
    rng = np.random.default_rng([seed, index])
    video_id = f"procedural {seed}_{index:05d}"
    scene = make_scene(settings, rng)
    frames, masks = render(scene, rng)
    masks &= (masks.sum((2, 3)) >= MIN_VISIBLE)[..., None, None]
    captions = narrate(scene, np.asarray(masks.any((2, 3))), rng)
    record = _truth_record(video_id, split, index, scene, masks, captions)
    vidln = _annotate_traces(video_id, index, masks, captions, noise, rng)
    points = tuple(
        _annotate_points(video_id, split, seed, thing, scene, masks[thing], captions, noise, rng)
        for thing in range(len(scene.things))
        if masks[thing].any()
    )
    return World(record, frames, vidln, points, _truth(record, points, scene, masks))


def _object_id(index: int, thing: int) -> str:
    number = index * 100 + thing + 1
    return str(EXTRA_ID_BASE + number if thing % 4 == 3 else number)


def _truth_record(
    video_id: str, split: str, index: int, scene: Scene, masks: np.ndarray, captions: Sequence[Caption]
) -> Video:
    names = tuple(f"{t:06d}" for t in range(masks.shape[1]))
    objects = tuple(
        VideoObject(
            _object_id(index, thing),
            scene.things[thing].noun,
            "extra_masks" if thing % 4 == 3 else "orig_masks",
            tuple(encode(mask) for mask in masks[thing]),
        )
        for thing in range(len(masks))
        if masks[thing].any()
    )
    expressions = tuple(
        Expression(number, mention.start, mention.end, _object_id(index, mention.thing))
        for number, caption in enumerate(captions)
        for mention in caption.mentions
    )
    narratives = tuple(Narrative(caption.actor_name, caption.text) for caption in captions)
    height, width = masks.shape[2:]
    return Video(
        video_id=video_id,
        dataset="procedural",
        split=split,
        height=height,
        width=width,
        fps=0.0,
        frame_names=names,
        narratives=narratives,
        expressions=expressions,
        objects=objects,
    )


def _truth(record: Video, points: Sequence[PointRecord], scene: Scene, masks: np.ndarray) -> dict[str, Any]:
    visible = [thing for thing in range(len(masks)) if masks[thing].any()]
    return {
        "objects": [
            {
                "object_id": item.object_id,
                "point_record": point.key,
                "named_as": point.object_name,
                "noun": item.name,
                "colour": scene.things[thing].colour,
                "pattern": scene.things[thing].pattern,
                "motion": scene.things[thing].motion,
                "expressions": [
                    [e.narrative, e.start, e.end] for e in record.expressions if e.object_id == item.object_id
                ],
            }
            for item, point, thing in zip(record.objects, points, visible, strict=True)
        ]
    }


def _annotate_traces(
    video_id: str,
    index: int,
    masks: np.ndarray,
    captions: Sequence[Caption],
    noise: AnnotatorNoise,
    rng: np.random.Generator,
) -> VidLN:
    n_frames = masks.shape[1]
    keyframes = _evenly(n_frames, KEY_FRAMES)
    narratives = tuple(
        _narrative_with_trace(caption, number, index, masks, keyframes, noise, rng)
        for number, caption in enumerate(captions)
    )
    return VidLN(
        vidln_id=index,
        dataset_id="procedural",
        video_id=video_id,
        annotator_id=0,
        keyframe_names=tuple(f"{t:06d}" for t in keyframes),
        narratives=narratives,
    )


def _evenly(n_frames: int, count: int) -> list[int]:
    """Up to `count` frames at the middles of equal parts of the video."""
    count = min(n_frames, count)
    return [int((i + 0.5) * n_frames / count) for i in range(count)]


def _narrative_with_trace(
    caption: Caption,
    number: int,
    index: int,
    masks: np.ndarray,
    keyframes: list[int],
    noise: AnnotatorNoise,
    rng: np.random.Generator,
) -> ActorNarrative:
    """Speak the caption word by word; at each noun of a thing, the pointer scribbles on it in one or two key frames."""
    start_ms = 1_700_000_000_000 + index * 1_000_000 + number * 60_000
    words = _speak(caption.text, rng)
    mention_of: dict[int, Mention] = {mention.start: mention for mention in caption.mentions}
    parts: list[tuple[TracePoint, ...]] = []
    selection: set[int] = set()
    for position, word in enumerate(words):
        mention = mention_of.get(word.start)
        if mention is None:
            continue
        visible_keys = [k for k, t in enumerate(keyframes) if masks[mention.thing, t].any()]
        if not visible_keys:
            continue
        stop_ms = words[position + 1].start_ms if position + 1 < len(words) else word.end_ms
        lag = int(abs(rng.normal(0, noise.trace_lag_ms)))
        begin, end = start_ms + word.start_ms + lag, start_ms + stop_ms
        chosen = sorted(
            rng.choice(visible_keys, size=min(len(visible_keys), 1 + int(rng.random() < 0.35)), replace=False).tolist()
        )
        for piece, key in enumerate(chosen):
            times = np.linspace(begin, end, len(chosen) + 1)[piece : piece + 2]
            parts.append(_scribble(masks[mention.thing, keyframes[key]], key, times, noise, rng))
            selection.add(key)
    return ActorNarrative(
        actor_name=caption.actor_name,
        caption=caption.text,
        keyframe_selection_indices=tuple(sorted(selection)) or (0,),
        recording_start_ms=start_ms,
        traces_start_ms=start_ms + 10,
        recording_filename=f"{index}_{number}.webm",
        traces=tuple(part for part in parts if part),
        noun_segments=caption.nouns,
        time_alignment=tuple(words),
    )


def _speak(text: str, rng: np.random.Generator) -> list[AlignedWord]:
    words, clock, position = [], int(rng.integers(200, 1200)), 0
    for raw in text.split(" "):
        word = raw.strip(".,")
        start = text.index(word, position)
        length = int(rng.integers(90, 160)) + 55 * len(word)
        words.append(AlignedWord(word, start, start + len(word), clock, clock + length))
        clock += length + int(rng.integers(0, 60))
        position = start + len(raw)
    return words


def _scribble(
    mask: np.ndarray, key: int, times: np.ndarray, noise: AnnotatorNoise, rng: np.random.Generator
) -> tuple[TracePoint, ...]:
    """A smooth pointer path over a mask; about a share `trace_outside` of it strays off the mask."""
    height, width = mask.shape
    corners = sample_in_mask(mask, 5, 0, rng)
    if not len(corners):
        return ()
    # A pointer reports about 60 positions per second.
    count = max(4, int((times[1] - times[0]) / 17))
    along = np.linspace(0, len(corners) - 1, count)
    path = np.stack([np.interp(along, np.arange(len(corners)), corners[:, axis]) for axis in (0, 1)], 1)
    reach = np.sqrt(mask.sum() / np.pi)
    stray = rng.random(count) < noise.trace_outside
    path += rng.normal(0, 0.06, path.shape) * reach + stray[:, None] * rng.normal(0, 0.9, path.shape) * reach
    moments = np.linspace(times[0], max(times[0], times[1] - 1), count).astype(int)
    return tuple(
        TracePoint(round(float(x / width), 5), round(float(y / height), 5), int(ms), key)
        for (x, y), ms in zip(path + 0.5, moments, strict=True)
    )


def _annotate_points(
    video_id: str,
    split: str,
    seed: int,
    thing: int,
    scene: Scene,
    masks: np.ndarray,
    captions: Sequence[Caption],
    noise: AnnotatorNoise,
    rng: np.random.Generator,
) -> PointRecord:
    n_frames, height, _ = masks.shape
    distance = point_distance(height)
    points: list[AnnotatedPoint] = []
    wrong = min(noise.most_wrong, float(rng.exponential(noise.wrong_verdict)))
    annotator = SimulatedAnnotator(wrong=wrong, unsure=noise.unsure, unsure_distance=noise.unsure_distance)
    for t in _evenly(n_frames, POINT_FRAMES):
        for (x, y), kind in _candidates(masks[t], distance, rng):
            label = annotator.verdict(x, y, masks[t], rng)
            points.append(AnnotatedPoint(int(x), int(y), f"{t:06d}", label, kind != BACKGROUND))
    name = scene.things[thing].noun
    if rng.random() < noise.wrong_name:
        name = "gadget"
    key = hashlib.md5(f"{seed} {video_id} {thing}".encode()).hexdigest()
    question = f"What is {scene.things[thing].motion} in the video?"
    digest = hashlib.md5(question.encode()).hexdigest()
    return PointRecord(
        key=key,
        object_name=name,
        video_name=f"{split}/{video_id}",
        points=tuple(points),
        question=question,
        question_hash=digest,
    )


def _candidates(mask: np.ndarray, distance: float, rng: np.random.Generator) -> list[tuple[np.ndarray, str]]:
    """Candidate positions of one frame: inside, outside, near the outline."""
    band = np.zeros_like(mask)
    if mask.any():
        kernel = np.ones((5, 5), np.uint8)
        grown = cv2.dilate(mask.view(np.uint8), kernel) > 0
        band = grown & ~(cv2.erode(mask.view(np.uint8), kernel) > 0)
    return draw_apart({FOREGROUND: mask, BACKGROUND: ~mask, UNCERTAIN: band}, COUNTS, distance, rng)


def write_world(
    out: Path,
    videos: int,
    seed: int,
    preset: str = "hard",
    split: str = "train",
    settings: WorldSettings | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Write a procedural set into `out`; returns its totals.

    Raises:
        UsageError: unknown preset.
        DataError: `out` holds other files.
    """
    settings = settings or PRESETS[one_of(preset, PRESETS, "preset")]
    description = json.loads(json.dumps({"videos": videos, "seed": seed, "split": split, "settings": asdict(settings)}))
    truth_file = out / "truth.json"
    if truth_file.exists():
        existing = load_json(truth_file)
        if existing["world"] == description:
            return existing["totals"]
        raise DataError(out, reason="this folder holds another procedural set", cure="choose another --out")
    check_folder(out)
    if out.exists() and any(out.iterdir()) and not (out / "frames").exists():
        raise DataError(out, reason="this folder holds something else", cure="choose another --out")
    worlds = []
    for index in tqdm(range(videos), desc="synthesize", unit="video", disable=not progress):
        world = make_world(index, seed, settings, split)
        _write_frames(world, out / "frames")
        worlds.append((world.record, world.vidln, world.points, world.truth))
    write_vidln([vidln for _, vidln, _, _ in worlds], out / "vidln.jsonl")
    write_points([record for _, _, points, _ in worlds for record in points], out / "points.json")
    write_trio([record for record, _, _, _ in worlds], out / "vng")
    totals = {
        "videos": len(worlds),
        "narratives": sum(len(record.narratives) for record, *_ in worlds),
        "expressions": sum(len(record.expressions) for record, *_ in worlds),
        "objects": sum(len(record.objects) for record, *_ in worlds),
        "points": sum(len(item.points) for _, _, points, _ in worlds for item in points),
    }
    truth = {record.video_id: truth for record, _, _, truth in worlds}
    write_json({"world": description, "totals": totals, "videos": truth}, out / "truth.tmp")
    # Last: its presence means that the set is complete.
    os.replace(out / "truth.tmp", truth_file)
    return totals


def _write_frames(world: World, folder: Path) -> None:
    target = folder / world.record.video_id
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for name, frame in zip(world.record.frame_names, world.frames, strict=True):
        (target / f"{name}.jpg").write_bytes(encode_jpeg(frame))


def trace_share_inside(world: World) -> float:
    """Share of trace points inside the mask of the thing they were drawn for, to check the noise model."""
    from conversion.formats.vidln import by_keyframe, trace_segment

    inside, total = 0, 0
    for expression in world.record.expressions:
        segment = trace_segment(world.vidln.narratives[expression.narrative], expression.start, expression.end)
        masks = world.record.object_by_id[expression.object_id].segmentations
        for key, xy in by_keyframe(segment).items():
            rle = masks[int(world.vidln.keyframe_names[key])]
            assert rle is not None
            mask = decode(rle)
            column = np.clip((xy[:, 0] * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
            row = np.clip((xy[:, 1] * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
            inside += int(mask[row, column].sum())
            total += len(xy)
    return inside / max(1, total)
