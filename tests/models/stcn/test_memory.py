"""STCN's memory: its readout, its bound, and what it forgets."""

from __future__ import annotations

import pytest
import torch

from tests.models.stcn.test_modeling_stcn import tiny
from vng.models.stcn.memory import Memory


def store(count: int = 3, top_k: int = 20, budget: int | None = None, objects: int = 2, last: bool = False) -> Memory:
    """A memory of `count` frames of 2 x 3 cells, keys of 7, values of 5."""
    draw = torch.Generator().manual_seed(1)
    memory = Memory(top_k, budget)
    memory.enter(objects, 0)
    for time in range(count):
        key, value = torch.randn(7, 2, 3, generator=draw), torch.randn(objects, 5, 2, 3, generator=draw)
        memory.add(key, value, time, lasting=not last or time + 1 < count)
    return memory


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("count", [3, 1000])
def test_memory_reads_what_the_model_does(last: bool, count: int) -> None:
    """With as many cells as there are the memory's softmax is the plain one (the longer one is searched by blocks)."""
    draw = torch.Generator().manual_seed(1)
    keys, values, query = (torch.randn(s, generator=draw) for s in ((count, 7, 2, 3), (count, 2, 5, 2, 3), (7, 3, 4)))
    memory = Memory(6 * count if count == 3 else 20)
    memory.enter(2, 0)
    for time in range(count):
        memory.add(keys[time], values[time], time, lasting=not last or time + 1 < count)
    key, value = keys.transpose(0, 1).reshape(7, -1), values.permute(1, 2, 0, 3, 4).reshape(2, 5, -1)
    distance = (key[:, :, None] - query.flatten(1)[:, None]).square().sum(0)  # [M, h w]
    kept = distance.topk(min(20, len(distance)), 0, largest=False).indices if count > 3 else None
    if kept is not None:
        distance = torch.full_like(distance, float("inf")).scatter(0, kept, distance.gather(0, kept))
    plain = (value @ (-distance / 7**0.5).softmax(0)).view(2, 5, 3, 4)
    assert torch.allclose(memory.read(query), plain, atol=1e-5)
    if count == 3:
        model = tiny()
        assert torch.allclose(model.read(key[None], value[None], query[None])[0], plain, atol=1e-5)


def test_fewer_cells_than_are_read() -> None:
    memory = store(1, top_k=50)
    assert len(memory) == 6 and memory.read(torch.zeros(7, 4, 5)).isfinite().all()


def test_the_least_used_are_forgotten() -> None:
    memory, keys = Memory(1, budget=12), torch.eye(7)[:, :6].view(7, 2, 3) * 9
    memory.enter(1, 0)
    memory.add(keys, torch.zeros(1, 5, 2, 3), 0)
    memory.add(keys + 50, torch.ones(1, 5, 2, 3), 1)
    for _ in range(3):
        memory.read(keys)  # the first frame is asked for
    memory.add(keys + 90, torch.full((1, 5, 2, 3), 2.0), 2)
    assert len(memory) == 12
    assert (memory.read(keys) == 0).all() and (memory.read(keys + 90) == 2).all()
    assert (memory.read(keys + 50) != 1).all()


def test_a_late_object_sees_nothing_from_before() -> None:
    memory = store(2, top_k=3)
    memory.enter(1, 2)
    memory.add(torch.full((7, 2, 3), 30.0), torch.full((3, 5, 2, 3), 4.0), 2)
    found = memory.read(torch.zeros(7, 4, 3))  # far from the cells the late object knows
    assert found.shape == (3, 5, 4, 3)
    assert torch.allclose(found[2], torch.tensor(4.0)) and (found[:2] != 4).all()


def test_huge_keys_do_not_overflow() -> None:
    memory = Memory(4)
    memory.enter(1, 0)
    memory.add(1000 * torch.randn(7, 2, 3), torch.ones(1, 5, 2, 3), 0)
    assert torch.allclose(memory.read(1000 * torch.randn(7, 3, 2)), torch.tensor(1.0))


SIZE = (2, 3)
CELLS = 6


def filled(budget: int | None, prompted: int, frames: int) -> Memory:
    """A memory of `frames` frames, read once each; the first `prompted` ones may not be forgotten."""
    draw = torch.Generator().manual_seed(0)
    memory = Memory(top_k=4, budget=budget)
    memory.enter(1, 0)
    for time in range(frames):
        value = torch.full((1, 5, *SIZE), float(time))
        memory.add(torch.randn(7, *SIZE, generator=draw), value, time, kept=time < prompted)
        memory.read(torch.randn(7, *SIZE, generator=draw))
    return memory


def held(memory: Memory, time: int) -> int:
    """How many cells of the frame of that time are found when each cell of memory is asked for."""
    memory.top_k = 1
    keys = memory._key[: len(memory)].T[:, None]
    return int((memory.read(keys)[0, 0] == time).sum())


@pytest.mark.parametrize("budget", [1, 5, 6, 20, 36, 50])
@pytest.mark.parametrize("prompted", [1, 3, 6])
def test_prompted_frames_stay_whatever_the_budget(budget: int, prompted: int) -> None:
    memory = filled(budget, prompted, 15)
    kept = prompted * CELLS
    assert [held(memory, time) for time in range(prompted)] == [CELLS] * prompted
    assert held(memory, 14) == CELLS  # the newest frame too
    assert len(memory) == max(budget, kept + CELLS)
    assert len(filled(budget, prompted, 40)) == len(memory)


def test_a_frame_larger_than_the_budget_is_remembered() -> None:
    memory = filled(4, 1, 1)
    assert len(memory) == CELLS and held(memory, 0) == CELLS


def test_only_prompted_frames() -> None:
    memory = filled(20, 6, 6)
    assert [held(memory, time) for time in range(6)] == [CELLS] * 6 and len(memory) == 6 * CELLS


def test_without_a_budget_nothing_is_forgotten() -> None:
    memory = filled(None, 1, 9)
    assert [held(memory, time) for time in range(9)] == [CELLS] * 9
