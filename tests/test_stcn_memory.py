"""The bound of STCN's memory, where prompted frames alone reach it or a frame is larger than it."""

from __future__ import annotations

import pytest
import torch

from vng.models.stcn.memory import Memory

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
