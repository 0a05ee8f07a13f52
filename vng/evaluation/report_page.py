"""A report as one page that stands alone: figures with intervals, plots, cases to look at, tables that sort and filter.

Only the cases that are shown are opened, one video at a time, so that thousands of cases cost their lines in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vng.evaluation.bootstrap import bootstrap_interval
from vng.evaluation.report import Case, Pairing, Report, View, p_value, span
from vng.evaluation.report_plots import curves_svg, histogram_svg, mean_course, scatter_svg
from vng.evaluation.report_tables import case_table, video_table
from vng.evaluation.vos_report import percent
from vng.masks import resize
from vng.viewer import embed_image, marked_html, overlay, render_page, tile

DIFFERING, WORST, BEST = 8, 8, 4  # cases shown
FRAMES = 3  # of each
WIDTH, HEIGHT = 320, 240  # of a picture at most
BUDGET = 4_000_000  # bytes of all pictures as they stand in the page
FEW_VIDEOS = 20  # below, an interval is said to be rough
TRUTH, FIRST, SECOND = (53, 178, 111), (47, 127, 224), (232, 131, 58)  # as the template's --truth, --a, --b


@dataclass(frozen=True)
class Shown:
    """A case to look at, what the other results say of it, and which of its frames."""

    case: Case
    rival: Case | None
    frames: tuple[int, ...]


def write_report(report: Report, folder: Path, pairing: Pairing | None = None, footer: str = "") -> Path:
    """Write `folder/index.html`; returns its path.

    Args:
        report: what was scored.
        pairing: the report beside another one (`report.pair`).
        footer: how the page was made.
    """
    chosen = choose(report, pairing)
    cards = _cards(report, pairing, chosen)
    units = f"{report.unit.capitalize()}s"
    titles = {
        "differ": ("Cases that differ most", "By the difference of J&F; frames on which J differs most."),
        "worst": ("Worst cases", f"{units} of lowest J&F, each on the worst frame of every third of its course."),
        "best": ("Best cases", f"{units} of highest J&F, likewise."),
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
    figures = [(name, percent(interval.value), span(interval.low, interval.high))
               for name, interval in ((m.name, bootstrap_interval(m.ratio)) for m in report.measures[:4])]  # fmt: skip
    title = report.title if pairing is None else f"{report.title}, against {pairing.second.name}"
    render_page(page, title=title, lead=report.lead, figures=figures, sections=sections, footer=footer, contents=True,
                legend=(report.name, None if pairing is None else pairing.second.name))  # fmt: skip
    return page


def choose(report: Report, pairing: Pairing | None) -> dict[str, list[Shown]]:
    """Which cases are shown, each once: those that differ most, the worst, the best."""
    rivals = {} if pairing is None else {first.key: second for first, second in pairing.pairs}
    ranked = sorted(report.cases, key=lambda case: (case.jf, case.key))
    differing = sorted(
        (case for case in ranked if case.key in rivals and case.jf != rivals[case.key].jf),
        key=lambda case: -abs(case.jf - rivals[case.key].jf),
    )[:DIFFERING]
    taken = {case.key for case in differing}
    worst = [case for case in ranked if case.key not in taken][:WORST]
    taken |= {case.key for case in worst}
    best = [case for case in reversed(ranked) if case.key not in taken][:BEST]

    def shown(cases: Sequence[Case], by_difference: bool = False) -> list[Shown]:
        found = [(case, rivals.get(case.key)) for case in cases]
        return [Shown(case, rival, _frames(case, rival if by_difference else None)) for case, rival in found]

    return {"differ": shown(differing, True), "worst": shown(worst), "best": shown(best)}


def _frames(case: Case, rival: Case | None) -> tuple[int, ...]:
    """Of each third of the frames the one of lowest J, or of the largest difference."""
    j = np.array(case.frame_j)
    if rival is not None and rival.frames == case.frames:
        j = -np.abs(j - np.array(rival.frame_j))
    parts = np.array_split(np.arange(len(j)), min(FRAMES, max(1, len(j))))
    return tuple(int(part[j[part].argmin()]) for part in parts if len(part))


def _score_section(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    videos = len({case.video for case in report.cases})
    text = f"{len(report.cases):,} {report.unit}s of {videos:,} videos. Per cent; 95 % intervals from a bootstrap over videos."
    if videos < FEW_VIDEOS:
        text += f" With {videos} videos they are rough, and rather too narrow."
    if pairing is None:
        header = ["figure", "value", "95 % interval", "over", "what it is"]
        rows = []
        for measure in report.measures:
            found = bootstrap_interval(measure.ratio)
            interval = span(found.low, found.high)
            rows.append([measure.name, percent(found.value), interval, f"{measure.ratio.items:,}", measure.text])
        return {"id": "scores", "title": "Scores", "text": text, "header": header, "rows": rows, "numbers": (1, 2, 3)}
    text += " The difference is tested on the same draws for both (paired bootstrap, two-sided)."
    header = ["figure", report.name, pairing.second.name, "difference", "95 % interval", "p", "what it is"]
    rows = [
        [measure.name, percent(found.first), percent(found.second), percent(found.difference, "+"),
         span(found.low, found.high, "+"), p_value(found.p), measure.text]
        for measure, found in pairing.tests
    ]  # fmt: skip
    return {"id": "scores", "title": "Scores", "text": text, "header": header, "rows": rows, "numbers": (1, 2, 3, 4, 5)}


def _plot_section(report: Report, pairing: Pairing | None) -> dict[str, Any]:
    both = [("a", report.cases)] + ([] if pairing is None else [("b", pairing.second.cases)])
    bars, most = histogram_svg([(kind, [case.jf for case in cases]) for kind, cases in both])
    plots = [{"svg": bars, "title": f"J&F of {report.unit}s", "top": f"{most:,}", "left": "0", "right": "100"}]
    courses = [(kind, mean_course(cases)) for kind, cases in both]
    if any(values for _, values in courses):
        plots.append({"svg": curves_svg(courses, height=150), "title": f"mean J over an {report.unit}'s course",
                      "top": "100", "left": "first frame", "right": "last"})  # fmt: skip
    if pairing is not None:
        dots = scatter_svg([(second.jf, first.jf) for first, second in pairing.pairs])
        title = f"J&F of each {report.unit}: {report.name} (upwards) over {pairing.second.name} (to the right)"
        plots.append({"svg": dots, "title": title, "top": "100", "left": "0", "right": "100", "square": "yes"})
    return {"id": "distribution", "title": "Distribution", "plots": plots}


def _cards(report: Report, pairing: Pairing | None, chosen: dict[str, list[Shown]]) -> dict[str, dict[str, Any]]:
    """A card of each case shown, by key; videos are opened one after the other."""
    found = sorted((item for shown in chosen.values() for item in shown), key=lambda item: item.case.video)
    other = None if pairing is None else pairing.second
    pictures = {item.case.key: _pictures(report, other, item) for item in found}
    embed = _embedder([image for rows in pictures.values() for row in rows for _, image in row["pictures"]])
    cards = {}
    for number, item in enumerate(found):
        views = [
            {"note": row["note"], "pictures": [(label, embed(image)) for label, image in row["pictures"]]}
            for row in pictures[item.case.key]
        ]
        cards[item.case.key] = _card(report, other, item, views, f"case-{number + 1}")
    return cards


def _card(report: Report, other: Report | None, item: Shown, views: list[Any], anchor: str) -> dict[str, Any]:
    case, rival = item.case, item.rival
    chips = [("J&F", percent(case.jf)), ("J", percent(case.j)), ("F", percent(case.f))]
    if rival is not None and other is not None:
        chips += [(f"J&F of {other.name}", percent(rival.jf)), ("difference", percent(case.jf - rival.jf, "+"))]
    chips += [
        (name, str(value)) for (name, _), value in zip(report.columns, case.more, strict=True) if value is not None
    ]
    card: dict[str, Any] = {"id": anchor, "title": f"{case.name}: {case.video}", "chips": chips, "views": views}
    if case.caption:
        spans = [] if case.span is None else [case.span]
        card["narratives"] = [{"actor": "", "html": marked_html(case.caption, spans, [FIRST])}]
    if len(case.frames) > 1:
        lines = [("f", case.frame_f), ("a", case.frame_j)]
        if rival is not None and len(rival.frames) > 1:
            lines.insert(1, ("b", rival.frame_j))
        places = [t / (len(case.frames) - 1) for t in item.frames]
        title = f"J (thick) and F (thin) on {len(case.frames):,} frames; upright lines: the frames below"
        card["plot"] = {"svg": curves_svg(lines, places), "title": title, "top": "100",
                        "left": case.frames[0], "right": case.frames[-1]}  # fmt: skip
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
        nothing = np.zeros(image.shape[:2], bool)
        truth = nothing if view.truth is None else resize(view.truth, *image.shape[:2])
        pictures = [("frame", image), ("truth", overlay(image, [truth], [TRUTH]))]
        pictures.append((report.name, _panel(image, resize(view.prediction, *image.shape[:2]), FIRST, truth)))
        note = f"frame {view.frame}: J {percent(item.case.frame_j[t])}"
        if rivals and other is not None and item.rival is not None:
            pictures.append((other.name, _panel(image, resize(rivals[i].prediction, *image.shape[:2]), SECOND, truth)))
            note += f", {percent(item.rival.frame_j[t])} of {other.name}"
        rows.append({"note": note, "pictures": pictures})
    return rows


def _panel(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], truth: np.ndarray) -> np.ndarray:
    """A predicted mask over its frame, the true outline in white."""
    painted = overlay(image, [mask], [colour])
    outline, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(painted, outline, -1, (255, 255, 255), 1)
    return painted


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return tile(image, max(1, min(WIDTH, HEIGHT * width // height)))


def _embedder(images: Sequence[np.ndarray]) -> Callable[[np.ndarray], str]:
    """Pictures as data URLs, of the best quality at which all of them fit into the budget."""
    for quality in (75, 55, 35, 15):
        urls = {id(image): embed_image(image, quality, webp=True) for image in images}
        if sum(map(len, urls.values())) <= BUDGET:
            break
    return lambda image: urls[id(image)]
