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
    from vng.evaluation.narrative.analysis import NarrativeAnalysis
    from vng.evaluation.narrative.scores import NarrativeScores
    from vng.evaluation.report.record import Pairing, Report


def evaluate_vng(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]]) -> None:
    """Score narratives; `source` opens the truth anew each time."""
    from vng.evaluation.report.from_masks import narrative_report, opener

    given = [name for name in ("html", "against", "csv") if getattr(arguments, name) is not None]
    if arguments.against_others and given:
        raise UsageError(f"vng evaluate vng: --against-others is a control of one figure; leave out --{given[0]}")
    if arguments.against_others:
        scores, _ = _narrative_scores(arguments, source, arguments.results)
        write_scores(arguments, scores.as_json(), None)
        print(scores.line())
        return
    analysis = _analysed(arguments, source, arguments.results)
    open_video = opener(source)

    def made(its: NarrativeAnalysis, results: Path, name: str, title: str) -> Report:
        return narrative_report(its, results, name, title, open_video)

    def analysed(results: Path) -> NarrativeAnalysis:
        return _analysed(arguments, source, results)

    report, pairing = reports_of(arguments, arguments.dataset or arguments.meta, analysis, analysed, made)
    tree = {**analysis.scores.as_json(), **analysis.as_json(), **against_json(pairing)}
    write_scores(arguments, tree, analysis.rows())
    print(f"{analysis.scores.line()}\n{analysis.table()}")
    finish(arguments, report, pairing)


def _analysed(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]], results: Path) -> NarrativeAnalysis:
    from vng.evaluation.narrative.analysis import analyse_narrative

    scores, processes = _narrative_scores(arguments, source, results)
    return analyse_narrative(source(), results, scores, processes, progress=not arguments.quiet)


def _narrative_scores(
    arguments: argparse.Namespace, source: Callable[[], Iterable[Video]], results: Path
) -> tuple[NarrativeScores, int]:
    """Scores, and how many processes worked."""
    from vng.evaluation.narrative.scores import evaluate_narrative, other_object, own_object
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
    from vng.evaluation.report.page import write_report

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
    from vng.evaluation.report.from_masks import opener, vos_report

    open_video = opener(lambda: dataset)

    def made(its: Any, _: Path, name: str, title: str) -> Report:
        return vos_report(its, seen, name, title, open_video)

    return reports_of(arguments, arguments.dataset, scores, lambda _: theirs, made)


def reports_of(
    arguments: argparse.Namespace,
    truth: Path,
    score: Any,
    scored: Callable[[Path], Any],
    made: Callable[[Any, Path, str, str], Report],
) -> tuple[Report | None, Pairing | None]:
    """The report that a page or a comparison needs, and the comparison, of a protocol that scores a folder at a time.

    Args:
        arguments: of the command.
        truth: what was scored is "on".
        score: what `arguments.results` scored.
        scored: scores another folder.
        made: the report of a score, its folder, its name and the page's title.
    """
    if arguments.html is None and arguments.against is None:
        return None, None
    from vng.evaluation.report.record import folder_names, pair

    name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
    title = f"{name} on {truth.resolve().name}"
    report = made(score, arguments.results, name, title)
    if arguments.against is None:
        return report, None
    return report, pair(report, made(scored(arguments.against), arguments.against, other[0], title))


def referring_reports(
    arguments: argparse.Namespace, dataset: Any, scores: Any, how: Any
) -> tuple[Report | None, Pairing | None]:
    """As `vos_reports`, of referring expressions; `how` is what both results are scored with."""
    from vng.evaluation.narrative.analysis import analyse_narrative
    from vng.evaluation.narrative.referring import evaluate_referring, truth_videos
    from vng.evaluation.narrative.scores import NarrativeScores
    from vng.evaluation.report.from_masks import opener, referring_report

    open_video = opener(lambda: dataset)

    def scored(results: Path) -> Any:
        theirs = evaluate_referring(dataset, results, arguments.protocol, arguments.missing, **how)
        print_notes(theirs.notes)
        return theirs

    def made(its: Any, results: Path, name: str, title: str) -> Report:
        truth, plain = truth_videos(dataset, arguments.protocol), NarrativeScores(its.expressions)
        analysis = analyse_narrative(truth, results, plain, how["processes"], not arguments.quiet)
        return referring_report(its, analysis, results, name, title, open_video)

    return reports_of(arguments, arguments.dataset, scores, scored, made)
