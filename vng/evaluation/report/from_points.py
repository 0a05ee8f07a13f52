"""Report records from the scores of `vng evaluate points` and `traces`.

As `from_masks`, for protocols without true masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vng.evaluation.bootstrap import Measure, Ratio
from vng.evaluation.narrative.scores import read_expression
from vng.evaluation.point_agreement import ObjectAgreement, PointScore, counting_points, share
from vng.evaluation.report.from_masks import GREY, Videos, view_of
from vng.evaluation.report.record import Case, Report, Scale, View, Viewer
from vng.evaluation.traces import (
    Answer,
    TraceScore,
    bounding_box,
    drawn_trace,
    question_folder,
    question_trace,
    read_questions,
    trace_square,
)
from vng.evaluation.vos.runs import Run, VideoPredictions
from vng.masks import decode

AGREEMENT = Scale(
    "agreement", ("positives inside", "negatives outside"), ("agreement",), "points", "points that belong inside"
)
RECALL_AND_PRECISION = Scale("R&P", ("recall", "precision"), ("R&P",), "trace", "trace and the square about it")
POINTS_LEAD = "Agreement with verified points: positives (green) belong inside, negatives (red) outside."
TRACES_LEAD = (
    "The bounding box of a prediction answers. Recall: share of the mouse trace in it; precision: share of it in the "
    "square about the trace. R&P is the mean of both."
)


def points_report(score: PointScore, run: Run, name: str, title: str, open_video: Videos) -> Report:
    """The report of `vng evaluate points`; a case is an object."""
    items = score.objects
    cases = tuple(_object_case(item) for item in items)
    ids = {case.key: item.object_id for case, item in zip(cases, items, strict=True)}

    def view(case: Case, frames: Sequence[str]) -> list[View]:
        video = open_video(case.video)
        item, reader = video.object_by_id[ids[case.key]], VideoPredictions(run, video, "empty")
        views = []
        for t in map(video.frame_names.index, frames):
            labels = reader.read(t, None)
            mask = (
                np.zeros((video.height, video.width), bool)
                if labels is None
                else labels == reader.numbers[item.object_id]
            )
            views.append(replace(view_of(video, t, None, mask), points=counting_points(item).in_frame(t)))
        return views

    columns = (("positives", "points that belong inside"), ("negatives", "points that belong outside"))
    measures = tuple(_point_measures(items))
    return Report(
        name=name,
        title=title,
        lead=POINTS_LEAD,
        unit="object",
        measures=measures,
        cases=cases,
        columns=columns,
        notes=(),
        viewer=view,
        scale=AGREEMENT,
    )


def _object_case(item: ObjectAgreement) -> Case:
    label = item.object_id if item.name in ("", item.object_id) else f"{item.object_id} ({item.name})"
    parts = (share(item.positives_inside, item.positives), share(item.negatives_outside, item.negatives))
    return Case(
        key=f"{item.video}/{item.object_id}",
        video=item.video,
        name=label,
        group="",
        score=item.agreement,
        parts=parts,
        frames=item.frame_names,
        courses=(item.frame_agreement,),
        more=(item.positives, item.negatives),
    )


def _point_measures(items: Sequence[ObjectAgreement]) -> list[Measure]:
    videos = [item.video for item in items]
    inside, outside = ([getattr(item, name) for item in items] for name in ("positives_inside", "negatives_outside"))
    positives, negatives = ([getattr(item, name) for item in items] for name in ("positives", "negatives"))
    both = (np.add(inside, outside), np.add(positives, negatives))
    return [
        Measure("agreement", Ratio.of(videos, *both), "share of all points on the right side"),
        Measure("positives-inside", Ratio.of(videos, inside, positives), "share of positives inside"),
        Measure("negatives-outside", Ratio.of(videos, outside, negatives), "share of negatives outside"),
        Measure(
            "object-agreement", Ratio.of(videos, [i.agreement for i in items]), "mean over objects of their agreement"
        ),
    ]


def traced_report(score: TraceScore, results: Path, name: str, title: str, open_video: Videos) -> Report:
    """The report of `vng evaluate traces --dataset`; a case is an expression on a frame with its trace."""

    def case_of(answer: Answer) -> Case:
        video, index = open_video(answer.video), int(answer.question.partition("/")[0])
        expression = video.expressions[index]
        caption, span = video.narratives[expression.narrative].description, (expression.start, expression.end)
        return replace(_answer_case(answer), name=video.noun(expression), caption=caption, span=span)

    def view(case: Case, frames: Sequence[str]) -> list[View]:
        video = open_video(case.video)
        index = int(case.key.removeprefix(f"{case.video}/").partition("/")[0])
        item, places = video.object_by_id[video.expressions[index].object_id], [*map(video.frame_names.index, frames)]
        masks = read_expression(video, index, places, results)
        return [
            replace(
                _boxed(view_of(video, t, None, mask), drawn_trace(item, t, mask.shape)), points=item.points.in_frame(t)
            )
            for t, mask in zip(places, masks, strict=True)
        ]

    return _trace_report(score, name, title, tuple(case_of(answer) for answer in score.answers), view)


def questions_report(score: TraceScore, questions: Path, results: Path, name: str, title: str) -> Report:
    """The report of `vng evaluate traces --questions`; cases are questions, frames grey (no pixels in the file)."""
    questions_by_key = {(video, item["question_hash"]): item for video, item in read_questions(questions)}
    texts = {key: str(item.get("question", "")) for key, item in questions_by_key.items()}
    cases = tuple(
        replace(_answer_case(answer), caption=texts[answer.video, answer.question]) for answer in score.answers
    )

    def view(case: Case, frames: Sequence[str]) -> list[View]:
        item = questions_by_key[case.video, case.key.removeprefix(f"{case.video}/")]
        trace = decode(question_trace(item))
        folder = question_folder(results, case.video, item, trace.shape, "empty")
        labels = folder.pixels(0)
        mask = np.zeros(trace.shape, bool) if labels is None else labels != 0
        return [
            _boxed(
                View(frame=name, image=np.full((*trace.shape, 3), GREY, np.uint8), truth=trace, prediction=mask), trace
            )
            for name in frames
        ]

    return _trace_report(score, name, title, cases, view)


def _answer_case(answer: Answer) -> Case:
    key = f"{answer.video}/{answer.question}"
    values = (answer.recall, answer.precision)
    met = tuple("yes" if reached else "no" for reached in answer.met)
    return Case(
        key=key,
        video=answer.video,
        name=answer.question,
        group="",
        score=answer.mean,
        parts=values,
        frames=(answer.frame,),
        courses=((answer.mean,),),
        more=met,
    )


def _trace_report(score: TraceScore, name: str, title: str, cases: tuple[Case, ...], view: Viewer) -> Report:
    videos, answers = [answer.video for answer in score.answers], score.answers
    met = np.array([answer.met for answer in answers]).reshape(-1, 2)
    measures = (
        Measure("recall", Ratio.of(videos, [a.recall for a in answers]), "share of a trace in the box, mean"),
        Measure(
            "precision", Ratio.of(videos, [a.precision for a in answers]), "share of a box in the trace's square, mean"
        ),
        Measure("recall-met", Ratio.of(videos, met[:, 0]), "share of questions with a recall of one half or more"),
        Measure(
            "precision-met", Ratio.of(videos, met[:, 1]), "share of questions with a precision of one half or more"
        ),
        Measure("both-met", Ratio.of(videos, met.all(1)), "share of questions with both: the paper's score"),
    )
    columns = (("recall met", "one half or more"), ("precision met", "one half or more"))
    return Report(
        name=name,
        title=title,
        lead=TRACES_LEAD,
        unit="question",
        measures=measures,
        cases=cases,
        columns=columns,
        notes=(),
        viewer=view,
        scale=RECALL_AND_PRECISION,
    )


def _boxed(view: View, trace: np.ndarray) -> View:
    """The view with the square about the trace (bool [H, W]) and the prediction's bounding box."""
    return replace(view, true_box=trace_square(trace), predicted_box=bounding_box(view.prediction))
