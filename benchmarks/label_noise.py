"""What wrong verdicts cost: point agreement and true J of pseudo-masks, from simulated annotators.

    python -m benchmarks.label_noise --videos 20 --plot out/label_noise.png

Candidates are proposed on procedural videos from the mouse traces of their nouns (`vng annotate propose`), answered from
the true masks with a share of wrong verdicts (`vng annotate simulate`), and turned into pseudo-masks, with a fifth of the
points held out. Several nouns may mean one thing: the positives of one are no negatives of another. J is the mean over all
annotated frames and objects; agreement is that of the held-out points.
The first line says how far the proposals get, stage by stage: rough masks, then candidates.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conversion.annotation.candidates import FOREGROUND, CandidateSettings
from conversion.annotation.proposals import ProposalFolder, ProposedVideo
from conversion.annotation.run import propose_candidates, true_object
from conversion.annotation.simulated import SimulatedAnnotator
from conversion.formats.official_vng import TrioFiles, with_frames
from conversion.formats.point_vos import AnnotatedPoint
from conversion.options import BuildOptions
from conversion.pseudo_masks import PointedObject, PseudoMaskSettings, make_pseudo_masks
from conversion.synthetic.world import write_world
from vng.dataset import Video, VideoObject
from vng.masks import RLE, area, decode, empty, intersection_over_union
from vng.points import AMBIGUOUS, NEGATIVE, OTHERS, POSITIVE, Points
from vng.segmenters import load

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of one share of wrong verdicts."""

    wrong: float
    agreement: float  # mean share of held-out points on the right side of the masks
    j: float  # mean J of the pseudo-masks, of frames in which the object is or is claimed to be
    points: float  # an object
    positives: float
    negatives: float
    ambiguous: float
    objects: int
    seen_in_all_frames: float  # share of the objects with a positive in all their frames


@dataclass(frozen=True, kw_only=True)
class Stages:
    """How far the proposals get; shares of objects and, where it says so, of the annotated frames of objects."""

    objects: int  # nouns with candidates
    rough_j: float  # mean J of rough masks with the object that the noun means
    found: float  # share of rough masks that overlap it by half at least
    visible: float  # frames that show the object
    always_visible: float  # objects in all their frames
    likely: float  # of the frames that show it: with a foreground candidate
    right: float  # of these candidates: on the object
    seen: float  # of the frames that show it: with a candidate on it, of any kind
    seen_if_always_visible: float  # of the objects that are always visible: with a candidate on them in all frames


def stages(videos: Sequence[tuple[ProposedVideo, Video]]) -> Stages:
    """The figures of proposals; the true object of a noun is that of its expression."""
    rough, right = [], []
    frames: list[tuple[int, bool, bool, bool]] = []  # of object i: whether visible, with a likely candidate, seen
    for proposed, true in videos:
        meant = {(e.narrative, e.start, e.end): true.object_by_id[e.object_id] for e in true.expressions}
        nouns = {e.object_id: (e.narrative, e.start, e.end) for e in proposed.expressions}
        for item in proposed.objects:
            masks = [
                empty(true.height, true.width) if r is None else r for r in meant[nouns[item.object_id]].segmentations
            ]
            rough.append(intersection_over_union(item.rough_mask, masks[item.rough_frame]))
            for t in sorted({c.frame for c in item.candidates}):
                mask = decode(masks[t])
                own = [(c.kind, bool(mask[int(c.y), int(c.x)])) for c in item.candidates if c.frame == t]
                right += [on for kind, on in own if kind == FOREGROUND]
                likely = any(kind == FOREGROUND for kind, _ in own)
                frames.append((len(rough), bool(mask.any()), likely, any(on for _, on in own)))
    index, visible, likely, seen = (np.array(column) for column in zip(*frames, strict=True))
    always, everywhere = (np.array([flags[index == i].all() for i in np.unique(index)]) for flags in (visible, seen))
    return Stages(
        objects=len(rough),
        rough_j=float(np.mean(rough)),
        found=float(np.mean(np.array(rough) >= 0.5)),
        visible=float(visible.mean()),
        always_visible=float(always.mean()),
        likely=float(likely[visible].mean()),
        right=float(np.mean(right)),
        seen=float(seen[visible].mean()),
        seen_if_always_visible=float(everywhere[always].mean()),
    )


