"""Which of several processes this one is: `torchrun` and `accelerate launch` start them, Accelerate knows them.

Work that needs no gradients (conversion) is dealt out by index: process i of n takes items i, i + n, i + 2n, ...
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from vng.errors import VngError

# Processes wait for the slowest one at the end of a conversion; torch's own patience of 30 minutes is too short for that.
_PATIENCE = timedelta(days=7)


class StoppedElsewhere(VngError):  # noqa: N818
    """The main process has failed and said why."""


@dataclass(frozen=True)
class Processes:
    """This process among `count`."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes what exists once."""
        return self.index == 0

    def on_main(self, action: Callable[[], object]) -> None:
        """Run something on the main process while the others wait; if it fails, all stop, and main alone says why.

        Raises what `action` raises, on main; StoppedElsewhere on the others.
        """
        failure: VngError | None = None
        if self.is_main:
            try:
                action()
            except VngError as error:
                failure = error
        if self.count > 1:
            from accelerate.utils import broadcast_object_list

            failed = broadcast_object_list([failure is not None])[0]
            if failed and not self.is_main:
                raise StoppedElsewhere
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Return once all processes have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def current_processes() -> Processes:
    """The processes a launcher started; one where there was no launcher, and then without importing torch."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    import torch
    from accelerate import PartialState

    # without cpu=True, processes that torchrun starts on a machine without accelerator never learn of each other
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes)


def leave_processes() -> None:
    """End the connections to the other processes, as the last thing a process does.

    A process that ends while gloo's threads still run is aborted by the C++ library now and then, after its work was done.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Run the body on `count` threads a process (0 leaves the libraries their own choice).

    Float sums depend on how they are split over threads, so equal bytes need an equal number of threads.
    """
    if not count:
        yield
        return
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    try:
        cv2.setNumThreads(count)
        if torch is not None:
            torch.set_num_threads(count)
        with threadpool_limits(count):
            yield
    finally:
        cv2.setNumThreads(before)
        if torch is not None and torch_before is not None:
            torch.set_num_threads(torch_before)
