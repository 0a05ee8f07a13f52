"""The command `vng evaluate PROTOCOL`, with one PROTOCOL per entry of `vng.evaluation.protocols`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vng.cli.options import Option, add_options, command, option_values, path
from vng.cli.output import print_notes
from vng.errors import UsageError

if TYPE_CHECKING:
    from vng.evaluation.protocols import Entry

NAME, SUMMARY = "evaluate", "score predictions"


def add(commands: Any) -> None:
    """Add the parser of `vng evaluate`, with one sub-parser per protocol."""
    from vng.evaluation.protocols import PROTOCOLS

    parser = commands.add_parser(NAME, help=SUMMARY, description="Score predictions.")
    protocols = parser.add_subparsers(title="protocols", dest="protocol_name", required=True, metavar="PROTOCOL")
    for entry in PROTOCOLS.values():
        sub = command(protocols, entry.name, run, entry.summary, entry.example)
        add_options(sub, _options(entry))


def _options(entry: Entry) -> tuple[Option, ...]:
    return (*_truth_options(entry), *entry.scoring_options, *_output_options(entry))


def _trio() -> tuple[Option, ...]:
    """Options of the official trio, the ground truth of `vng` where no dataset is given."""
    from dataclasses import replace

    from conversion.kinds import TRIO_OPTIONS

    return tuple(replace(option, required=False) for option in TRIO_OPTIONS)


def _truth_options(entry: Entry) -> tuple[Option, ...]:
    from vng.evaluation.protocols import SPLIT

    return (
        Option(name="dataset", type=path, required=entry.dataset_required, help=entry.dataset),
        *(_trio() if entry.name == "vng" else ()),
        SPLIT,
        Option(name="results", type=path, required=True, many=entry.several, help=entry.results),
    )


def _output_options(entry: Entry) -> tuple[Option, ...]:
    options = [Option(name="json", type=path, help="write all scores to this file")]
    if entry.csv:
        options.append(Option(name="csv", type=path, help=f"write a line {entry.csv} to this file"))
    if entry.page:
        options.append(Option(name="html", type=path, metavar="DIR", help=entry.page))
    if entry.compares:
        text = "other predictions of the same dataset to compare with: paired bootstrap test, cases that differ most"
        options.append(Option(name="against", type=path, metavar="RESULTS", help=text))
    return tuple(options)


def run(arguments: argparse.Namespace) -> None:
    """Score, print the table, write the requested files."""
    from vng.evaluation.protocols import PROTOCOLS, make_evaluation, score

    entry = PROTOCOLS[arguments.protocol_name]
    outputs = {name: getattr(arguments, name, None) for name in ("json", "csv", "html", "against")}
    requested = [f"--{name}" for name, value in outputs.items() if value is not None]
    if getattr(arguments, "against_others", False) and (others := [name for name in requested if name != "--json"]):
        raise UsageError(f"vng evaluate vng: --against-others is a control of one figure; leave out {others[0]}")
    evaluation = make_evaluation(
        entry.name,
        _truth(arguments, entry),
        arguments.split,
        not arguments.quiet,
        **option_values(arguments, entry.scoring_options),
    )
    if getattr(arguments, "archive", None) is not None and requested:
        raise UsageError(f"vng evaluate vos: --archive does not score; leave out {', '.join(requested)}")
    if (line := evaluation.instead(arguments.results)) is not None:
        print(line)
        return
    evaluated = score(evaluation, arguments.results, outputs["against"])
    print_notes(evaluated.notes)
    if outputs["html"] is not None and not entry.several:
        _ = evaluated.report  # raises for what cannot be shown, before anything is written
    if outputs["json"] is not None:
        evaluated.write_json(outputs["json"])
    if outputs["csv"] is not None:
        evaluated.write_csv(outputs["csv"])
    print(evaluated.table())
    if outputs["html"] is not None:
        print(evaluated.write_page(outputs["html"], _footer(arguments, outputs["against"])))


def _truth(arguments: argparse.Namespace, entry: Entry) -> Any:
    """The dataset, or the official trio."""
    if entry.name != "vng":
        return arguments.dataset
    trio = option_values(arguments, _trio())
    if (arguments.dataset is None) == (None in trio.values()):
        raise UsageError("vng evaluate vng: give --dataset, or --meta, --extra-masks and --orig-masks")
    if arguments.dataset is not None:
        return arguments.dataset
    from conversion.formats.official_vng import TrioFiles

    return TrioFiles(**trio)


def _footer(arguments: argparse.Namespace, against: Any) -> str:
    results: Iterable[Any] = arguments.results if isinstance(arguments.results, list) else [arguments.results]
    footer = f"vng {arguments.command_name} --results {' '.join(map(str, results))}"
    return footer if against is None else f"{footer} --against {against}"