def measure(
    videos: Sequence[tuple[ProposedVideo, Video]], annotator: SimulatedAnnotator, segmenter: str, others: str
) -> Row:
    """The figures of one annotator; `others` says whether positives of one noun are negatives of another."""
    engine, settings = load(segmenter, settings={"negatives_of_others": others}), PseudoMaskSettings(held_out=0.2)
    agreements, js, labels, everywhere = [], [], [], []
    for proposed, true in videos:
        objects, reals = [], {}
        for item in proposed.objects:
            real = true_object(item, list(range(len(true.frame_names))), true.objects, 0.5)
            if real is None:
                continue
            points = annotator.verdicts(item.object_id, item.candidates, real.segmentations, proposed.frame_names)
            located = _located(points, proposed.frame_names)
            labels.append(located.label)
            seen = set(located.of(POSITIVE).frame.tolist())
            everywhere.append(seen == set(located.frame.tolist()))
            if seen:
                objects.append(PointedObject(item.object_id, item.name, located))
                reals[item.object_id] = real
        for made in make_pseudo_masks(true.opened_frames(), objects, engine, settings, segmenter):
            if made.quality.point_agreement is not None:
                agreements.append(made.quality.point_agreement)
            js += _overlaps(made, reals[made.object_id])
    count = len(labels)
    flat = np.concatenate(labels)
    shares = {name: float((flat == label).sum() / count) for name, label in LABELS.items()}
    return Row(
        wrong=annotator.wrong,
        agreement=float(np.mean(agreements)),
        j=float(np.mean(js)),
        points=len(flat) / count,
        objects=count,
        seen_in_all_frames=float(np.mean(everywhere)),
        **shares,
    )


LABELS = {"positives": POSITIVE, "negatives": NEGATIVE, "ambiguous": AMBIGUOUS}


def _located(points: Sequence[AnnotatedPoint], names: Sequence[str]) -> Points:
    place = {name: index for index, name in enumerate(names)}
    frames = [place[str(p.frame_id)] for p in points]
    return Points.of_lists(frames, [(p.x, p.y) for p in points], [p.label for p in points])


def _overlaps(made: VideoObject, real: VideoObject) -> list[float]:
    pairs = zip(made.segmentations, real.segmentations, strict=True)
    return [intersection_over_union(a, b) for a, b in pairs if a is not None and b is not None and _any(a, b)]


def _any(a: RLE, b: RLE) -> bool:
    return bool(area(a) or area(b))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Agreement and J over the share of wrong verdicts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    wrong = [100 * row.wrong for row in rows]
    axes.plot(wrong, [100 * row.j for row in rows], "o-", label="J of the pseudo-masks")
    axes.plot(wrong, [100 * row.agreement for row in rows], "s--", label="point agreement")
    axes.set(xlabel="wrong verdicts (%)", ylabel="%", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Make the videos, propose once, and measure every share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--preset", default="hard")
    parser.add_argument("--segmenter", default="embedded")
    parser.add_argument("--negatives-of-others", choices=OTHERS, default="never", help="of the segmenter (never)")
    parser.add_argument("--low", type=float, default=CandidateSettings().low)
    parser.add_argument("--high", type=float, default=CandidateSettings().high)
    parser.add_argument("--work", type=Path, help="folder of videos and candidates, to go on from")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        world = folder / "world"
        write_world(world, arguments.videos, seed=7, preset=arguments.preset, progress=False)
        propose_candidates(
            folder / "candidates",
            narratives=world / "vidln.jsonl",
            frames=world / "frames",
            settings=CandidateSettings(low=arguments.low, high=arguments.high),
            options=BuildOptions(segmenter=arguments.segmenter),
        )
        true = {video.video_id: with_frames(video, world / "frames") for video in TrioFiles.of(world / "vng")}
        videos = [(proposed, true[proposed.video_id]) for proposed in ProposalFolder(folder / "candidates")]
        print(json.dumps(asdict(stages(videos))), flush=True)
        rows = []
        for share in SHARES:
            annotator = SimulatedAnnotator(wrong=share)
            rows.append(measure(videos, annotator, arguments.segmenter, arguments.negatives_of_others))
            print(json.dumps(asdict(rows[-1])), flush=True)
    if arguments.plot is not None:
        plot(rows, arguments.plot)
    if arguments.json is not None:
        figures = {f"{key}_{row.wrong}": value for row in rows for key, value in asdict(row).items() if key != "wrong"}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
