"""The worked examples of CONTRIBUTING.md, as they stand there: each new thing is added in two places."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import vng
from conversion import kinds
from tests.helpers import ROOT, Cli, H, T, W
from vng import segmenters
from vng.evaluation import protocols
from vng.label_maps import write_label_map
from vng.masks import decode
from vng.training import tasks

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(heading: str) -> list[str]:
    """The Python code below a heading."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> ModuleType:
    """A module of this name and code, until the test ends."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile("from __future__ import annotations\n" + code, f"CONTRIBUTING.md: {name}", "exec"), module.__dict__)
    return module


def entry(code: str, table: ModuleType, **names: Any) -> Any:
    """The value of an entry, with the names of the module that its table is in."""
    return eval(code, {**vars(table), **names})


def test_a_dataset_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Cli]) -> None:
    code, line = blocks("Add a dataset format")
    add_module(monkeypatch, "conversion.formats.boxes", code)
    monkeypatch.setitem(kinds.KINDS, "boxes", entry(line, kinds))
    record = {"video": "v", "size": [H, W], "box": [[2, 3, 9, 12 + t] for t in range(T)]}
    (tmp_path / "boxes.jsonl").write_text(json.dumps(record) + "\n")
    ended = cli("convert", "boxes", "--boxes", tmp_path / "boxes.jsonl", "--out", tmp_path / "d", "--json", "--quiet")
    assert ended.status == 0 and json.loads(ended.out)["masks"] == T
    (video,) = vng.VngDataset(tmp_path / "d")
    (item,) = video.objects
    assert [int(decode(rle).sum()) for rle in item.segmentations if rle is not None] == [63, 70, 77]
    assert "boxes as JSON lines" in cli("convert", "--help").out


def test_an_engine(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Cli]) -> None:
    code, line = blocks("Add an engine")
    add_module(monkeypatch, "vng.segmenters.disk", code)
    for name, home in entry(line, segmenters).items():
        monkeypatch.setitem(segmenters.ENGINES, name, home)
    words = ["convert", "points", "--source", dataset, "--segmenter", "disk", "--held-out", 0, "--out", tmp_path / "d"]
    ended = cli(*words, "--quiet")
    assert ended.status == 0, ended.err
    video = vng.VngDataset(tmp_path / "d")[0]
    mask = decode(video.objects[0].segmentations[0])
    assert mask[4, 5] and mask[4, 8] and not mask[4, 9]  # the point (5, 4), and its radius of 3


def test_a_protocol(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Cli]) -> None:
    code, line = blocks("Add a protocol")
    add_module(monkeypatch, "vng.evaluation.protocols.size", code)
    monkeypatch.setitem(protocols.PROTOCOLS, "size", entry(line, protocols))
    masks = np.zeros((1, H, W), bool)
    masks[0, :10, :20] = True
    for video in vng.VngDataset(dataset):
        for name in video.frame_names:
            path = tmp_path / "r" / video.video_id / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(path, masks, [1])
    json_file, csv_file = tmp_path / "s.json", tmp_path / "s.csv"
    words = [
        "evaluate",
        "size",
        "--dataset",
        dataset,
        "--results",
        tmp_path / "r",
        "--json",
        json_file,
        "--csv",
        csv_file,
    ]
    ended = cli(*words, "--quiet")
    assert ended.status == 0, ended.err
    expected = 3 * 200 / (3 * 63 + 54)
    assert json.loads(json_file.read_text())["videos"] == {"one": pytest.approx(expected), "two words": expected}
    assert csv_file.read_text().splitlines()[0] == "video,ratio" and ended.out.splitlines()[0] == f"one: {expected:.2f}"
    assert vng.evaluate("size", dataset, tmp_path / "r").table() == ended.out.strip()


def test_a_training_task(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Cli]
) -> None:
    recipe, task, line = blocks("Add a training task")
    module = add_module(monkeypatch, "vng.training.coverage.recipe", recipe)
    module.CoverageRecipe.model_rebuild(_types_namespace=vars(module))
    add_module(monkeypatch, "vng.training.coverage.task", task)
    for name, kind in entry(line, tasks, CoverageRecipe=module.CoverageRecipe).items():
        monkeypatch.setitem(tasks.TASKS, name, kind)
    (tmp_path / "r.yaml").write_text(
        "task: coverage\noptimizer: {steps: 4, batch_size: 3, lr: 0.1}\nlog_every: 2\nsave_every: 2\n"
    )
    ended = cli("train", tmp_path / "r.yaml", f"data.path={dataset}", f"out={tmp_path / 'run'}", "--quiet")
    assert ended.status == 0, ended.err
    assert (tmp_path / "run" / "model.pt").exists() and (tmp_path / "run" / "curves.png").exists()
    assert [json.loads(text)["step"] for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines()] == [2, 4]
