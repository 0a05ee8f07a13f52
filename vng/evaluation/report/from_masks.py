"""Report records from the scores of protocols with true masks (`page` writes the page).

Pictures are read on demand, one video at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vng.dataset import Video, VngDataset
from vng.evaluation.bootstrap import Measure, Ratio
from vng.evaluation.narrative.analysis import ExpressionDetail, NarrativeAnalysis
from vng.evaluation.narrative.referring import ReferringScores, referring_protocol
from vng.evaluation.narrative.scores import read_expression
from vng.evaluation.report.record import Case, Report, Value, View
from vng.evaluation.vos.proposals import UNSUPERVISED
from vng.evaluation.vos.runs import VideoPredictions
from vng.evaluation.vos.scores import ObjectScore, Run, VosScores
from vng.evaluation.vos.targets import MERGED
from vng.masks import RLE, decode, union

GREY = 110  # value of frames whose pixels the dataset lacks
Videos = Callable[[str], Video]  # opens a video by its id


def opener(videos: Callable[[], Iterable[Video]]) -> Videos:
    """A function that opens videos by id and keeps the last one.

    A `VngDataset` is indexed; other sources are iterated from the last position, and then once more from the beginning,
    so that videos opened in their order cost one pass.
    """
    last: dict[str, Video] = {}
    ahead: Iterator[Video] = iter(())

    def find(name: str) -> Video:
        nonlocal ahead
        source = videos()
        if isinstance(source, VngDataset):
            return source[source.video_ids.index(name)]
        for video in ahead:
            if video.video_id == name:
                return video
        ahead = iter(source)
        return next(video for video in ahead if video.video_id == name)

    def open_video(name: str) -> Video:
        if name not in last:
            last.clear()
            last[name] = find(name)
        return last[name]

    return open_video


NARRATIVE_COLUMNS = (
    ("rivals", "other objects of the video that are called the same"),
    ("swapped", "whether the masklet overlaps one of them more than its own object"),
    ("missed", "frames with the object on which nothing is predicted"),
    ("invented", "frames without the object on which something is predicted"),
)


def narrative_report(
    analysis: NarrativeAnalysis, results: Path, name: str, title: str, open_video: Videos, nouns: bool = True
) -> Report:
    """The report of `vng evaluate vng`; a case is an expression.

    `nouns`: whether expressions are nouns, several of which may have the same head word.
    """
    cases = tuple(_expression_case(detail, nouns) for detail in analysis.details)

    def view(case: Case, frames: Sequence[str]) -> list[View]:
        video = open_video(case.video)
        index = int(case.key.rpartition("/")[2])
        places = [video.frame_names.index(frame) for frame in frames]
        masks = read_expression(video, index, places, results)
        truth = video.object_by_id[video.expressions[index].object_id].segmentations
        return [view_of(video, t, truth[t], mask) for t, mask in zip(places, masks, strict=True)]

    lead = "J&F of Video Narrative Grounding, the mean over all expressions; "
    lead += "below it, what the official score does not show."
    columns = NARRATIVE_COLUMNS if nouns else NARRATIVE_COLUMNS[2:]
    return Report(
        name=name,
        title=title,
        lead=lead,
        unit="expression",
        measures=tuple(analysis.figures(nouns)),
        cases=cases,
        columns=columns,
        notes=(),
        viewer=view,
    )


def referring_report(
    scores: ReferringScores, analysis: NarrativeAnalysis, results: Path, name: str, title: str, open_video: Videos
) -> Report:
    """The report of `vng evaluate referring`; J&F, J and F are those of its protocol."""
    plain = narrative_report(analysis, results, name, title, open_video, nouns=False)
    lead = f"Protocol {scores.protocol}, J&F per expression: every decision stands in docs/protocols.md."
    if not referring_protocol(scores.protocol).per_annotator:
        return replace(plain, lead=lead)
    masks = [np.array(scores.annotators) == k for k in sorted(set(scores.annotators))]
    measures = [
        Measure(m.name, Ratio.mean_of([m.ratio.of_items(mask) for mask in masks]), f"{m.text}, mean over annotators")
        if m.name in ("J&F", "J", "F")
        else m
        for m in plain.measures
    ]
    return replace(plain, lead=lead, measures=tuple(measures))


def _expression_case(detail: ExpressionDetail, nouns: bool) -> Case:
    score = detail.score
    swapped = None if detail.swapped is None else "yes" if detail.swapped else "no"
    more: tuple[Value, ...] = (detail.rivals, swapped, detail.misses, detail.hallucinated)
    return Case(
        key=f"{score.video}/{score.expression}",
        video=score.video,
        name=score.noun,
        group=("same noun" if detail.rivals else "other noun") if nouns else "",
        score=detail.jf,
        parts=(score.j, score.f),
        frames=score.frame_names,
        courses=(score.j_frames, score.f_frames),
        caption=detail.caption,
        span=detail.span,
        more=more if nouns else more[2:],
    )


def vos_report(
    scores: Sequence[VosScores], seen: Collection[str] | None, name: str, title: str, open_video: Videos
) -> Report:
    """The report of `vng evaluate vos`; a case is an object of one run."""
    several = len(scores) > 1
    rows = [(run, score) for run in scores for score in run.objects]
    cases = [_object_case(run, score, seen, several) for run, score in rows]
    runs = {case.key: run.run for case, (run, _) in zip(cases, rows, strict=True)}
    ids = {case.key: score.object_id for case, (_, score) in zip(cases, rows, strict=True)}

    def view(case: Case, frames: Sequence[str]) -> list[View]:
        return _object_views(open_video(case.video), runs[case.key], ids[case.key], frames, proposals)

    proposals = scores[0].protocol.name == UNSUPERVISED
    reasons: dict[str, list[str]] = {}
    for item in scores[0].left_out:
        reasons.setdefault(item.reason, []).append("/".join(part for part in (item.video, item.object_id) if part))
    notes = tuple(f"left out, {reason}: {_listed(names)}" for reason, names in reasons.items())
    official = ", official" if scores[0].protocol.official else ""
    lead = f"Protocol {scores[0].protocol.name}{official}: every decision stands in docs/protocols.md."
    if proposals:
        lead += " Pictures show the proposal that overlaps the object most on their frame."
    if several:
        lead += f" {len(scores)} runs, each object of each run a case."
    measures = tuple(_vos_measures(rows, seen))
    columns = (("J recall", "share of frames with J above 0.5"), ("J decay", "first quarter's mean J minus the last's"))
    return Report(
        name=name,
        title=title,
        lead=lead,
        unit="object",
        measures=measures,
        cases=tuple(cases),
        columns=columns,
        notes=notes,
        viewer=view,
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _object_case(run: VosScores, score: ObjectScore, seen: Collection[str] | None, several: bool) -> Case:
    j, f = run.statistics(score)
    group = score.category if seen is None else "seen" if score.category in seen else "unseen"
    label = score.object_id if score.category in ("", score.object_id) else f"{score.object_id} ({score.category})"
    more = tuple(None if np.isnan(v) else round(100 * v, 1) for v in (j.recall, j.decay))
    return Case(
        key=f"{run.run.name}/{score.video}/{score.object_id}" if several else f"{score.video}/{score.object_id}",
        video=score.video,
        name=label,
        group=run.run.name if several else group,
        score=0.5 * (j.mean + f.mean),
        parts=(j.mean, f.mean),
        frames=score.frames,
        courses=(score.j, score.f),
        more=more,
    )


def _vos_measures(rows: Sequence[tuple[VosScores, ObjectScore]], seen: Collection[str] | None) -> Iterator[Measure]:
    videos = [score.video for _, score in rows]
    statistics = [run.statistics(score) for run, score in rows]
    jf = [0.5 * (j.mean + f.mean) for j, f in statistics]
    if seen is not None:
        in_seen = np.array([score.category in seen for _, score in rows], float)
        parts = [Ratio.of(videos, side * np.array(jf), side) for side in (in_seen, 1 - in_seen)]
        yield Measure("G", Ratio.mean_of(parts), "mean of J seen, F seen, J unseen, F unseen")
    yield Measure("J&F", Ratio.of(videos, jf), "mean of J and F over all objects")
    if seen is not None:
        yield Measure("seen J&F", parts[0], "objects of seen categories")
        yield Measure("unseen J&F", parts[1], "objects of unseen categories")
    named = (("J", "region similarity (IoU)"), ("F", "boundary F-measure"))
    for index, (name, text) in enumerate(named):
        yield Measure(name, Ratio.of(videos, [row[index].mean for row in statistics]), text)
    for index, (name, _) in enumerate(named):
        recall, decay = ([getattr(row[index], measure) for row in statistics] for measure in ("recall", "decay"))
        yield Measure(f"{name} recall", Ratio.of(videos, recall), "share of frames above 0.5")
        yield Measure(f"{name} decay", Ratio.of(videos, decay), "first quarter's mean minus the last's")


def _object_views(video: Video, run: Run, object_id: str, frames: Sequence[str], proposals: bool = False) -> list[View]:
    """Views of an object; with `proposals`, whose numbers have no meaning, of the one that overlaps it most."""
    reader = VideoPredictions(run, video, "empty")
    places = [video.frame_names.index(frame) for frame in frames]
    merged = object_id == MERGED and object_id not in video.object_by_id
    truth: Sequence[RLE | None]
    if merged:
        masks_by_frame = [[rle for item in video.objects if (rle := item.segmentations[t]) is not None] for t in places]
        truth = [union(masks) if masks else None for masks in masks_by_frame]
    elif object_id in video.object_by_id:
        truth = [video.object_by_id[object_id].segmentations[t] for t in places]
    else:
        truth = [None for _ in places]
    # with --official an object id can be a number that no object of the dataset has
    number = None if merged else reader.numbers.get(object_id) or int(object_id)
    views = []
    for t, rle in zip(places, truth, strict=True):
        labels = reader.read(t, None)
        size = (video.height, video.width)
        if labels is None:
            mask = np.zeros(size, bool)
        elif proposals:
            mask = _best_proposal(labels, rle)
        else:
            mask = labels != 0 if number is None else labels == number
        views.append(view_of(video, t, rle, mask))
    return views


def _best_proposal(labels: np.ndarray, truth: RLE | None) -> np.ndarray:
    """The mask bool [H, W] of the number of highest IoU with the true mask; empty where none overlaps."""
    mask = np.zeros(labels.shape, bool) if truth is None else decode(truth)
    inter, sizes = (np.bincount(values.ravel(), minlength=256) for values in (labels[mask], labels))
    iou = inter / np.maximum(sizes + np.count_nonzero(mask) - inter, 1)
    iou[0] = 0  # background
    return (labels == iou.argmax()) & (iou.max() > 0)


def view_of(video: Video, t: int, truth: RLE | None, prediction: np.ndarray) -> View:
    """A frame of a video with masks; grey where the dataset has no pixels."""
    size = (video.height, video.width)
    image = np.full((*size, 3), GREY, np.uint8) if video.frames is None else video.frames[t]
    return View(
        frame=video.frame_names[t], image=image, truth=None if truth is None else decode(truth), prediction=prediction
    )
