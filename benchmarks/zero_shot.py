"""Grounding without training, with a detector that knows the truth: what the rest of the system does with its boxes.

    python -m benchmarks.zero_shot [--figure assignment davis boxes memory passes] [--seeds 1 2 3] [--json FILE]

No weights of detectors can be had here, so an oracle stands in for them (`benchmarks/oracle_detector.py`): boxes by bare
noun, 10 % missed, 10 % false, with jitter; what it says of phrases is noisy. Segmenter and propagator are the shipped ones.
assignment: J&F on procedural videos (`--preset hard`), all nouns jointly and each noun alone; the same for nouns that other
things of the video have too ("same noun"), and of these for nouns whose twin stands in the same narrative ("twins"); and with
the best of the tracks. Each video has one narrative more, about things that are not in it: presence is over all frames of all
nouns, those of absent things included; J&F is without them.
davis: 40 Ref-DAVIS17 sentences of seven clips (`--davis`), and an oracle's choice of track.
boxes: J of the shipped segmenter's masks from boxes with 5 % jitter, of procedural things and of clips to train on
(`--davis-train`): points from the middle alone, and as `vng/segmenters/box_points.py` takes them.
memory: peak memory of a video of 600 frames beside one of 60, all engines tiny random models (they are made here).
passes: passes of detector and propagator for 8 nouns beside 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.oracle_detector import OracleDetector, OracleFaults
from conversion.synthetic.scene import PRESETS, SHAPES
from conversion.synthetic.world import make_world
from vng.dataset import Video, VideoObject
from vng.detectors.boxes import to_pixels
from vng.evaluation.narrative.accumulator import NarrativeScore
from vng.evaluation.narrative.analysis import rivals
from vng.frames import ArrayFrames
from vng.grounding.result import GroundingResult
from vng.grounding.zero_shot import Evidence, ZeroShotGrounder
from vng.label_maps import VOID
from vng.masks import RLE, area, bounding_box, decode, empty, encode, intersection_over_union
from vng.narratives import Expression, Narrative
from vng.points import PointPrompts

FIGURES = ("assignment", "davis", "boxes", "memory", "passes")
ABSENT = "absent"
ROOT = Path(__file__).resolve().parent.parent
DAVIS = ROOT.parent / "shared" / "data" / "davis_val"


def engines() -> dict[str, Any]:
    """The shipped segmenter and propagator."""
    from vng import propagators, segmenters

    return {"segmenter": segmenters.load("embedded"), "propagator": propagators.load("stcn"), "image_text": False}


def procedural(index: int, seed: int) -> Video:
    """A video of the hard procedural world with its frames, and one narrative more, of things that are not in it."""
    world = make_world(index, seed, PRESETS["hard"])
    video = replace(world.record, frames=ArrayFrames(world.frames))
    there = {item.name for item in video.objects}
    missing = [noun for noun in SHAPES if noun not in there][:2]
    if not missing:
        return video
    text, expressions, objects = "A", [], list(video.objects)
    nothing = tuple(empty(video.height, video.width) for _ in video.frame_names)
    for number, noun in enumerate(missing):
        text += f" {noun}" if not number else f" rests beside a {noun}"
        name = f"{ABSENT} {noun}"
        expressions.append(Expression(len(video.narratives), len(text) - len(noun), len(text), name))
        objects.append(replace(video.objects[0], object_id=name, name="", segmentations=nothing))
    return replace(
        video,
        narratives=(*video.narratives, Narrative("Nobody", text + ".")),
        expressions=(*video.expressions, *expressions),
        objects=tuple(objects),
    )


def grounded(video: Video, grounder: ZeroShotGrounder) -> list[tuple[list[int], GroundingResult, Evidence]]:
    """(numbers of the expressions, result, evidence) of each narrative."""
    numbers = [
        own
        for n in range(len(video.narratives))
        if (own := [i for i, e in enumerate(video.expressions) if e.narrative == n])
    ]
    narratives = [
        (
            video.narratives[video.expressions[own[0]].narrative].description,
            [(video.expressions[i].start, video.expressions[i].end) for i in own],
        )
        for own in numbers
    ]
    explained = grounder.explained(video.opened_frames(), narratives)
    return [(own, result, evidence) for own, (result, evidence) in zip(numbers, explained, strict=True)]


def alone(evidence: Evidence, n: int) -> int | None:
    """The track that a noun would choose if it were alone: the best that it may take; None where there is none."""
    allowed = evidence.scores.named[n] >= evidence.presence
    return int(np.where(allowed, evidence.scores.gain[n], -np.inf).argmax()) if allowed.any() else None


def masks_of(evidence: Evidence, k: int | None, size: tuple[int, int], length: int) -> tuple[RLE, ...]:
    """The masks of a track; empty ones for None."""
    return (empty(*size),) * length if k is None else evidence.tracks[k].masks


class Sums:
    """J&F of expressions, in all and of those whose noun names other things too, and presence of frames."""

    def __init__(self) -> None:
        self.all, self.same = NarrativeScore(), NarrativeScore()
        self.hits = self.misses = self.invented = 0

    def add(self, video: Video, number: int, masks: Sequence[RLE]) -> None:
        """Add an expression."""
        expression = video.expressions[number]
        truth = video.object_by_id[expression.object_id].segmentations
        if not expression.object_id.startswith(ABSENT):
            self.all.add(video.video_id, number, truth, masks, object_id=expression.object_id)
            if rivals(video, number):
                self.same.add(video.video_id, number, truth, masks, object_id=expression.object_id)
        for true, own in zip(truth, masks, strict=True):
            if true is not None:
                there, said = area(true) > 0, area(own) > 0
                self.hits += there and said
                self.misses += there and not said
                self.invented += said and not there

    @property
    def presence(self) -> float:
        """F1 of presence over frames."""
        return 2 * self.hits / max(2 * self.hits + self.misses + self.invented, 1)


def assignment(arguments: argparse.Namespace) -> dict[str, float]:
    """J&F of joint assignment and of each noun alone, for each seed."""
    shared = engines()
    figures: dict[str, float] = {}
    for noise in arguments.noise:
        figures |= _assignment(arguments, noise, shared)
    return figures


def _assignment(arguments: argparse.Namespace, noise: float, shared: dict[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    print(f"\nassignment, noise {noise}: {arguments.videos} procedural videos a seed (hard), oracle boxes")
    print(
        f"{'':8}{'J&F':>8}{'alone':>8}{'best':>8}{'same noun':>11}{'alone':>8}{'twins':>8}{'alone':>8}{'presence F1':>13}"
    )
    for seed in arguments.seeds:
        joint, single, best, twins, lone = Sums(), Sums(), Sums(), Sums(), Sums()
        for index in range(arguments.videos):
            video = procedural(index, seed)
            detector = OracleDetector(video, seed, OracleFaults(noise=noise))
            grounder = ZeroShotGrounder(detector, pipeline="rules", **shared)
            for own, result, evidence in grounded(video, grounder):
                size, length = (video.height, video.width), len(video.frame_names)
                for n, number in enumerate(own):
                    joint.add(video, number, result.rles[n])
                    single.add(video, number, masks_of(evidence, alone(evidence, n), size, length))
                    best.add(video, number, masks_of(evidence, _oracle(video, number, evidence), size, length))
                    if _has_twin(video, number, own):
                        twins.add(video, number, result.rles[n])
                        lone.add(video, number, masks_of(evidence, alone(evidence, n), size, length))
        rows = [
            100 * joint.all.scores().jf,
            100 * single.all.scores().jf,
            100 * best.all.scores().jf,
            100 * joint.same.scores().jf,
            100 * single.same.scores().jf,
            100 * twins.all.scores().jf,
            100 * lone.all.scores().jf,
            joint.presence,
        ]
        print(f"seed {seed:<3}" + "".join(f"{v:8.1f}" for v in rows[:3]) + f"{rows[3]:11.1f}", end="")
        print("".join(f"{v:8.1f}" for v in rows[4:7]) + f"{rows[7]:13.3f}", flush=True)
        names = (
            "JF",
            "JF_alone",
            "JF_best_track",
            "same_noun",
            "same_noun_alone",
            "twins",
            "twins_alone",
            "presence_F1",
        )
        figures |= {f"noise{noise}_seed{seed}_{name}": float(value) for name, value in zip(names, rows, strict=True)}
    return figures


def _has_twin(video: Video, number: int, own: Sequence[int]) -> bool:
    """Whether the same narrative names another thing by the same word."""
    others = set(rivals(video, number))
    return any(video.expressions[i].object_id in others for i in own)


def _oracle(video: Video, number: int, evidence: Evidence) -> int | None:
    """The track with the highest mean IoU with the truth; None where none overlaps it."""
    truth = video.object_by_id[video.expressions[number].object_id].segmentations
    nothing = empty(video.height, video.width)
    masks = [nothing if rle is None else rle for rle in truth]
    values = [
        np.mean([intersection_over_union(a, b) for a, b in zip(masks, track.masks, strict=True)])
        for track in evidence.tracks
    ]
    return int(np.argmax(values)) if values and max(values) > 0 else None


def davis(arguments: argparse.Namespace) -> dict[str, float]:
    """J&F on the sentences of Ref-DAVIS17 for the clips that are here."""
    shared, sums, best = engines(), Sums(), Sums()
    faults = OracleFaults(missed=0, false=0, jitter=0)
    for video in davis_videos(arguments.davis):
        grounder = ZeroShotGrounder(OracleDetector(video, 1, faults), pipeline="rules", **shared)
        for own, result, evidence in grounded(video, grounder):
            size, length = (video.height, video.width), len(video.frame_names)
            for n, number in enumerate(own):
                sums.add(video, number, result.rles[n])
                best.add(video, number, masks_of(evidence, _oracle(video, number, evidence), size, length))
    figures = {"davis_JF": 100 * sums.all.scores().jf, "davis_JF_best_track": 100 * best.all.scores().jf}
    figures["davis_sentences"] = float(len(sums.all.scores().expressions))
    print(f"\ndavis: {figures['davis_sentences']:.0f} sentences, J&F {figures['davis_JF']:.1f}, ", end="")
    print(f"with an oracle's choice of track {figures['davis_JF_best_track']:.1f}")
    return figures


def davis_videos(root: Path) -> list[Video]:
    """The clips at 240 rows, each sentence of Ref-DAVIS17 a narrative about its first noun, as labelled by hand."""
    from benchmarks.davis import clips
    from benchmarks.phrases import LABELS

    labels = json.loads(LABELS.read_text())["expressions"]
    texts = json.loads((root / "expressions.json").read_text())["videos"]
    videos = []
    for clip in clips(root):
        frames = np.stack([clip.frame(t) for t in range(len(clip))])
        maps = np.stack([clip.labels(t) for t in range(len(clip))])
        own = [label for label in labels if label["video_id"] == clip.name]
        sentences = [texts[clip.name]["objects"][label["object"]][label["expression"]] for label in own]
        ids = sorted({label["object"] for label in own})
        several = [clip.name] if len(ids) == 1 and maps.max() > 1 else []
        objects = tuple(
            VideoObject(i, "", "true", tuple(encode(m > 0 if several else m == int(i)) for m in maps)) for i in ids
        )
        videos.append(
            Video(
                video_id=clip.name,
                dataset="davis_val",
                split="val",
                height=maps.shape[1],
                width=maps.shape[2],
                fps=24.0,
                frame_names=tuple(path.stem for path in clip.images),
                narratives=tuple(Narrative("", sentence) for sentence in sentences),
                expressions=tuple(
                    Expression(n, label["span"][0], label["span"][1], label["object"]) for n, label in enumerate(own)
                ),
                objects=objects,
                frames=ArrayFrames(frames),
            )
        )
    return videos


def _samples(root: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(set, image, true mask) of things with more than 150 pixels."""
    from benchmarks.davis import clips

    for seed in (21, 22, 23, 24):
        for index in range(3):
            video = procedural(index, seed)
            for t in (5, 15):
                for item in video.objects:
                    rle = item.segmentations[t]
                    if rle is not None and area(rle) > 150:
                        yield "procedural", video.opened_frames()[t], decode(rle)
    for clip in clips(root):
        labels, image = clip.labels(len(clip) // 2), clip.frame(len(clip) // 2)
        for number in np.unique(labels):
            if 0 < number < VOID and (labels == number).sum() > 150:
                yield "davis_train", image, labels == number


def boxes(arguments: argparse.Namespace) -> dict[str, float]:
    """J of masks from boxes."""
    from vng.segmenters import load
    from vng.segmenters.box_points import points_around, points_inside

    engine, rng = load("embedded"), np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for name, image, true in _samples(arguments.davis_train):
        x, y, across, down = bounding_box(encode(true))
        edges = np.array([x, y, x + across, y + down]) + rng.normal(0, 0.05, 4) * [across, down, across, down]
        box = to_pixels(edges[None], *true.shape)[0]
        around, encoded = points_around(box, *true.shape), engine.encoded(image)
        for kind, inside in (("middle", ((box[:2] + box[2:]) / 2)[None]), ("points", points_inside(image, box))):
            mask = encoded([PointPrompts(inside, around)])[0] > 0.5
            values.setdefault(f"boxes_{name}_{kind}_J", []).append(float((mask & true).sum() / (mask | true).sum()))
    figures = {name: float(np.mean(own)) for name, own in values.items()}
    print("\nboxes: " + ", ".join(f"{name} {value:.3f} ({len(values[name])})" for name, value in figures.items()))
    return figures


PEAK = """
import json, resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from vng.frames import Frames
from vng.grounding.zero_shot import ZeroShotGrounder

class Noise(Frames):
    def __init__(self, count):
        super().__init__([f"{t:05d}" for t in range(count)], "noise")
    def _read(self, index):
        return np.random.default_rng(index).integers(0, 255, (240, 416, 3), np.uint8)

folders = json.loads(sys.argv[2])
options = {"detector_checkpoint": folders["detector"], "segmenter_checkpoint": folders["sam2"],
           "propagator_checkpoint": folders["sam2_video"], "image_text": folders["image_text"]}
from vng.grounding.zero_shot import ZeroShotSettings
settings = ZeroShotSettings(presence=0.0, per_noun=2, rounds=1)
grounder = ZeroShotGrounder("grounding-dino", settings=settings, pipeline="rules", device="cpu", **options)
text = "A green [parrot] with a red [beak] plays with the other [parrot]."
from vng.narratives import nouns_in
description, spans = nouns_in(text, "")
result = grounder.ground(Noise(int(sys.argv[3])), description, spans)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(result.rles[0])]))
"""


def tiny_checkpoints(folder: Path) -> dict[str, str]:
    """Folders of tiny random models, saved as the hub holds them."""
    from tests.detectors import tiny_models
    from tests.segmenters.test_sam import save_tiny

    made = {
        "detector": tiny_models.grounding_dino(folder / "detector", "MMGroundingDino"),
        "sam2": save_tiny("sam2", folder / "sam2"),
        "sam2_video": save_tiny("sam2_video", folder / "sam2_video"),
        "image_text": tiny_models.siglip(folder / "image_text"),
    }
    return {name: str(path) for name, path in made.items()}


def memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory by length of the video, each in a process of its own."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = tiny_checkpoints(Path(folder))
        for length in (60, 600):
            command = [sys.executable, "-c", PEAK, str(ROOT), json.dumps(checkpoints), str(length)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            peak, frames = json.loads(ended.stdout.strip().splitlines()[-1])
            assert frames == length
            figures[f"memory_{length}_MiB"] = float(peak)
    figures["memory_ratio"] = figures["memory_600_MiB"] / figures["memory_60_MiB"]
    print(
        f"\nmemory: 60 frames {figures['memory_60_MiB']:.0f} MiB, 600 frames {figures['memory_600_MiB']:.0f} MiB, ",
        end="",
    )
    print(f"ratio {figures['memory_ratio']:.3f} (goal: within 5 %)")
    return figures


def passes(arguments: argparse.Namespace) -> dict[str, float]:
    """Calls of the detector, and frames carried, for one noun and for eight of one narrative."""
    shared, figures = engines(), dict[str, float]()
    video = procedural(1, arguments.seeds[0])
    spans = [(e.start, e.end) for e in video.expressions if e.narrative == 0]
    text = video.narratives[0].description
    for count in (1, 8):
        detector = OracleDetector(video, 1)
        counted = _Counted(shared["propagator"])
        grounder = ZeroShotGrounder(detector, pipeline="rules", **{**shared, "propagator": counted})
        description, own = text, spans[:1]
        if count > 1:  # the narrative again and again: as many nouns as are asked for
            description = " ".join([text] * 4)
            own = [(a + i * (len(text) + 1), b + i * (len(text) + 1)) for i in range(4) for a, b in spans][:count]
        grounder.ground(video.opened_frames(), description, own)
        figures |= {
            f"detector_calls_{count}_nouns": float(detector.calls),
            f"carried_{count}_nouns": float(counted.frames),
        }
    print("\npasses: " + ", ".join(f"{name} {value:.0f}" for name, value in figures.items()))
    return figures


class _Counted:
    """A propagator that counts the frames it carries."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.frames = engine, 0

    def __call__(self, frames: Any, prompts: Any) -> Any:
        for item in self.engine(frames, prompts):
            self.frames += 1
            yield item


def main() -> None:
    """Print the tables; write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.06, 0.12], help="of what phrases say of things")
    parser.add_argument("--videos", type=int, default=6, help="procedural videos for each seed")
    parser.add_argument("--davis", type=Path, default=DAVIS, help="folder of clips with expressions.json")
    parser.add_argument("--davis-train", type=Path, default=DAVIS.parent / "davis_train", help="clips to train on")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    work = {
        "assignment": assignment,
        "davis": davis,
        "boxes": boxes,
        "memory": memory,
        "passes": passes,
    }
    figures: dict[str, float] = {}
    for name in arguments.figure:
        figures |= work[name](arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
