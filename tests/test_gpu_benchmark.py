"""The benchmark for a lent GPU, run on the CPU with tiny models: every case gives figures, or says why it cannot."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_cases import all_cases, peak_flops
from benchmarks.gpu_setup import Case, Figures, NotSupported, Pair, Setup, Skipped, differences, tf32
from tests.helpers import assert_stands_alone


def run(out: Path, *words: object) -> dict[str, Any]:
    """The record of a run on the CPU."""
    gpu.main(["--out", str(out), "--device", "cpu", *map(str, words)])
    return json.loads((out / "gpu.json").read_text())


def with_cases(monkeypatch: pytest.MonkeyPatch, **measures: Callable[[Setup], Figures]) -> None:
    """Let the benchmark have these cases alone; none needs time."""
    cases = [Case(name=f"fake/{name}", seconds=0, measure=measure) for name, measure in measures.items()]
    monkeypatch.setattr(gpu, "all_cases", lambda: cases)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def record(out: Path) -> dict[str, Any]:
    """The record of all cases."""
    return run(out, "--tiny")


def test_every_case_gives_figures_or_says_why_not(record: dict[str, Any]) -> None:
    cases = {case["name"]: case for case in record["cases"]}
    assert list(cases) == [case.name for case in all_cases()]
    for name, case in cases.items():
        if case["state"] == "measured":
            numbers = [v for v in case["figures"].values() if isinstance(v, int | float)]
            assert numbers and all(math.isfinite(number) for number in numbers), name
        else:
            assert case["state"] in ("skipped", "not supported") and case["reason"], (name, case["reason"])
        assert case["peak_bytes"] is None, name
    measured = {name for name, case in cases.items() if case["state"] == "measured"}
    engines = {"stcn-shipped", "stcn-resnet50", "grounder-resnet50", "dynamite-resnet50", "embedded", "sam2-hiera-tiny"}
    assert {f"speed/{name}/float32" for name in engines} <= measured
    assert {name.split("/")[1] for name in measured if name.endswith("bfloat16")} == engines - {"embedded"}
    assert {"same-as-cpu/tiny", "convert/embedded", "convert/dynamite", "train/point-stcn"} <= measured
    assert cases["same-as-cpu/tiny"]["figures"]["largest difference"] == 0
    assert cases["speed/grounder-resnet50/float32"]["figures"]["frames"] == 4
    assert cases["train/grounder-swin-large"]["figures"]["FLOP a step"] > 1e6
    assert cases["goldens/stcn/float32"]["reason"] == "--tiny reads no goldens"


def test_the_record_says_where_and_how(record: dict[str, Any]) -> None:
    assert record["settings"]["tiny"] and record["settings"]["seed"] == 0 and record["settings"]["device"] == "cpu"
    machine = record["machine"]
    assert machine["torch"] == torch.__version__ and machine["cuda"] == torch.version.cuda
    assert {"driver", "commit", "date", "versions", "threads", "device"} <= set(machine)
    assert machine["tf32"] == {"products": False, "convolutions": True}


def test_the_page_shows_every_case(record: dict[str, Any], out: Path) -> None:
    page = (out / "index.html").read_text()
    assert_stands_alone(page)
    assert all(case["name"] in page for case in record["cases"]) and "frames a second" in page
    assert not list(out.glob("*.tmp"))


def test_without_time_nothing_starts(tmp_path: Path) -> None:
    cases = run(tmp_path, "--minutes", 0, "--only", "train", "convert")["cases"]
    assert {case["name"].split("/")[0] for case in cases} == {"train", "convert"}
    assert all(case["state"] == "skipped" and case["reason"] == "no time left" for case in cases)
    assert (tmp_path / "index.html").exists()


def test_a_case_is_stopped_when_all_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: Setup) -> Figures:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except Exception as error:  # as compilers do
                raise AssertionError from error
        return {"seconds": 20}

    with_cases(monkeypatch, slow=slow, next=lambda setup: {"one": 1})
    start = time.monotonic()
    first, second = run(tmp_path, "--minutes", 0.005)["cases"]
    assert time.monotonic() - start < 10
    assert (first["state"], first["reason"]) == ("skipped", "stopped: no time left")
    assert (second["state"], second["reason"]) == ("skipped", "no time left")


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Setup) -> Figures:
        raise RuntimeError("out of memory\nwith a long story")

    def absent(_: Setup) -> Figures:
        raise Skipped("no such data")

    def unknown(_: Setup) -> Figures:
        raise NotSupported("no such setting")

    def works(_: Setup) -> Figures:
        kept = json.loads((tmp_path / "gpu.json").read_text())["cases"]
        return {"cases before": len(kept), "yes": True, "missing": None, "many": {"a": 1.0}}

    with_cases(monkeypatch, fails=fails, absent=absent, unknown=unknown, works=works)
    failed, skipped, without, measured = run(tmp_path)["cases"]
    assert failed["state"] == "failed"
    assert failed["reason"].startswith("RuntimeError: out of memory (tests/test_gpu_benchmark.py:")
    assert (skipped["state"], skipped["reason"]) == ("skipped", "no such data")
    assert (without["state"], without["reason"]) == ("not supported", "no such setting")
    assert measured["state"] == "measured" and measured["figures"]["cases before"] == 3
    page = (tmp_path / "index.html").read_text()
    assert "no such setting" in page and "cases before" in page and "many" not in page


def test_goldens_that_are_not_here(tmp_path: Path) -> None:
    cases = run(tmp_path / "out", "--only", "goldens", "--data", tmp_path)["cases"]
    assert [case["state"] for case in cases] == ["skipped"] * 9
    assert all("--data" in case["reason"] and str(tmp_path) in case["reason"] for case in cases)


def test_goldens_of_dynamite(shared: Path, tmp_path: Path) -> None:
    here, without = run(tmp_path, "--only", "goldens/dynamite/float32", "goldens/dynamite/tf32", "--data", shared)[
        "cases"
    ]
    assert here["state"] == "measured" and here["figures"]["largest difference"] <= 1e-4
    assert here["figures"]["share of pixels that differ"] <= 5 / 71680  # logits that tie
    assert without["state"] == "not supported"


def test_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [case.name for case in gpu.chosen(all_cases(), ["speed/embedded", "train/"])]
    assert names[0] == "speed/embedded/float32" and "train/point-stcn" in names and len(names) == 6
    assert not gpu.chosen(all_cases(), ["speed/embed"])
    with pytest.raises(SystemExit):
        run(tmp_path, "--only", "speeds")
    assert "no such case; there are goldens/stcn/float32, " in capsys.readouterr().err


def test_differences() -> None:
    one, other = np.array([[0.2, 0.6], [0.9, 0.1]]), np.array([[0.2, 0.4], [0.9, 0.2]])
    found = differences(
        iter([Pair.cut("a", one, one, 0.5), Pair.cut("b", one, other, 0.5), Pair("c", one, one + 0.05)])
    )
    assert found["largest difference"] == pytest.approx(0.2) and found["in"] == "b"
    assert found["share of pixels that differ"] == 1 / 8 and found["median difference"] == pytest.approx(0.05)
    with pytest.raises(ValueError, match=r"d: shape \(2, 2\), the golden one is \(2,\)"):
        differences(iter([Pair("d", one, one[0])]))
    without = differences(iter([Pair("e", one * np.nan, one), Pair("f", one, one)]))
    assert without["in"] == "e" and without["share of pixels that differ"] is None


def test_peak_of_known_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_flops(torch.device("cpu")) is None
    for name, peak in (("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("Tesla T4", None)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda", 0)) == peak


def test_tf32_is_set_back() -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    with pytest.raises(RuntimeError), tf32(True, False):
        assert flags() == (True, False)
        raise RuntimeError
    assert flags() == before
