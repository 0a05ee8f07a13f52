"""Pseudo-masks of Oops-VNG by several engines, scored against ViCaS's masks of the same videos.

    vng convert vicas --annotations ViCaS/annotations/v1.0 --out data/vicas
    vng convert point-vos --points oops_train.json --narratives oops_train.jsonl --frames videos
        --segmenter embedded --propagator --out data/embedded           # and so on, once an engine
    python -m benchmarks.vicas_masks --vicas data/vicas --specs ViCaS/vicas/preprocess/video_preprocess_specs.json
        --datasets data/classical data/embedded [--least 0.3] [--json FILE]

The publisher's specs say from which video of Oops, and from which second on, a clip was taken. ViCaS has 30 frames a
second: its frame k is the frame of the original that is shown at (start + k / 30) s. A frame is shared where ViCaS and
every engine have a mask, one of them not empty. An object and a track are the same where their IoU over shared frames,
the mean over all engines, is the highest of all tracks and at least `--least`: all engines are thus scored on the same
objects and frames. Their mean IoU is over objects, its interval from draws of videos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conversion.formats.jsonio import write_json
from vng.dataset import Video, VideoObject, VngDataset
from vng.evaluation.bootstrap import Ratio, paired_difference
from vng.masks import RLE, area, intersection_over_union
from vng.records import Reader
from vng.text_files import load_json

FPS = 30.0  # of ViCaS's frames
LEAST = 0.3  # IoU at which an object and a track are the same


@dataclass(frozen=True)
class Clip:
    """Where a clip of ViCaS comes from."""

    original: str  # name of the video of Oops, without suffix
    start: float  # seconds


@dataclass(frozen=True)
class Match:
    """An object of the engines and its track: the IoU of each engine, mean over the shared frames."""

    video: str
    object_id: str
    track: str
    frames: int
    ious: tuple[float, ...]


def read_specs(file: Path) -> dict[str, Clip]:
    """ViCaS's video id, as in our rows -> its clip, for the videos of Oops; raises DataError."""
    clips = {}
    for child in Reader({"specs": load_json(file)}, file, "").children("specs"):
        if child.get("src_dataset", str) == "oops":
            scene = child.child("scene_spec") if "scene_spec" in child.value else None
            start = 0.0 if scene is None else _seconds(scene)
            name = Path(child.get("orig_dataset_filename", str)).stem
            clips[f"{child.get('video_id', int):06d}"] = Clip(name, start)
    return clips


def _seconds(scene: Reader) -> float:
    """ "83.5" or "0:01:23.5" of the field `start`, as ffmpeg reads it."""
    text = str(scene.value.get("start"))
    try:
        return sum(float(part) * 60**place for place, part in enumerate(reversed(text.split(":"))))
    except ValueError as error:
        raise scene.error("start", f"expected seconds, or h:mm:ss, got {text[:40]}") from error


def shared_places(truth: Video, video: Video, start: float) -> list[tuple[int, int]]:
    """(index in ViCaS's row, index in the engine's) of the frames that are shown at the same time."""
    pairs = []
    for index, name in enumerate(truth.frame_names):
        place = round((start + int(name) / FPS) * video.fps)
        if place < len(video.frame_names):
            pairs.append((index, place))
    return pairs


def match(truth: Video, engines: Sequence[Video], start: float, least: float) -> list[Match]:
    """The objects that all engines have and that are a track of ViCaS."""
    pairs = shared_places(truth, engines[0], start)
    found = []
    for key in engines[0].object_by_id:
        if not all(key in engine.object_by_id for engine in engines):
            continue
        made = [engine.object_by_id[key] for engine in engines]
        candidates = [one for track in truth.objects if (one := _scored(truth.video_id, key, made, track, pairs))]
        best = max(candidates, key=lambda one: float(np.mean(one.ious)), default=None)
        if best is not None and np.mean(best.ious) >= least:
            found.append(best)
    return found


def _scored(
    video: str, key: str, made: Sequence[VideoObject], track: VideoObject, pairs: Sequence[tuple[int, int]]
) -> Match | None:
    """The IoU of each engine's object with a track; None where no frame is shared."""
    rows: list[list[float]] = []
    for index, place in pairs:
        true = track.segmentations[index]
        masks: list[RLE] = [rle for item in made if (rle := item.segmentations[place]) is not None]
        if true is None or len(masks) < len(made) or not any(map(area, (true, *masks))):
            continue
        rows.append([intersection_over_union(mask, true) for mask in masks])
    if not rows:
        return None
    return Match(video, key, track.object_id, len(rows), tuple(float(iou) for iou in np.mean(rows, 0)))


def compare_engines(
    vicas: VngDataset, datasets: Sequence[VngDataset], clips: dict[str, Clip], least: float = LEAST
) -> tuple[list[Match], dict[str, int]]:
    """All matches, and how many videos of ViCaS were left out, by reason."""
    places = [{name: index for index, name in enumerate(dataset.video_ids)} for dataset in datasets]
    matches: list[Match] = []
    left_out = {"not in all datasets": 0, "another size": 0, "no frame rate": 0}
    for index, name in enumerate(vicas.video_ids):
        clip = clips.get(name)
        if clip is None or not all(clip.original in place for place in places):
            left_out["not in all datasets"] += 1
            continue
        truth = vicas[index]
        engines = [dataset[place[clip.original]] for dataset, place in zip(datasets, places, strict=True)]
        if any((one.height, one.width) != (truth.height, truth.width) for one in engines):
            left_out["another size"] += 1
        elif any(not one.fps or one.fps != engines[0].fps for one in engines):
            left_out["no frame rate"] += 1
        else:
            matches += match(truth, engines, clip.start, least)
    return matches, left_out


def table(matches: Sequence[Match], names: Sequence[str]) -> str:
    """The mean IoU of each engine, and its difference to the first with its interval over videos."""
    ious = np.array([one.ious for one in matches]).reshape(-1, len(names))
    videos = [one.video for one in matches]
    first, *others = [Ratio.of(videos, ious[:, index]) for index in range(len(names))]
    lines = [f"{names[0]:32} {ious[:, 0].mean():.3f}"]
    for name, ratio in zip(names[1:], others, strict=True):
        pair = paired_difference(ratio, first)
        lines.append(f"{name:32} {pair.first:.3f}  {pair.difference:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]")
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns 1 where nothing could be matched."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vicas", type=Path, required=True, help="dataset made by `vng convert vicas`")
    parser.add_argument("--specs", type=Path, required=True, help="video_preprocess_specs.json")
    parser.add_argument("--datasets", type=Path, nargs="+", required=True, help="Oops-VNG, one an engine")
    parser.add_argument("--least", type=float, default=LEAST, help="IoU of an object and its track [0.3]")
    parser.add_argument("--json", type=Path, help="write all matches")
    arguments = parser.parse_args()
    datasets = [VngDataset(path) for path in arguments.datasets]
    matches, left_out = compare_engines(
        VngDataset(arguments.vicas), datasets, read_specs(arguments.specs), arguments.least
    )
    told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    print(f"{len(matches)} objects of {len({one.video for one in matches})} videos matched; videos left out: {told}")
    if matches:
        print(table(matches, [path.name for path in arguments.datasets]))
    if arguments.json is not None:
        write_json([asdict(one) for one in matches], arguments.json)
    return 0 if matches else 1


if __name__ == "__main__":
    sys.exit(main())
