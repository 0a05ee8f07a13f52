"""A report as one self-contained page: figures with intervals, plots, pictures of cases, tables that sort and filter.

Only the cases shown are opened, one video at a time; any other case costs only its row in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.evaluation.bootstrap import bootstrap_interval
from vng.evaluation.figures import p_value, percent, span
from vng.evaluation.report.plots import curves_svg, histogram_svg, mean_course, scatter_svg
from vng.evaluation.report.record import Box, Case, Pairing, Report, View
from vng.evaluation.report.tables import case_table, video_table
from vng.masks import resize
from vng.pages import embed_image, marked_html, render_page
from vng.viewer import draw_points, overlay, scaled

DIFFERING, WORST, BEST = 8, 8, 4  # cases shown
FRAMES = 3  # of each case
WIDTH, HEIGHT = 320, 240  # of a picture at most
BUDGET = 4_000_000  # bytes of all pictures as embedded in the page
FEW_VIDEOS = 20  # with fewer videos, the page calls intervals rough
WHITE = (255, 255, 255)
TRUTH, FIRST, SECOND = (53, 178, 111), (47, 127, 224), (232, 131, 58)  # as the template's --truth, --a, --b


@dataclass(frozen=True)
class Shown:
    """A case shown in pictures, the same case of the other results, and indices of the frames shown."""

    case: Case
    rival: Case | None
    frames: tuple[int, ...]


def write_report(report: Report, folder: Path, pairing: Pairing | None = None, footer: str = "") -> Path:
    """Write `folder/index.html`; returns its path.

    Args:
        report: the record of the scores.
        pairing: the comparison with another report (`record.pair`).
        footer: the command that made the page.
    """
    chosen = choose(report, pairing)
    cards = _cards(report, pairing, chosen)
    units, score, course = f"{report.unit.capitalize()}s", report.scale.score, report.scale.courses[0]
    titles = {
        "differ": ("Cases that differ most", f"By the difference of {score}; frames on which {course} differs most."),
        "worst": ("Worst cases", f"{units} of lowest {score}, each on the worst frame of every third of its course."),
        "best": ("Best cases", f"{units} of highest {score}, likewise."),
    }
    anchors = {key: card["id"] for key, card in cards.items()}
    sections = [_score_section(report, pairing), _plot_section(report, pairing)]
    sections += [video_table(report, pairing), case_table(report, pairing, anchors)]
    for key, shown in chosen.items():
        if shown:
            title, text = titles[key]
            sections.append(
                {"id": key, "title": title, "text": text, "cards": [cards[item.case.key] for item in shown]}
            )
    if report.notes:
        sections.append({"id": "notes", "title": "Notes", "notes": report.notes})
    page = folder / "index.html"
    figures = [
        (name, percent(interval.value), span(interval.low, interval.high))
        for name, interval in ((m.name, bootstrap_interval(m.ratio)) for m in report.measures[:4])
    ]
    title = report.title if pairing is None else f"{report.title}, against {pairing.second.name}"
    render_page(
        page,
        title=title,
        lead=report.lead,
        figures=figures,
        sections=sections,
        footer=footer,
        contents=True,
        legend=(report.name, None if pairing is None else pairing.second.name, report.scale.legend),
    )
    return page


def choose(report: Report, pairing: Pairing | None) -> dict[str, list[Shown]]:
    """Cases to show, each once: those that differ most, the worst, the best."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    ranked = sorted(report.cases, key=lambda case: (case.score, case.key))
    differing = sorted(
        (case for case in ranked if case.key in rivals and case.score != rivals[case.key].score),
        key=lambda case: -abs(case.score - rivals[case.key].score),
    )[:DIFFERING]
    chosen = {case.key for case in differing}
    worst = [case for case in ranked if case.key not in chosen][:WORST]
    chosen |= {case.key for case in worst}
    best = [case for case in reversed(ranked) if case.key not in chosen][:BEST]

    def shown(cases: Sequence[Case], by_difference: bool = False) -> list[Shown]:
        matched = [(case, rivals.get(case.key)) for case in cases]
        return [Shown(case, rival, _frames(case, rival if by_difference else None)) for case, rival in matched]

    return {"differ": shown(differing, True), "worst": shown(worst), "best": shown(best)}


