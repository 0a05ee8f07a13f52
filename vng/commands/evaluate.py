"""`vng evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from vng.errors import Problem, UsageError


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
    from vng.evaluation.vos import Protocol, evaluate_vos, find_runs, plain_run
    from vng.evaluation.vos_report import as_csv, as_json, check_categories, read_seen, table
    from vng.evaluation.workers import prepare, processes_for
    from vng.manifest import to_json, write_atomic

    point_vos = arguments.protocol == "point-vos"
    by_category = point_vos and arguments.seen is not None and arguments.truth == "auto"
    protocol = Protocol(arguments.protocol, arguments.official, "youtube-vos" if by_category else arguments.truth)
    seen = None if arguments.seen is None else read_seen(arguments.seen)
    prepare(arguments.processes)
    dataset = VngDataset(arguments.dataset, arguments.split)
    found = (find_runs if point_vos else plain_run)(arguments.results, dataset.video_ids)
    runs = found if isinstance(found, tuple) else (found,)
    scores = evaluate_vos(
        dataset,
        runs,
        protocol,
        arguments.missing,
        strict=arguments.strict,
        processes=processes_for(arguments.processes, len(dataset)),
        progress=not arguments.quiet,
    )
    print_notes([note for score in scores for note in score.notes])
    if seen is not None:
        check_categories(scores[0])
    if arguments.json is not None:
        write_atomic(arguments.json, to_json(as_json(scores, seen)))
    if arguments.csv is not None:
        write_atomic(arguments.csv, as_csv(scores, seen))
    print(table(scores, seen))


def print_notes(notes: Iterable[Problem]) -> None:
    """What was met and goes into no figure, a line each."""
    for note in notes:
        print(f"vng: note: {note}", file=sys.stderr)


def _write_vos_archive(arguments: argparse.Namespace) -> None:
    if arguments.protocol == "point-vos":
        raise UsageError("vng evaluate vos: --archive goes with --protocol davis, davis-2016 and youtube-vos")
    if arguments.meta is not None and arguments.protocol != "youtube-vos":
        raise UsageError("vng evaluate vos: --meta goes with --protocol youtube-vos")
    defaults = {"json": None, "csv": None, "seen": None, "missing": "error", "official": False, "truth": "auto"}
    defaults |= {"strict": False, "processes": None}
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
