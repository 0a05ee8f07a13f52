"""`vng ...`: call the public function of a command's name, turn known errors into one line and an exit status.

The only file of `vng/` that imports `conversion/`. Heavy packages are imported inside the commands that use them, so that
`--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vng.arguments import build_parser
from vng.commands.evaluate import (
    run_evaluate_frame_sparsity,
    run_evaluate_instances,
    run_evaluate_points,
    run_evaluate_referring,
    run_evaluate_traces,
    run_evaluate_vos,
)
from vng.commands.import_checkpoint import run_import
from vng.commands.inspect import print_dataset, print_points, print_problems, run_compare
from vng.commands.output import print_estimate, print_totals
from vng.commands.predict import run_predict
from vng.commands.propagate import run_propagate
from vng.errors import UsageError, VngError
from vng.processes import StoppedElsewhere, leave_processes


def _run_demo(arguments: argparse.Namespace) -> None:
    from vng.demo import run_demo

    run_demo(arguments.out, main)


def _run_synthesize(arguments: argparse.Namespace) -> None:
    from conversion.synthetic.world import synthesize

    totals = synthesize(
        arguments.out, arguments.videos, arguments.seed, arguments.preset, arguments.split, progress=not arguments.quiet
    )
    print_totals(totals, arguments.json)


def _build_options(arguments: argparse.Namespace, **more: Any) -> Any:
    from conversion.options import BuildOptions, check_options

    options = BuildOptions(
        dataset=arguments.dataset,
        split=arguments.split,
        only=tuple(arguments.only),
        subset=arguments.subset,
        limit=arguments.limit,
        link_frames=arguments.link_frames,
        threads=arguments.threads,
        progress=not arguments.quiet,
        **more,
    )
    check_options(options)
    return options


def _engine_options(arguments: argparse.Namespace, held_out: float, **more: Any) -> Any:
    from conversion.pseudo_masks import PseudoMaskSettings

    return _build_options(
        arguments,
        segmenter=arguments.segmenter,
        checkpoint=arguments.checkpoint,
        settings=tuple(sorted(dict(arguments.set).items())),
        propagator=arguments.propagator,
        propagator_checkpoint=arguments.propagator_checkpoint,
        nouns=getattr(arguments, "nouns", ""),
        pseudo=PseudoMaskSettings(held_out, arguments.seed),
        **more,
    )


def _run_convert_point_vos(arguments: argparse.Namespace) -> int:
    from conversion.narrated import point_vos_conversion

    options = _engine_options(
        arguments, arguments.held_out, use_trace=arguments.link == "name+trace", min_agreement=arguments.min_agreement
    )
    conversion = point_vos_conversion(arguments.points, arguments.narratives, arguments.frames, options)
    return _run_conversion(conversion, arguments)


def _run_convert_points(arguments: argparse.Namespace) -> int:
    from conversion.narrated import points_conversion

    options = _engine_options(arguments, arguments.held_out, min_agreement=arguments.min_agreement)
    return _run_conversion(points_conversion(arguments.points, options), arguments)


def _run_convert_vidln(arguments: argparse.Namespace) -> int:
    from conversion.narrated import vidln_conversion

    options = _engine_options(arguments, 0.0)
    return _run_conversion(vidln_conversion(arguments.narratives, arguments.frames, options), arguments)


def _run_convert_vng(arguments: argparse.Namespace) -> int:
    from conversion.formats.official_vng import TrioFiles, vng_conversion

    files = TrioFiles(arguments.meta, arguments.extra_masks, arguments.orig_masks)
    return _run_conversion(vng_conversion(files, arguments.frames, _build_options(arguments)), arguments)


def _run_convert_davis(arguments: argparse.Namespace) -> int:
    from conversion.formats.davis import DavisSettings, davis_conversion

    davis = DavisSettings(arguments.image_set, arguments.merge_objects)
    conversion = davis_conversion(arguments.root, _build_options(arguments), _simulation(arguments), davis)
    return _run_conversion(conversion, arguments)


def _run_convert_youtube_vos(arguments: argparse.Namespace) -> int:
    from conversion.formats.youtube_vos import YoutubeFolder, youtube_vos_conversion

    folder = YoutubeFolder.of(arguments.root, arguments.frames, arguments.annotated)
    conversion = youtube_vos_conversion(folder, _build_options(arguments), _simulation(arguments))
    return _run_conversion(conversion, arguments)


def _run_convert_youtube_vis(arguments: argparse.Namespace) -> int:
    from conversion.formats.youtube_vis import VisSettings, vis_conversion

    settings = VisSettings(arguments.row_frames, arguments.null_means)
    options = _build_options(arguments)
    conversion = vis_conversion(arguments.kind, arguments.masks, arguments.frames, options, settings)
    return _run_conversion(conversion, arguments)


def _run_convert_ref_youtube_vos(arguments: argparse.Namespace) -> int:
    from conversion.formats.referring import ReferringFiles, ref_youtube_vos_conversion

    where = (arguments.meta, arguments.frames, arguments.annotations, arguments.without, arguments.categories)
    return _run_conversion(ref_youtube_vos_conversion(ReferringFiles(*where), _build_options(arguments)), arguments)


def _run_convert_mevis(arguments: argparse.Namespace) -> int:
    from conversion.formats.referring import ReferringFiles, mevis_conversion

    files = ReferringFiles(arguments.meta, arguments.frames, arguments.masks, arguments.without)
    return _run_conversion(mevis_conversion(files, _build_options(arguments), arguments.null_means), arguments)


def _run_convert_ref_davis(arguments: argparse.Namespace) -> int:
    from conversion.formats.ref_davis import ref_davis_conversion

    where = (arguments.image_set, arguments.annotations)
    conversion = ref_davis_conversion(arguments.root, arguments.expressions, _build_options(arguments), *where)
    return _run_conversion(conversion, arguments)


def _run_convert_coco_png(arguments: argparse.Namespace) -> int:
    from conversion.formats.coco_png import PngFiles, PngSettings, coco_png_conversion

    files = PngFiles(arguments.narratives, arguments.panoptic, arguments.panoptic_masks, arguments.images)
    settings = PngSettings(arguments.keep_plurals, arguments.keep_stuff)
    return _run_conversion(coco_png_conversion(files, _build_options(arguments), settings), arguments)


def _run_convert_point_benchmark(arguments: argparse.Namespace) -> int:
    from conversion.point_benchmark import benchmark_conversion

    options = _build_options(arguments)
    conversion = benchmark_conversion(arguments.source, options, arguments.narratives, arguments.trace_frames)
    return _run_conversion(conversion, arguments)


POINT_OPTIONS = {  # options of simulated points -> fields of SimulationSettings
    "negatives": "negatives",
    "point_frames": "frames",
    "sampling": "sampling",
    "frame_sampling": "frame_sampling",
    "distance": "distance",
    "point_seed": "seed",
}


def _simulation(arguments: argparse.Namespace) -> Any:
    from conversion.simulated_points import SimulationSettings

    if arguments.simulate is None:
        for name in ("keep_masks", "shared_negatives", *POINT_OPTIONS):
            if (given := getattr(arguments, name)) is not None and given is not False:
                raise UsageError(f"--{name.replace('_', '-')} goes with --simulate")
        return None
    given = {field: value for name, field in POINT_OPTIONS.items() if (value := getattr(arguments, name)) is not None}
    if given.get("frames") == "all":
        given["frames"] = None
    return SimulationSettings(
        arguments.simulate,
        keep_masks=arguments.keep_masks,
        shared_negatives=arguments.shared_negatives,
        **({"negatives": arguments.simulate} | given),
    )


def _run_conversion(conversion: Any, arguments: argparse.Namespace) -> int:
    from conversion.build import convert, estimate
    from vng.errors import PROBLEMS_FILE, summarise
    from vng.processes import current_processes

    if arguments.dry_run:
        if not current_processes().is_main:
            return 0
        print_estimate(estimate(conversion, arguments.out), arguments.json)
        return 0
    result = convert(conversion, arguments.out)
    left_out = [problem for problem in result.problems if problem.kind == "error"]
    if current_processes().is_main:
        print_totals(result.totals, arguments.json)
        if result.problems:
            notes = len(result.problems) - len(left_out)
            print(f"{arguments.out / PROBLEMS_FILE}: {len(left_out)} left out, {notes} notes", file=sys.stderr)
            print(summarise(result.problems), file=sys.stderr)
    return 1 if arguments.strict and left_out else 0


def _run_export(arguments: argparse.Namespace) -> None:
    from vng.dataset import VngDataset

    if arguments.with_frames and arguments.format != "coco":
        raise UsageError("--with-frames goes with --format coco; davis always writes frames, the others never")
    dataset = VngDataset(arguments.dataset, arguments.split)
    if arguments.format != "official":
        _export_reported(dataset, arguments)
        return
    from conversion.formats.official_vng import write_trio

    files = write_trio(dataset, arguments.out)
    for path in (files.meta, files.extra_masks, files.orig_masks):
        print(path)


def _export_reported(dataset: Any, arguments: argparse.Namespace) -> None:
    """Exports that tell what they could not hold."""
    from tqdm import tqdm

    from conversion.export import write_davis, write_youtube_vis
    from conversion.formats.point_pngs import write_point_pngs
    from vng.errors import PROBLEMS_FILE, summarise

    videos = tqdm(dataset, total=len(dataset), desc="export", unit="video", disable=arguments.quiet)
    export: Any
    if arguments.format == "coco":
        export = write_youtube_vis(videos, arguments.out, arguments.with_frames)
    else:
        export = (write_davis if arguments.format == "davis" else write_point_pngs)(videos, arguments.out)
    print_totals(export.totals, as_json=False)
    if export.problems:
        print(f"{arguments.out / PROBLEMS_FILE}: {len(export.problems)} problems and notes", file=sys.stderr)
        print(summarise(export.problems), file=sys.stderr)


def _run_inspect(arguments: argparse.Namespace) -> None:
    published = arguments.points is not None or arguments.narratives is not None
    if published == (arguments.dataset is not None):
        raise UsageError("vng inspect: give a dataset folder, or --points, --narratives or both")
    if arguments.subset is not None and not published:
        raise UsageError("vng inspect: --subset goes with --points or --narratives")
    (_inspect_annotations if published else print_dataset)(arguments)


def _inspect_annotations(arguments: argparse.Namespace) -> None:
    from conversion.inspection import inspect_annotations
    from conversion.wanted import read_subset

    subset = None if arguments.subset is None else read_subset(arguments.subset)
    inspection = inspect_annotations(
        arguments.points, arguments.narratives, subset, arguments.html, progress=not arguments.quiet
    )
    if arguments.json:
        print(json.dumps(inspection.as_json()))
        return
    if inspection.points.objects:
        print_points(inspection.points, inspection.published)
    for name, value in {**inspection.left_out, **inspection.narratives}.items():
        print(f"{name:28}{value:>12,}" + ("  (left out)" if name in inspection.left_out else ""))
    print_problems(inspection.problems, arguments.html)


def _run_train(arguments: argparse.Namespace) -> None:
    from vng.training.tasks import build, load_recipe

    recipe = load_recipe(arguments.config, arguments.overrides)
    from transformers.utils import logging as bars

    from vng.training.loop import train

    if arguments.quiet:
        bars.disable_progress_bar()  # of transformers, when it writes the weights
    loss = train(recipe, build, progress=not arguments.quiet)
    print(f"{recipe.out}: trained, loss {loss:.4f}")


def _run_evaluate_vng(arguments: argparse.Namespace) -> None:
    from conversion.formats.official_vng import TrioFiles, read_trio
    from vng.commands.report import evaluate_vng
    from vng.dataset import VngDataset
    from vng.evaluation.workers import prepare

    trio = [arguments.meta, arguments.extra_masks, arguments.orig_masks]
    if (arguments.dataset is None) == (None in trio):
        raise UsageError("vng evaluate vng: give --dataset, or --meta, --extra-masks and --orig-masks")
    prepare(arguments.processes)
    if arguments.dataset is not None:
        dataset = VngDataset(arguments.dataset, arguments.split)
        evaluate_vng(arguments, lambda: dataset)
    else:
        evaluate_vng(arguments, lambda: read_trio(TrioFiles(*trio)))


RUNS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "demo": _run_demo,
    "synthesize": _run_synthesize,
    "convert_point_vos": _run_convert_point_vos,
    "convert_points": _run_convert_points,
    "convert_vidln": _run_convert_vidln,
    "convert_vng": _run_convert_vng,
    "convert_davis": _run_convert_davis,
    "convert_youtube_vos": _run_convert_youtube_vos,
    "convert_youtube_vis": _run_convert_youtube_vis,
    "convert_ref_youtube_vos": _run_convert_ref_youtube_vos,
    "convert_mevis": _run_convert_mevis,
    "convert_ref_davis": _run_convert_ref_davis,
    "convert_coco_png": _run_convert_coco_png,
    "convert_point_benchmark": _run_convert_point_benchmark,
    "export": _run_export,
    "inspect": _run_inspect,
    "compare": run_compare,
    "train": _run_train,
    "import": run_import,
    "predict": run_predict,
    "propagate": run_propagate,
    "evaluate_vng": _run_evaluate_vng,
    "evaluate_vos": run_evaluate_vos,
    "evaluate_frame_sparsity": run_evaluate_frame_sparsity,
    "evaluate_referring": run_evaluate_referring,
    "evaluate_instances": run_evaluate_instances,
    "evaluate_points": run_evaluate_points,
    "evaluate_traces": run_evaluate_traces,
}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """As argparse, but overrides may stand on both sides of an option (argparse takes one run of them only)."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = getattr(arguments, "overrides", None)
    if rest and (overrides is None or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*(overrides or []), *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "transformers", "datasets", "absl", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        arguments = _parse(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return int(stop.code or 0)
    try:
        return RUNS[arguments.run](arguments) or 0
    except StoppedElsewhere as error:
        return error.exit_status
    except VngError as error:
        for line in str(error).splitlines():
            print(f"vng: {line}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"vng: {error.filename or type(error).__name__}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vng: stopped; a long command run again goes on where it was", file=sys.stderr)
        return 130


def entry_point() -> None:
    """The console script."""
    try:
        status = main()
    finally:
        leave_processes()
    sys.exit(status)


if __name__ == "__main__":
    entry_point()
