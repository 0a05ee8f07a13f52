"""`vng evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vng.errors import DataError, UsageError

if TYPE_CHECKING:
    from vng.dataset import Video
    from vng.evaluation.report import Pairing, Report
    from vng.evaluation.vos import Run


def evaluate_vng(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]]) -> None:
    """Score narratives; `source` opens the truth anew each time."""
    from vng.evaluation.narrative_analysis import analyse_narrative
    from vng.evaluation.report import folder_names, pair
    from vng.evaluation.report_sources import narrative_report, opener

    given = [name for name in ("html", "against", "csv") if getattr(arguments, name) is not None]
    if arguments.against_others and given:
        raise UsageError(f"vng evaluate vng: --against-others is a control of one figure; leave out --{given[0]}")
    place = arguments.dataset or arguments.meta
    scores = _narrative_scores(arguments, source, arguments.results)
    if not scores.expressions:
        raise DataError(place, "", "expressions", "no expression has an annotated frame")
    official = f"J&F {100 * scores.jf:.2f}  J {100 * scores.j:.2f}  F {100 * scores.f:.2f}"
    official += f"  ({len(scores.expressions)} expressions)"
    if arguments.against_others:
        _write(arguments.json, scores.as_json())
        print(official)
        return
    analysis = analyse_narrative(source(), arguments.results, scores)
    pairing = report = None
    if arguments.html is not None or arguments.against is not None:
        name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
        title = f"{name} on {place.resolve().name}"
        report = narrative_report(analysis, arguments.results, name, title, opener(source))
        if arguments.against is not None:
            theirs = _narrative_scores(arguments, source, arguments.against)
            beside = analyse_narrative(source(), arguments.against, theirs)
            pairing = pair(report, narrative_report(beside, arguments.against, other[0], title, opener(source)))
    _write(arguments.json, {**scores.as_json(), **analysis.as_json(), **_against_json(pairing)})
    _write(arguments.csv, analysis.as_csv())
    print(f"{official}\n{analysis.table()}")
    _finish(arguments, report, pairing)


def _narrative_scores(arguments: argparse.Namespace, source: Callable[[], Iterable[Video]], results: Any) -> Any:
    from tqdm import tqdm

    from vng.evaluation.narrative import evaluate_narrative, other_object, own_object

    shown = tqdm(source(), desc="evaluate", unit="video", disable=arguments.quiet)
    truth_of = other_object if arguments.against_others else own_object
    return evaluate_narrative(shown, results, arguments.missing, truth_of)


def _write(path: Any, value: Any) -> None:
    """A file of what was asked for: text as it is, anything else as JSON; nothing without a path."""
    from vng.manifest import to_json, write_atomic

    if path is not None:
        write_atomic(path, value if isinstance(value, str) else to_json(value))


def _against_json(pairing: Pairing | None) -> dict[str, Any]:
    return {} if pairing is None else {"against": pairing.as_json()}


def _finish(arguments: argparse.Namespace, report: Report | None, pairing: Pairing | None) -> None:
    """Print the paired test, write the page."""
    from vng.evaluation.report_page import write_report

    if pairing is not None:
        print(f"\n{pairing.table()}")
    if arguments.html is not None and report is not None:
        footer = f"vng {arguments.run.replace('_', ' ')} --results {arguments.results}"
        footer += "" if arguments.against is None else f" --against {arguments.against}"
        print(write_report(report, arguments.html, pairing, footer))


def run_evaluate_vos(arguments: argparse.Namespace) -> None:
    """Score, or with --archive pack, predictions of video object segmentation."""
    if arguments.seen is not None and arguments.protocol not in ("youtube-vos", "point-vos"):
        raise UsageError("vng evaluate vos: --seen goes with --protocol youtube-vos and point-vos")
    if arguments.archive is not None:
        _write_vos_archive(arguments)
        return
    if arguments.meta is not None:
        raise UsageError("vng evaluate vos: --meta goes with --archive")
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.vos import Protocol, evaluate_vos
    from vng.evaluation.vos_report import as_csv, as_json, check_categories, read_seen, table

    point_vos = arguments.protocol == "point-vos"
    by_category = point_vos and arguments.seen is not None and arguments.truth == "auto"
    protocol = Protocol(arguments.protocol, arguments.official, "youtube-vos" if by_category else arguments.truth)
    seen = None if arguments.seen is None else read_seen(arguments.seen)
    dataset = VngDataset(arguments.dataset, arguments.split)
    runs = _runs(arguments.results, dataset.video_ids, point_vos)
    others = () if arguments.against is None else _runs(arguments.against, dataset.video_ids, point_vos)
    shown = tqdm(dataset, desc="evaluate", unit="video", disable=arguments.quiet)
    found = evaluate_vos(shown, [*runs, *others], protocol, arguments.missing)
    scores, theirs = found[: len(runs)], found[len(runs) :]
    if seen is not None:
        check_categories(scores[0])
    report, pairing = _vos_reports(arguments, dataset, scores, theirs, seen)
    _write(arguments.json, {**as_json(scores, seen), **_against_json(pairing)})
    _write(arguments.csv, as_csv(scores, seen) if arguments.csv is not None else "")
    print(table(scores, seen))
    _finish(arguments, report, pairing)


def _runs(results: Any, video_ids: Any, point_vos: bool) -> tuple[Run, ...]:
    from vng.evaluation.vos import find_runs, plain_run

    return find_runs(results, video_ids) if point_vos else (plain_run(results, video_ids),)


def _vos_reports(
    arguments: argparse.Namespace, dataset: Any, scores: Any, theirs: Any, seen: Any
) -> tuple[Report | None, Pairing | None]:
    """The report that a page or a comparison needs, and the comparison."""
    if arguments.html is None and arguments.against is None:
        return None, None
    from vng.evaluation.report import folder_names, pair
    from vng.evaluation.report_sources import opener, vos_report

    name, *other = folder_names([arguments.results, *([arguments.against] if arguments.against else [])])
    title = f"{name} on {arguments.dataset.resolve().name}"
    report = vos_report(scores, seen, name, title, opener(lambda: dataset))
    if arguments.against is None:
        return report, None
    return report, pair(report, vos_report(theirs, seen, other[0], title, opener(lambda: dataset)))


def _write_vos_archive(arguments: argparse.Namespace) -> None:
    if arguments.protocol == "point-vos":
        raise UsageError("vng evaluate vos: --archive goes with --protocol davis, davis-2016 and youtube-vos")
    if arguments.meta is not None and arguments.protocol != "youtube-vos":
        raise UsageError("vng evaluate vos: --meta goes with --protocol youtube-vos")
    defaults = {"json": None, "csv": None, "seen": None, "missing": "error", "official": False, "truth": "auto", "html": None,
                "against": None}  # fmt: skip
    if given := [f"--{name}" for name, default in defaults.items() if getattr(arguments, name) != default]:
        raise UsageError(f"vng evaluate vos: --archive does not score; leave out {', '.join(given)}")
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.vos import plain_run
    from vng.evaluation.vos_archive import required_frames, write_archive

    required = None if arguments.meta is None else required_frames(arguments.meta)
    dataset = VngDataset(arguments.dataset, arguments.split)
    run = plain_run(arguments.results, dataset.video_ids)
    shown = tqdm(dataset, desc="archive", unit="video", disable=arguments.quiet)
    count = write_archive(shown, run, arguments.archive, arguments.protocol, required)
    print(f"{arguments.archive}: {len(dataset)} videos, {count:,} frames")


def run_evaluate_frame_sparsity(arguments: argparse.Namespace) -> None:
    """Compare scores of a few frames with those of all."""
    if len(arguments.results) < 2:
        raise UsageError("vng evaluate frame-sparsity: give two or more folders of --results, one a method")
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.frame_sparsity import sparsity_table, study_frame_sparsity, write_sparsity_page
    from vng.evaluation.vos import Protocol, plain_run
    from vng.manifest import to_json, write_atomic

    dataset = VngDataset(arguments.dataset, arguments.split)
    runs = [plain_run(folder, dataset.video_ids) for folder in arguments.results]
    shown = tqdm(dataset, desc="evaluate", unit="video", disable=arguments.quiet)
    counts, protocol = sorted(set(arguments.frames)), Protocol(arguments.protocol)
    study = study_frame_sparsity(shown, runs, counts, protocol, arguments.missing, arguments.seed)
    if arguments.json is not None:
        write_atomic(arguments.json, to_json(study.as_json()))
    print(sparsity_table(study))
    if arguments.html is not None:
        write_sparsity_page(study, arguments.html)
        print(arguments.html / "index.html")