def _frames(case: Case, rival: Case | None) -> tuple[int, ...]:
    """For each third of the frames, the index of the lowest value, or of the largest difference."""
    values = np.array(case.course)
    if rival is not None and rival.frames == case.frames:
        values = -np.abs(values - np.array(rival.course))
    parts = np.array_split(np.arange(len(values)), min(FRAMES, max(1, len(values))))
    return tuple(int(part[values[part].argmin()]) for part in parts if len(part))


def _score_section(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    videos = len({case.video for case in report.cases})
    text = f"{len(report.cases):,} {report.unit}s of {videos:,} videos. "
    text += "Per cent; 95 % intervals from a bootstrap over videos."
    if videos < FEW_VIDEOS:
        text += f" With {videos} videos they are rough, and rather too narrow."
    if pairing is None:
        header = ["figure", "value", "95 % interval", "over", "what it is"]
        rows = []
        for measure in report.measures:
            interval = bootstrap_interval(measure.ratio)
            limits = span(interval.low, interval.high)
            rows.append([measure.name, percent(interval.value), limits, f"{measure.ratio.items:,}", measure.text])
        return {"id": "scores", "title": "Scores", "text": text, "header": header, "rows": rows, "numbers": (1, 2, 3)}
    text += " The difference is tested on the same draws for both (paired bootstrap, two-sided)."
    header = ["figure", report.name, pairing.second.name, "difference", "95 % interval", "p", "what it is"]
    rows = [
        [
            measure.name,
            percent(paired.first),
            percent(paired.second),
            percent(paired.difference, "+"),
            span(paired.low, paired.high, "+"),
            p_value(paired.p),
            measure.text,
        ]
        for measure, paired in pairing.tests
    ]
    return {"id": "scores", "title": "Scores", "text": text, "header": header, "rows": rows, "numbers": (1, 2, 3, 4, 5)}


def _plot_section(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    both = [("a", report.cases)] + ([] if pairing is None else [("b", pairing.second.cases)])
    bars, highest = histogram_svg([(kind, [case.score for case in cases]) for kind, cases in both])
    plots = [
        {
            "svg": bars,
            "title": f"{report.scale.score} of {report.unit}s",
            "top": f"{highest:,}",
            "left": "0",
            "right": "100",
        }
    ]
    courses = [(kind, mean_course(cases)) for kind, cases in both]
    if any(len(case.course) > 1 for _, cases in both for case in cases):
        title = f"mean {report.scale.courses[0]} over the course of all {report.unit}s"
        plots.append(
            {
                "svg": curves_svg(courses, height=150),
                "title": title,
                "top": "100",
                "left": "first frame",
                "right": "last",
            }
        )
    if pairing is not None:
        dots = scatter_svg([(second.score, first.score) for first, second in pairing.pairs])
        names = f"{report.name} (upwards) over {pairing.second.name} (to the right)"
        title = f"{report.scale.score} of each {report.unit}: {names}"
        plots.append({"svg": dots, "title": title, "top": "100", "left": "0", "right": "100", "square": "yes"})
    return {"id": "distribution", "title": "Distribution", "plots": plots}


def _cards(report: Report, pairing: Pairing | None, chosen: dict[str, list[Shown]]) -> dict[str, dict[str, Any]]:
    """A card for each case shown, by key; videos are opened one after the other."""
    items = sorted((item for shown in chosen.values() for item in shown), key=lambda item: item.case.video)
    other = None if pairing is None else pairing.second
    pictures = {item.case.key: _pictures(report, other, item) for item in items}
    embed = _embedder([image for rows in pictures.values() for row in rows for _, image in row["pictures"]])
    cards = {}
    for number, item in enumerate(items):
        views = [
            {"note": row["note"], "pictures": [(label, embed(image)) for label, image in row["pictures"]]}
            for row in pictures[item.case.key]
        ]
        cards[item.case.key] = _card(report, other, item, views, f"case-{number + 1}")
    return cards


def _card(report: Report, other: Report | None, item: Shown, views: list[Any], anchor: str) -> dict[str, Any]:
    case, rival = item.case, item.rival
    scale, change = report.scale, 0.0 if rival is None else case.score - rival.score
    chips = [(scale.score, percent(case.score))]
    chips += [(name, percent(part)) for name, part in zip(scale.parts, case.parts, strict=True)]
    if rival is not None and other is not None:
        chips += [(f"{scale.score} of {other.name}", percent(rival.score)), ("difference", percent(change, "+"))]
    chips += [
        (name, str(value)) for (name, _), value in zip(report.columns, case.more, strict=True) if value is not None
    ]
    card: dict[str, Any] = {"id": anchor, "title": f"{case.name}: {case.video}", "chips": chips, "views": views}
    if case.caption:
        spans = [] if case.span is None else [case.span]
        card["narratives"] = [{"actor": "", "html": marked_html(case.caption, spans, [FIRST])}]
    if len(case.frames) > 1:
        lines = [("f", thin) for thin in case.courses[1:]] + [("a", case.course)]
        if rival is not None and len(rival.frames) > 1:
            lines.insert(-1, ("b", rival.course))
        places = [t / (len(case.frames) - 1) for t in item.frames]
        names = " and ".join(f"{n} ({kind})" for n, kind in zip(scale.courses, ("thick", "thin"), strict=False))
        title = f"{names} on {len(case.frames):,} frames; upright lines: the frames below"
        card["plot"] = {
            "svg": curves_svg(lines, places),
            "title": title,
            "top": "100",
            "left": case.frames[0],
            "right": case.frames[-1],
        }
    return card


def _pictures(report: Report, other: Report | None, item: Shown) -> list[dict[str, Any]]:
    """For each frame shown: a note and its pictures (label, uint8 [h, w, 3])."""
    if report.viewer is None:
        return []
    names = [item.case.frames[t] for t in item.frames]
    rivals: list[View] = []
    if other is not None and other.viewer is not None and item.rival is not None:
        rivals = other.viewer(item.rival, names)
    rows = []
    for i, (t, view) in enumerate(zip(item.frames, report.viewer(item.case, names), strict=True)):
        image = _small(view.image)
        pictures = [("frame", image), (report.scale.truth, _true_panel(image, view))]
        pictures.append((report.name, _panel(image, view, FIRST)))
        note = f"frame {view.frame}: {report.scale.courses[0]} {percent(item.case.course[t])}"
        if rivals and other is not None and item.rival is not None:
            pictures.append((other.name, _panel(image, rivals[i], SECOND)))
            note += f", {percent(item.rival.course[t])} of {other.name}"
        rows.append({"note": note, "pictures": pictures})
    return rows


def _true_panel(image: np.ndarray, view: View) -> np.ndarray:
    """The ground truth (mask, points, box) over its frame, scaled to `image`."""
    painted = image if view.truth is None else overlay(image, [resize(view.truth, *image.shape[:2])], [TRUTH])
    return _marked(painted, view, view.true_box, TRUTH)


def _panel(image: np.ndarray, view: View, colour: tuple[int, int, int]) -> np.ndarray:
    """A predicted mask over its frame, scaled to `image`; the true outline in white, with the points."""
    painted = overlay(image, [resize(view.prediction, *image.shape[:2])], [colour])
    if view.truth is not None:
        truth = resize(view.truth, *image.shape[:2]).astype(np.uint8)
        outline, _ = cv2.findContours(truth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(painted, outline, -1, WHITE, 1)
    return _marked(painted, view, view.predicted_box, colour)


def _marked(image: np.ndarray, view: View, box: Box | None, colour: tuple[int, int, int]) -> np.ndarray:
    """The picture with the view's points and a box, both in pixels of the view."""
    image = image.copy()
    scale = image.shape[0] / view.image.shape[0]
    if box is not None:
        top, left, bottom, right = (round(scale * edge) for edge in box)
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), WHITE, 3)
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), colour, 1)
    if view.points is not None:
        draw_points(image, replace(view.points, xy=scale * view.points.xy))
    return image


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return scaled(image, max(1, min(WIDTH, HEIGHT * width // height)))


def _embedder(images: Sequence[np.ndarray]) -> Callable[[np.ndarray], str]:
    """Encodes pictures as data URLs, with the highest quality at which all of them fit into the budget."""
    for quality in (75, 55, 35, 15):
        urls = {id(image): embed_image(image, quality, webp=True) for image in images}
        if sum(map(len, urls.values())) <= BUDGET:
            break
    return lambda image: urls[id(image)]
