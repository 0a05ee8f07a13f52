"""`vng evaluate ... --html --against`: scores beside their report, and beside those of other results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vng.commands.output import print_notes, write_scores
from vng.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from vng.dataset import Video
    from vng.evaluation.narrative import NarrativeScores
    from vng.evaluation.narrative_analysis import NarrativeAnalysis
    from vng.evaluation.report import Pairing, Report


def evaluate_vng(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]]) -> None:
    """Score narratives; `source` opens the truth anew each time."""
    from vng.evaluation.report import folder_names, pair
    from vng.evaluation.report_sources import narrative_report, opener

    given = [name for name in ("html", "against", "csv") if getattr(arguments, name) is not None]
    if arguments.against_others and given:
        raise UsageError(f"vng evaluate vng: --against-others is a control of one figure; leave out --{given[0]}")
    if arguments.against_others:
        scores, _ = _narrative_scores(arguments, source, arguments.results)
        write_scores(arguments, scores.as_json(), None)
        print(scores.line())
        return
    analysis = _analysed(arguments, source, arguments.results)
    pairing = report = None
    if arguments.html is not None or arguments.against is not None:
        name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
        title = f"{name} on {(arguments.dataset or arguments.meta).resolve().name}"
        open_video = opener(source)
        report = narrative_report(analysis, arguments.results, name, title, open_video)
        if arguments.against is not None:
            beside = _analysed(arguments, source, arguments.against)
            pairing = pair(report, narrative_report(beside, arguments.against, other[0], title, open_video))
    tree = {**analysis.scores.as_json(), **analysis.as_json(), **against_json(pairing)}
    write_scores(arguments, tree, analysis.rows())
    print(f"{analysis.scores.line()}\n{analysis.table()}")
    finish(arguments, report, pairing)


def _analysed(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]], results: Path) -> NarrativeAnalysis:
    from vng.evaluation.narrative_analysis import analyse_narrative

    scores, processes = _narrative_scores(arguments, source, results)
    return analyse_narrative(source(), results, scores, processes, progress=not arguments.quiet)


def _narrative_scores(
    arguments: argparse.Namespace, source: Callable[[], Iterable[Video]], results: Path
) -> tuple[NarrativeScores, int]:
    """Scores, and how many processes worked."""
    from vng.evaluation.narrative import evaluate_narrative, other_object, own_object
    from vng.evaluation.workers import known_length, processes_for

    videos = source()
    processes = processes_for(arguments.processes, known_length(videos))
    truth_of = other_object if arguments.against_others else own_object
    scores = evaluate_narrative(
        videos,
        results,
        arguments.missing,
        truth_of,
        strict=arguments.strict,
        processes=processes,
        progress=not arguments.quiet,
    )
    print_notes(scores.notes)
    if not scores.expressions:
        place = arguments.dataset or arguments.meta
        raise DataError(place, "", "expressions", "no expression has an annotated frame")
    return scores, processes


def against_json(pairing: Pairing | None) -> dict[str, Any]:
    """The paired comparison for `--json`; {} where nothing was compared."""
    return {} if pairing is None else {"against": pairing.as_json()}


def finish(arguments: argparse.Namespace, report: Report | None, pairing: Pairing | None) -> None:
    """Print the paired test, write the page."""
    from vng.evaluation.report_page import write_report

    if pairing is not None:
        print(f"\n{pairing.table()}")
    if arguments.html is not None and report is not None:
        footer = f"vng {arguments.run.replace('_', ' ')} --results {arguments.results}"
        footer += "" if arguments.against is None else f" --against {arguments.against}"
        print(write_report(report, arguments.html, pairing, footer))


def vos_reports(
    arguments: argparse.Namespace, dataset: Any, scores: Any, theirs: Any, seen: Any
) -> tuple[Report | None, Pairing | None]:
    """The report that a page or a comparison needs, and the comparison."""
    if arguments.html is None and arguments.against is None:
        return None, None
    from vng.evaluation.report import folder_names, pair
    from vng.evaluation.report_sources import opener, vos_report

    name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
    title = f"{name} on {arguments.dataset.resolve().name}"
    open_video = opener(lambda: dataset)
    report = vos_report(scores, seen, name, title, open_video)
    if arguments.against is None:
        return report, None
    return report, pair(report, vos_report(theirs, seen, other[0], title, open_video))


def referring_reports(
    arguments: argparse.Namespace, dataset: Any, scores: Any, how: Any
) -> tuple[Report | None, Pairing | None]:
    """As `vos_reports`, of referring expressions; `how` is what both results are scored with."""
    if arguments.html is None and arguments.against is None:
        return None, None
    from vng.evaluation.narrative import NarrativeScores
    from vng.evaluation.narrative_analysis import analyse_narrative
    from vng.evaluation.referring import evaluate_referring, truth_videos
    from vng.evaluation.report import folder_names, pair
    from vng.evaluation.report_sources import opener, referring_report

    name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
    title, open_video = f"{name} on {arguments.dataset.resolve().name}", opener(lambda: dataset)

    def report(its: Any, results: Path, called: str) -> Report:
        truth, plain = truth_videos(dataset, arguments.protocol), NarrativeScores(its.expressions)
        analysis = analyse_narrative(truth, results, plain, how["processes"], not arguments.quiet)
        return referring_report(its, analysis, results, called, title, open_video)

    ours = report(scores, arguments.results, name)
    if arguments.against is None:
        return ours, None
    theirs = evaluate_referring(dataset, arguments.against, arguments.protocol, arguments.missing, **how)
    print_notes(theirs.notes)
    return ours, pair(ours, report(theirs, arguments.against, other[0]))
