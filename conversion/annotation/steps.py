"""The steps of `vng annotate` and their options, declared once for the command and for `conversion.annotate`.

Nothing heavy is imported, so that `--help` is fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conversion.kinds import ENGINE_OPTIONS
from vng.errors import Problem, UsageError, one_of
from vng.options import Option, checked, natural, path, positive, real

_DRAWN = (
    Option(name="point_frames", type=positive, default=10, help="evenly spaced frames of a video [10]"),
    Option(name="foreground", type=natural, default=7, help="candidates where the object is likely [7]"),
    Option(name="background", type=natural, default=10, help="candidates where it is unlikely [10]"),
    Option(name="uncertain", type=natural, default=3, help="candidates between the two [3]"),
    Option(name="low", type=real, default=0.1, help="largest probability of a background candidate [0.1]"),
    Option(name="high", type=real, default=0.9, help="least probability of a foreground candidate [0.9]"),
    Option(name="distance", type=real, default=20.0, help="least distance of two, pixels at 480 rows [20]"),
    Option(name="seed", type=natural, default=0, help="random seed [0]"),
)
_ENGINES = tuple(option for option in ENGINE_OPTIONS if option.name != "seed")
_PROPOSE = (
    Option(name="clips", type=path, metavar="FILE", help="own clips, one JSON line a video (docs/own-clips.md)"),
    Option(name="narratives", type=path, metavar="FILE", help="VidLN narratives in place of --clips: traces of nouns"),
    Option(name="frames", type=path, metavar="DIR", help="folder of the videos [the folder of --clips]"),
    Option(
        name="nouns",
        default="noun_segments",
        help="with --narratives: noun_segments, auto, or a spaCy pipeline [noun_segments]",
    ),
    Option(name="out", type=path, required=True, help="folder to write: videos/<id>.json, manifest.json"),
)
_SIMULATE = (
    Option(name="candidates", type=path, required=True, metavar="DIR", help="folder of `vng annotate propose`"),
    Option(name="dataset", type=path, required=True, help="VNG dataset with true masks of the same videos and frames"),
    Option(name="wrong", type=real, default=0.05, help="share of wrong verdicts [0.05]"),
    Option(name="unsure", type=real, default=0.5, help="share of unsure answers near an outline [0.5]"),
    Option(name="seed", type=natural, default=0, help="random seed [0]"),
    Option(name="out", type=path, required=True, help="Point-VOS points to write, .json or .jsonl"),
)


LISTEN = (
    Option(
        name="host",
        default="127.0.0.1",
        help="address to listen at; others than this machine's need a token [127.0.0.1]",
    ),
    Option(name="port", type=natural, default=8765, help="port to listen at; 0: any free one [8765]"),
    Option(name="token", default="", help="what a browser must bring [made where other machines reach the server]"),
)
_SERVE = (
    Option(name="videos", type=path, metavar="PATH", help="a video, or a folder of videos: nothing else is needed"),
    Option(name="clips", type=path, metavar="FILE", help="own clips, to go on with their points (docs/own-clips.md)"),
    Option(name="candidates", type=path, metavar="DIR", help="folder of `vng annotate propose`, to be verified"),
    Option(
        name="frames", type=path, metavar="DIR", help="folder of the videos of --clips and --candidates [beside them]"
    ),
    Option(
        name="database",
        type=path,
        metavar="FILE",
        help="where everything is kept [annotation.sqlite beside the videos]",
    ),
    Option(name="repeat", type=real, default=0.0, help="share of the objects that two people verify [0]"),
    Option(
        name="lease", type=real, default=10.0, metavar="MINUTES", help="an object left alone so long is free again [10]"
    ),
    Option(name="model", metavar="ID", help="a grounder to try on the clips: run folder of `vng train`, or a hub id"),
    *LISTEN,
)
_EXPORT = (
    Option(name="database", type=path, required=True, metavar="FILE", help="database of `vng annotate serve`"),
    Option(name="out", type=path, required=True, help="file to write: .jsonl for own, .json or .jsonl for point-vos"),
    Option(
        name="format",
        choices=("own", "point-vos"),
        default="own",
        help="own: for `vng convert own`, with narratives; point-vos: for `vng convert point-vos` [own]",
    ),
)


PLAY = (
    Option(name="model", required=True, metavar="ID", help="run folder of `vng train`, or a hub id"),
    Option(name="videos", type=path, metavar="PATH", help="a video, or a folder of videos"),
    Option(
        name="clips", type=path, metavar="FILE", help="own clips; their narratives are proposed (docs/own-clips.md)"
    ),
    Option(name="frames", type=path, metavar="DIR", help="folder of the videos of --clips [beside them]"),
    *LISTEN,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: texts for `--help`, and its options."""

    name: str
    summary: str
    example: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Totals and problems of a step."""

    totals: dict[str, int]
    problems: tuple[Problem, ...] = ()
    folder: Path | None = None  # whose problems.jsonl lists the problems


STEPS = {
    step.name: step
    for step in (
        Step(
            name="propose",
            summary="candidate points of every object: likely, unlikely and uncertain places",
            example="vng annotate propose --clips clips.jsonl --out candidates\n"
            "  vng annotate propose --narratives oops_val.jsonl --frames frames/oops_val --out candidates",
            options=(*_PROPOSE, *_DRAWN, *_ENGINES),
        ),
        Step(
            name="serve",
            summary="a page in the browser: click on objects, mark nouns, verify candidates",
            example="vng annotate serve --videos clips\n"
            "  vng annotate serve --candidates candidates --frames frames/oops_val --repeat 0.1",
            options=(*_SERVE, *_ENGINES),
        ),
        Step(
            name="export",
            summary="write what people made on the page, as own clips or as points of Point-VOS",
            example="vng annotate export --database clips/annotation.sqlite --out clips/clips.jsonl",
            options=_EXPORT,
        ),
        Step(
            name="simulate",
            summary="answer candidates from true masks, as a person who errs and doubts",
            example="vng annotate simulate --candidates candidates --dataset data/true --wrong 0.05 --out points.json",
            options=_SIMULATE,
        ),
    )
}


def run_step(name: str, progress: bool = True, **arguments: Any) -> StepResult:
    """Run a step with its options, which are checked; see `conversion.annotate`."""
    step = STEPS[one_of(name, STEPS, "step of annotation")]
    values = checked(step.options, arguments, f"annotate {name}")
    runs = {"propose": _propose, "serve": _serve, "export": _export, "simulate": _simulate}
    return runs[name](values, progress)


def _named(values: Mapping[str, Any], options: tuple[Option, ...]) -> dict[str, Any]:
    return {option.name: values[option.name] for option in options}


def _propose(values: Mapping[str, Any], progress: bool) -> StepResult:
    from conversion.annotation.candidates import CandidateSettings
    from conversion.annotation.run import propose_candidates
    from conversion.options import BuildOptions

    drawn = _named(values, _DRAWN)
    settings = CandidateSettings(frames=drawn.pop("point_frames"), **drawn)
    options = BuildOptions.of(**_named(values, _ENGINES), progress=progress)
    return propose_candidates(**_named(values, _PROPOSE), settings=settings, options=options)


def _serve(values: Mapping[str, Any], progress: bool) -> StepResult:
    from conversion.annotation.serving import Sources, checked_address, serve
    from conversion.options import BuildOptions

    names = ("videos", "clips", "candidates", "frames", "repeat")
    sources = Sources(**{name: values[name] for name in names})
    address = checked_address(values["host"], values["port"], values["token"])
    options = BuildOptions.of(**_named(values, _ENGINES), progress=progress)
    totals, problems = serve(
        sources,
        address,
        database=values["database"],
        options=options,
        lease_minutes=values["lease"],
        model=values["model"],
        announce=partial(print, flush=True),
    )
    return StepResult(totals=totals, problems=tuple(problems))


def play(progress: bool = True, **arguments: Any) -> None:
    """Serve the playground until it is interrupted; see `vng app --help` for the options."""
    import tempfile

    from conversion.annotation.serving import Sources, checked_address, serve
    from conversion.options import BuildOptions

    values = checked(PLAY, arguments, "app")
    sources = Sources(**_named(values, PLAY[1:4]))
    address = checked_address(values["host"], values["port"], values["token"])
    if sources.home is None:
        raise UsageError("vng app: give --videos or --clips")
    with tempfile.TemporaryDirectory() as folder:
        serve(
            sources,
            address,
            database=Path(folder) / "app.sqlite",
            options=BuildOptions(progress=progress),
            model=values["model"],
            annotates=False,
            announce=partial(print, flush=True),
        )


def _export(values: Mapping[str, Any], progress: bool) -> StepResult:
    from conversion.annotation.database import Database
    from conversion.annotation.results import export_results

    database = Database(values["database"])
    try:
        totals, problems = export_results(database, values["out"], values["format"])
    finally:
        database.close()
    return StepResult(totals=totals, problems=tuple(problems))


def _simulate(values: Mapping[str, Any], progress: bool) -> StepResult:
    from conversion.annotation.run import simulate_verdicts
    from conversion.annotation.simulated import SimulatedAnnotator
    from vng.dataset import VngDataset

    annotator = SimulatedAnnotator(wrong=values["wrong"], unsure=values["unsure"], seed=values["seed"])
    out: Path = values["out"]
    return StepResult(totals=simulate_verdicts(values["candidates"], VngDataset(values["dataset"]), out, annotator))
