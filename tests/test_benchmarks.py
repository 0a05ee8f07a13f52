"""Benchmarks that drive commands: every command that they would run is one that there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import point_vos, pointvis
from vng.cli.app import build_parser


class Parsed:
    """Stands for `benchmarks.commands.run`: parses the words of a command, and runs nothing."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, *words: object) -> None:
        texts = [str(word) for word in words]
        parser = build_parser(texts)
        _, rest = parser.parse_known_args(texts)
        assert not [word for word in rest if word.startswith("-")], rest
        self.commands.append(texts)


def test_point_vos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parsed = Parsed()
    monkeypatch.setattr(point_vos, "run", parsed)
    point_vos.make_data(tmp_path, tmp_path / "davis")
    for start in (None, tmp_path / "start"):
        schedule = point_vos.Schedule(5, 0, start)
        point_vos.train(tmp_path, "VOS", tmp_path / "masks", "masks", 0, schedule)
    kinds = {tuple(words[:2]) for words in parsed.commands}
    assert kinds >= {("convert", "davis"), ("convert", "points")} and len(parsed.commands) == 9


def test_pointvis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parsed = Parsed()
    monkeypatch.setattr(pointvis, "run", parsed)
    words = [
        "pointvis",
        "--points",
        str(tmp_path / "p"),
        "--out",
        str(tmp_path / "o"),
        "--rounds",
        "2",
        "optimizer.steps=3",
    ]
    monkeypatch.setattr("sys.argv", words)
    pointvis.main()
    order: list[Any] = [words[0] for words in parsed.commands]
    assert order == ["convert", "train"] * 3
    assert parsed.commands[2][-6:-4] != parsed.commands[0][-6:-4] and "optimizer.steps=3" in parsed.commands[1]
