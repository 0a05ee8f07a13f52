"""How the threads of this process wait, how processes share work, and which device each takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from vng import processes
from vng.errors import DataError
from vng.models.loading import device_named
from vng.processes import SPINS, SPINS_BESIDE_OTHERS, WAITING, Processes, current_processes

SHOW = "import sys, os, vng; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, (SPINS, SPINS_BESIDE_OTHERS)), ({"GOMP_SPINCOUNT": "7"}, ("7",)), ({"OMP_WAIT_POLICY": "ACTIVE"}, ("None",))],
)
def test_threads_sleep_soon_unless_told_otherwise(own: dict[str, str], shown: tuple[str, ...]) -> None:
    rest = {name: value for name, value in os.environ.items() if name not in WAITING}
    ended = subprocess.run([sys.executable, "-c", SHOW], env=rest | own, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() in shown


@pytest.mark.parametrize(
    ("running", "spins"), [(0, SPINS), (2, SPINS), (3, SPINS_BESIDE_OTHERS), (9, SPINS_BESIDE_OTHERS)]
)
def test_they_sleep_at_once_beside_other_work(monkeypatch: pytest.MonkeyPatch, running: int, spins: str) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(processes, "_others_running", lambda: running)
    processes.bound_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == spins


def test_a_busy_loop_is_seen() -> None:
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert max(processes._others_running() for _ in range(20)) >= 1
    finally:
        loop.kill()
        loop.wait()
    assert processes._others_running() >= 0


class TestSharedWork:
    def test_alone(self) -> None:
        assert list(Processes().shared(3)) == [0, 1, 2] and list(Processes().shared(0)) == []

    def test_whoever_is_free_takes_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torch.distributed import distributed_c10d

        counters: dict[str, int] = {}

        class Store:
            def add(self, name: str, amount: int) -> int:
                counters[name] = counters.get(name, 0) + amount
                return counters[name]

        monkeypatch.setattr(distributed_c10d, "_get_default_store", Store)
        first = Processes(0, 2).shared(4)
        assert next(first) == 0
        (name,) = counters
        counters[name] += 2  # another process took two
        assert list(first) == [3]
        assert list(Processes(0, 2).shared(3)) == [0, 1, 2]  # work that is shared later begins anew


class TestDevices:
    """What processes of a launcher take on a machine with GPUs."""

    @pytest.mark.parametrize(("trains", "on_cpu"), [(False, True), (True, False)])
    def test_only_training_connects_over_the_gpus(
        self, monkeypatch: pytest.MonkeyPatch, trains: bool, on_cpu: bool
    ) -> None:
        asked = []

        class State:
            process_index, num_processes = 1, 3

            def __init__(self, cpu: bool, timeout: object) -> None:
                asked.append(cpu)

        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setattr("accelerate.PartialState", State)
        monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
        assert current_processes(trains=trains) == Processes(1, 3)
        assert asked == [on_cpu]

    @pytest.mark.parametrize(
        ("asked", "rank", "taken"), [(None, 4, "cuda:1"), ("cuda", 2, "cuda:2"), ("cpu", 1, "cpu")]
    )
    def test_each_takes_its_own(
        self, monkeypatch: pytest.MonkeyPatch, asked: str | None, rank: int, taken: str
    ) -> None:
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
        monkeypatch.setattr("torch.empty", lambda *_, **__: None)  # there is no such device here
        assert str(device_named(asked)) == taken


def test_faulty_data_stops_one_item_or_all() -> None:
    def work(index: int) -> None:
        if index == 1:
            raise DataError("file", reason="is broken")

    assert [problem.reason for problem in Processes().each(3, work, "test", progress=False)] == ["is broken"]
    with pytest.raises(DataError, match="is broken"):
        Processes().each(3, work, "test", progress=False, keep_going=False)
