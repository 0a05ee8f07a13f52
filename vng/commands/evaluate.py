"""`vng evaluate`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vng.commands.output import print_notes
from vng.commands.report import against_json, finish, vos_reports, write_file
from vng.errors import UsageError

if TYPE_CHECKING:
    from vng.evaluation.vos import Run


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
    from vng.evaluation.vos import Protocol, evaluate_vos
    from vng.evaluation.vos_report import as_csv, as_json, check_categories, read_seen, table
    from vng.evaluation.workers import prepare, processes_for

    point_vos = arguments.protocol == "point-vos"
    by_category = point_vos and arguments.seen is not None and arguments.truth == "auto"
    protocol = Protocol(arguments.protocol, arguments.official, "youtube-vos" if by_category else arguments.truth)
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
    write_file(arguments.json, {**as_json(scores, seen), **against_json(pairing)})
    write_file(arguments.csv, as_csv(scores, seen) if arguments.csv is not None else "")
    print(table(scores, seen))
    finish(arguments, report, pairing)


def _runs(results: Any, video_ids: Any, point_vos: bool) -> tuple[Run, ...]:
    from vng.evaluation.vos import find_runs, plain_run

    return find_runs(results, video_ids) if point_vos else (plain_run(results, video_ids),)


def _write_vos_archive(arguments: argparse.Namespace) -> None:
    if arguments.protocol == "point-vos":
        raise UsageError("vng evaluate vos: --archive goes with --protocol davis, davis-2016 and youtube-vos")
    if arguments.meta is not None and arguments.protocol != "youtube-vos":
        raise UsageError("vng evaluate vos: --meta goes with --protocol youtube-vos")
    defaults = {"json": None, "csv": None, "seen": None, "missing": "error", "official": False, "truth": "auto"}
    defaults |= {"strict": False, "processes": None, "html": None, "against": None}
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
