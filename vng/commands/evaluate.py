"""`vng evaluate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vng.commands.output import percents, print_notes, write_scores
from vng.commands.report import against_json, finish, referring_reports, reports_of, vos_reports
from vng.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from vng.evaluation.report.record import Report
    from vng.evaluation.vos.scores import Run


def run_evaluate_vos(arguments: argparse.Namespace) -> None:
    """Score, or with --archive pack, predictions of video object segmentation."""
    if arguments.seen is not None and arguments.protocol not in ("youtube-vos", "point-vos"):
        raise UsageError("vng evaluate vos: --seen goes with --protocol youtube-vos and point-vos")
    if arguments.archive is not None:
        _write_vos_archive(arguments)
        return
    if arguments.meta is not None:
        raise UsageError("vng evaluate vos: --meta goes with --archive")
    from vng.dataset import VngDataset
    from vng.evaluation.vos.scores import Protocol, evaluate_vos
    from vng.evaluation.vos.tables import as_csv, as_json, check_categories, read_seen, table
    from vng.evaluation.workers import prepare, processes_for
    from vng.manifest import write_atomic

    point_vos = arguments.protocol == "point-vos"
    by_category = point_vos and arguments.seen is not None and arguments.truth == "auto"
    protocol = Protocol(
        arguments.protocol,
        arguments.official,
        "youtube-vos" if by_category else arguments.truth,
        arguments.void,
    )
    seen = None if arguments.seen is None else read_seen(arguments.seen)
    prepare(arguments.processes)
    dataset = VngDataset(arguments.dataset, arguments.split)
    runs = _runs(arguments.results, dataset.video_ids, point_vos)
    others = () if arguments.against is None else _runs(arguments.against, dataset.video_ids, point_vos)
    found = evaluate_vos(
        dataset,
        [*runs, *others],
        protocol,
        arguments.missing,
        strict=arguments.strict,
        processes=processes_for(arguments.processes, len(dataset)),
        progress=not arguments.quiet,
    )
    scores, theirs = found[: len(runs)], found[len(runs) :]
    print_notes([note for score in found for note in score.notes])
    if seen is not None:
        check_categories(scores[0])
    report, pairing = vos_reports(arguments, dataset, scores, theirs, seen)
    write_scores(arguments, {**as_json(scores, seen), **against_json(pairing)}, None)
    if arguments.csv is not None:
        write_atomic(arguments.csv, as_csv(scores, seen))
    print(table(scores, seen))
    finish(arguments, report, pairing)


def _runs(results: Any, video_ids: Any, point_vos: bool) -> tuple[Run, ...]:
    from vng.evaluation.vos.scores import find_runs, plain_run

    return find_runs(results, video_ids) if point_vos else (plain_run(results, video_ids),)


def _write_vos_archive(arguments: argparse.Namespace) -> None:
    if arguments.protocol in ("point-vos", "davis-unsupervised"):
        raise UsageError("vng evaluate vos: --archive goes with --protocol davis, davis-2016 and youtube-vos")
    if arguments.meta is not None and arguments.protocol != "youtube-vos":
        raise UsageError("vng evaluate vos: --meta goes with --protocol youtube-vos")
    defaults = {"json": None, "csv": None, "seen": None, "missing": "error", "official": False, "truth": "auto"}
    defaults |= {"strict": False, "processes": None, "void": None, "html": None, "against": None}
    if given := [f"--{name}" for name, default in defaults.items() if getattr(arguments, name) != default]:
        raise UsageError(f"vng evaluate vos: --archive does not score; leave out {', '.join(given)}")
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.vos.archive import required_frames, write_archive
    from vng.evaluation.vos.scores import plain_run

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
    from vng.evaluation.vos.frame_sparsity import sparsity_table, study_frame_sparsity, write_sparsity_page
    from vng.evaluation.vos.scores import Protocol, plain_run
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


def run_evaluate_referring(arguments: argparse.Namespace) -> None:
    """Score referring expressions."""
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.narrative.referring import annotator_runs, evaluate_referring
    from vng.evaluation.workers import prepare, processes_for

    prepare(arguments.processes)
    dataset = VngDataset(arguments.dataset, arguments.split)
    how = {"strict": arguments.strict, "processes": processes_for(arguments.processes, len(dataset))}
    shown = tqdm(dataset, desc="evaluate", unit="video", disable=arguments.quiet)
    runs = annotator_runs(arguments.results) if arguments.protocol == "ref-davis" else ()
    if runs:
        _evaluate_annotator_runs(arguments, dataset, runs, how)
        return
    if arguments.official:
        raise UsageError("vng evaluate referring: --official goes with --protocol ref-davis and folders anno_<k>")
    scores = evaluate_referring(shown, arguments.results, arguments.protocol, arguments.missing, **how)
    print_notes(scores.notes)
    if not scores.expressions:
        raise DataError(arguments.dataset, "", "expressions", "no expression has an annotated frame")
    report, pairing = referring_reports(arguments, dataset, scores, how)
    tree = scores.as_json() | against_json(pairing)
    names = ("video", "expression", "annotator", "object_id", "noun", "frames", "j", "f")
    write_scores(arguments, tree, [{name: row[name] for name in names} for row in tree["expressions"]])
    print(f"{percents({'J&F': scores.jf, 'J': scores.j, 'F': scores.f})}  ({len(scores.expressions):,} expressions)")
    for number, part in tree.get("annotators", {}).items():
        print(f"annotator {number}: {percents(part, 'J', 'F')}  ({part['expressions']:,} expressions)")
    finish(arguments, report, pairing)


def _evaluate_annotator_runs(arguments: argparse.Namespace, dataset: Any, runs: Any, how: Any) -> None:
    from tqdm import tqdm

    from vng.evaluation.narrative.referring import annotator_runs, evaluate_annotator_runs
    from vng.evaluation.vos.tables import as_csv, as_json, summary_figures, table
    from vng.manifest import write_atomic

    others = () if arguments.against is None else annotator_runs(arguments.against)
    if arguments.against is not None and not others:
        reason, cure = "no folder anno_<k> here, as --results has", "give results of the same layout"
        raise DataError(arguments.against, "", "", reason, cure)
    shown = tqdm(dataset, desc="evaluate", unit="video", disable=arguments.quiet)
    found = evaluate_annotator_runs(shown, [*runs, *others], arguments.official, arguments.missing, **how)
    scores = found[: len(runs)]
    print_notes([note for score in found for note in score.notes])
    report, pairing = vos_reports(arguments, dataset, scores, found[len(runs) :], None)
    figures = [summary_figures(score.summary()) for score in scores]
    means = {name: sum(its[name] for its in figures) / len(figures) for name in figures[0]}
    write_scores(arguments, means | as_json(scores) | against_json(pairing), None)
    if arguments.csv is not None:
        write_atomic(arguments.csv, as_csv(scores))
    print(f"{percents(means, 'J&F', 'J', 'F')}  (mean of {len(runs)} annotators)\n{table(scores)}")
    finish(arguments, report, pairing)


def run_evaluate_instances(arguments: argparse.Namespace) -> None:
    """Average precision of video instances."""
    from tqdm import tqdm

    from vng.dataset import VngDataset
    from vng.evaluation.instance_files import dataset_videos, evaluate_instances, read_annotations, read_results

    if arguments.dataset is None and arguments.annotations is None:
        raise UsageError("vng evaluate instances: give --dataset, --annotations, or both")
    catalogue = None if arguments.annotations is None else read_annotations(arguments.annotations)
    results, agnostic = read_results(arguments.results), arguments.class_agnostic
    videos: Any = () if catalogue is None else catalogue.videos
    if arguments.dataset is not None:
        videos = VngDataset(arguments.dataset, arguments.split)
    shown = tqdm(videos, desc="evaluate", unit="video", disable=arguments.quiet)
    truth = shown if arguments.dataset is None else dataset_videos(shown, catalogue, agnostic)
    names = None if catalogue is None else catalogue.categories
    score = evaluate_instances(truth, results, names, agnostic, arguments.missing)
    by_category = {str((names or {}).get(key, key)): value for key, value in score.by_category().items()}
    values = score.compute()
    tree: dict[str, Any] = {**values, "videos": len(videos), "class_agnostic": agnostic}
    if not agnostic:
        tree["categories"] = by_category
    write_scores(arguments, tree, [{"category": name, **value} for name, value in by_category.items()])
    print(f"{percents(values)}  ({len(videos):,} videos)")


def run_evaluate_points(arguments: argparse.Namespace) -> None:
    """Agreement of predictions with verified points."""
    from vng.dataset import VngDataset
    from vng.evaluation.point_agreement import PointScore, evaluate_points
    from vng.evaluation.report.from_masks import opener
    from vng.evaluation.report.from_points import points_report
    from vng.evaluation.vos.runs import plain_run
    from vng.evaluation.workers import prepare, processes_for

    prepare(arguments.processes)
    dataset = VngDataset(arguments.dataset, arguments.split)
    open_video = opener(lambda: dataset)

    def scored(results: Path) -> PointScore:
        found = evaluate_points(
            dataset,
            plain_run(results, dataset.video_ids),
            arguments.missing,
            strict=arguments.strict,
            processes=processes_for(arguments.processes, len(dataset)),
            progress=not arguments.quiet,
        )
        print_notes(found.notes)
        return found

    def made(score: PointScore, results: Path, name: str, title: str) -> Report:
        return points_report(score, plain_run(results, dataset.video_ids), name, title, open_video)

    score = scored(arguments.results)
    report, pairing = reports_of(arguments, arguments.dataset, score, scored, made)
    tree = score.as_json()
    names = [name for name in tree["objects"][0] if not name.startswith("frame_")]
    write_scores(
        arguments, tree | against_json(pairing), [{name: row[name] for name in names} for row in tree["objects"]]
    )
    print(f"{percents(score.compute())}  ({tree['points']:,} points of {len(score.objects):,} objects)")
    finish(arguments, report, pairing)


def run_evaluate_traces(arguments: argparse.Namespace) -> None:
    """Trace recall and precision."""
    from vng.dataset import VngDataset
    from vng.evaluation.report.from_masks import opener
    from vng.evaluation.report.from_points import questions_report, traced_report
    from vng.evaluation.traces import TraceScore, evaluate_questions, evaluate_traced_expressions
    from vng.evaluation.workers import prepare, processes_for

    if (arguments.dataset is None) == (arguments.questions is None):
        raise UsageError("vng evaluate traces: give --questions or --dataset")
    prepare(arguments.processes)
    dataset = None if arguments.dataset is None else VngDataset(arguments.dataset, arguments.split)
    open_video = opener(lambda: () if dataset is None else dataset)
    processes = arguments.processes if dataset is None else processes_for(arguments.processes, len(dataset))
    how = {"strict": arguments.strict, "progress": not arguments.quiet, "processes": processes}

    def scored(results: Path) -> TraceScore:
        if dataset is None:
            found = evaluate_questions(arguments.questions, results, arguments.missing, **how)
        else:
            found = evaluate_traced_expressions(dataset, results, arguments.missing, **how)
        print_notes(found.notes)
        return found

    def made(score: TraceScore, results: Path, name: str, title: str) -> Report:
        if dataset is None:
            return questions_report(score, arguments.questions, results, name, title)
        return traced_report(score, results, name, title, open_video)

    score = scored(arguments.results)
    report, pairing = reports_of(arguments, arguments.dataset or arguments.questions, score, scored, made)
    tree = score.as_json()
    write_scores(arguments, tree | against_json(pairing), tree["questions"])
    print(f"{percents(score.compute())}  ({len(score.answers):,} questions)")
    finish(arguments, report, pairing)
