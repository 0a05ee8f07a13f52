"""Folders of recipes for a paper's tables, read: README.md (rows, runs, commands) and the headers of the recipes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vng.config_files import shipped_configs


@dataclass(frozen=True)
class Row:
    """One row of a table, one curve of a figure."""

    where: str
    row: str
    paper: str
    run: str
    test: str


@dataclass(frozen=True)
class RecipeFolder:
    """A folder of `configs/`; `run` is what its commands call any run of it."""

    name: str
    run: str

    @property
    def path(self) -> Path:
        return shipped_configs() / self.name

    @cached_property
    def readme(self) -> str:
        return (self.path / "README.md").read_text(encoding="utf-8")

    def cells(self, head: str) -> list[list[str]]:
        """The rows of the README's table with that head."""
        table = self.readme.split(head, 1)[1].split("\n\n", 1)[0]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]

    @property
    def rows(self) -> list[Row]:
        found = self.cells("| where | row | paper | run | test |")
        return [Row(w, r, p, run.strip("`"), test.strip("`")) for w, r, p, run, test in found]

    @property
    def runs(self) -> dict[str, tuple[str, list[str]]]:
        """Run -> its recipe and overrides."""
        found = self.cells("| run | config | overrides |")
        return {run.strip("`"): (config.strip("`"), re.findall(r"`([^`]+)`", more)) for run, config, more in found}

    @property
    def blocks(self) -> str:
        """All commands of the README."""
        return "\n".join(re.findall(r"```bash\n(.*?)```", self.readme, re.S))

    def header(self, config: str) -> list[str]:
        lines = (self.path / f"{config}.yaml").read_text(encoding="utf-8").splitlines()
        return [line[1:] for line in lines if line.startswith("#")]

    def commands(self, text: str) -> Iterator[list[str]]:
        """Words of the commands in a text, loops written out, variables filled in."""
        values: dict[str, list[str]] = {}
        for line in text.splitlines():
            line = line.strip()
            if loop := re.match(r"for (\w) in ([^;]*);", line):
                values = {loop[1]: loop[2].split()}
                line = line[loop.end() :].removesuffix("; done").strip().removeprefix("do ")
            if line.startswith("vng "):
                name, choices = next(iter(values.items()), ("", [""]))
                for choice in choices:
                    filled = line.replace("$RUN", self.run).replace(f"${name}", choice) if name else line
                    yield shlex.split(filled.replace("$RUN", self.run))
            if line == "done" or "; done" in line:
                values = {}

    def check_header(self, config: str) -> None:
        """Assert that a recipe's header has its runs, with their rows above them, as the README says."""
        lines = self.header(config)
        train = next(line.split('"')[1] for line in lines if 'TRAIN="' in line)
        assert train.endswith(f"vng.cli train {self.name}/{config}") and train in lines[0]
        for run, (of, overrides) in self.runs.items():
            found = [line for line in lines if f"$TRAIN out=out/{self.name}/{run} " in line + " "]
            assert len(found) == (of == config), run
            if of == config:
                assert shlex.split(found[0])[2:] == overrides
                above = [f" {r.where}, {r.row} [{r.test}]: {r.paper}" for r in self.rows if r.run == run]
                place = lines.index(found[0])
                assert lines[place - len(above) : place] == above
