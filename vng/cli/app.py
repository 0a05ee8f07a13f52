"""`vng ...`: collects the commands, runs one, and turns errors into messages and an exit status.

Each command is a file in this folder; its function `add(commands)` creates the parser, its `run` calls the Python
function of the same name. Commands import heavy packages inside functions, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from vng import __version__
from vng.cli.options import Parser
from vng.errors import UsageError, VngError, printable
from vng.processes import StoppedElsewhere, leave_processes

COMMANDS = (
    "demo",
    "synthesize",
    "convert",
    "annotate",
    "export",
    "inspect",
    "doctor",
    "compare",
    "train",
    "import_checkpoint",
    "predict",
    "propagate",
    "playground",
    "evaluate",
)
DESCRIPTION = "Video Narrative Grounding: given a video and a narrative, segment what each marked noun means."
EPILOG = """\
from your points to your model in five commands:
  vng convert point-vos --points P.json --narratives N.jsonl --frames FRAMES --out DATA
  vng inspect DATA --html PAGE
  vng train configs/grounder.yaml data.path=DATA out=RUN
  vng predict --model RUN --dataset TEST --out RESULTS
  vng evaluate vng --dataset TEST --results RESULTS

exit status: 0 all done, 1 bad data, 2 wrong call.
"""


def build_parser(words: Collection[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        words: the typed words; commands not among them are listed in help but get no arguments, which halves the
            start-up time. None: all commands in full.
    """
    parser = Parser(
        prog="vng", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"vng {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        module = import_module(f"vng.cli.{name}")
        if words is None or module.NAME in words:
            module.add(commands)
        else:
            commands.add_parser(module.NAME, help=module.SUMMARY)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "transformers", "datasets", "absl", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        arguments = _parse(argv)
    except SystemExit as stop:  # argparse has printed the error
        return int(stop.code or 0)
    try:
        return arguments.run(arguments) or 0
    except StoppedElsewhere as error:
        return error.exit_status
    except VngError as error:
        for line in str(error).splitlines():
            print(f"vng: {printable(line)}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # a full disk, a folder without write permission
        place = printable(str(error.filename or type(error).__name__))
        print(f"vng: {place}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vng: interrupted; run the same command again", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse as argparse does, but allow overrides on both sides of an option, which argparse does not."""
    words = sys.argv[1:] if argv is None else argv
    if any(not word.isascii() and word != word.encode("utf-8", "replace").decode() for word in words):
        print(
            "vng: this terminal's locale cannot hold these names; set PYTHONUTF8=1, or LC_ALL=C.UTF-8", file=sys.stderr
        )
        raise SystemExit(UsageError.exit_status)
    parser = build_parser(words)
    arguments, rest = parser.parse_known_args(words)
    if arguments.command is None and not rest:
        parser.print_help()
        raise SystemExit(0)
    overrides = getattr(arguments, "overrides", None)
    if rest and (overrides is None or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*(overrides or []), *rest]
    return arguments


def entry_point() -> None:
    """The console script `vng`."""
    connected = False
    try:
        status = main()
    finally:
        connected = leave_processes()
    if connected:  # a thread of gloo may outlive its group, and would abort the process as it ends
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
