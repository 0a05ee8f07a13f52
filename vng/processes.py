"""This process among those started by `torchrun` or `accelerate launch`, and its number of threads.

Work without gradients is shared: each process takes the next item when it has finished one (`Processes.shared`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from vng.errors import DataError, DataErrors, Problem, VngError

# At the end of a conversion processes wait for the slowest one; torch's default of 30 minutes is too short.
_PATIENCE = timedelta(days=7)
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # how OpenMP's threads wait
SPINS, SPINS_BESIDE_OTHERS = "20000", "1000"
LOAD_LOOKS, LOOK_SECONDS = 5, 0.001


_shares = itertools.count()  # names the counter of each time that processes share work


class StoppedElsewhere(VngError):  # noqa: N818
    """The main process failed and reported the error."""


@dataclass(frozen=True)
class Processes:
    """This process among `count`."""

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes shared files."""
        return self.index == 0

    def on_main(self, action: Callable[[], object]) -> None:
        """Run `action` on the main process while the others wait; if it fails, all stop and main reports the error.

        Raises what `action` raises on main, StoppedElsewhere on the others.
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

    def sum(self, value: int) -> int:
        """The sum of a number over all processes, which all call this."""
        if self.count == 1:
            return value
        from accelerate.utils import gather_object

        return sum(gather_object([value]))

    def shared(self, count: int) -> Iterator[int]:
        """The numbers 0 .. count - 1, each for one of the processes: whoever is free takes the next one.

        All processes call this equally often, in the same order, with the same count.
        """
        if self.count == 1:
            yield from range(count)
            return
        from torch.distributed import distributed_c10d

        # The store through which the processes found each other; its counter is atomic.
        store, name = distributed_c10d._get_default_store(), f"vng/shared/{next(_shares)}"
        while (index := store.add(name, 1) - 1) < count:
            yield index

    def each(
        self,
        count: int,
        work: Callable[[int], object],
        title: str,
        progress: bool = True,
        *,
        keep_going: bool = True,
    ) -> list[Problem]:
        """Call `work` for the numbers 0 .. count - 1 that this process takes (`shared`); a bar shows how many are taken.

        With `keep_going`, faulty data stops only the number that it belongs to.

        Returns:
            The problems of DataError and DataErrors that `work` raised.
        """
        from tqdm import tqdm

        problems: list[Problem] = []
        with tqdm(total=count, desc=title, unit="video", disable=not progress or not self.is_main) as bar:
            for index in self.shared(count):
                bar.update(index - bar.n)
                try:
                    work(index)
                except (DataError, DataErrors) as error:
                    if not keep_going:
                        raise
                    problems += [error.problem] if isinstance(error, DataError) else error.problems
            bar.update(count - bar.n)
        return problems

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def current_processes(trains: bool = False) -> Processes:
    """This process among those of a launcher; without a launcher it is the only one, and torch is not imported.

    Args:
        trains: the processes exchange gradients, over the connection that is best for their accelerators. Others
            exchange a few numbers only, over gloo: so they may be more than the GPUs, and work on a CPU takes no GPU's
            memory (`vng.models.loading.device_named` gives each its own device).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    import torch
    from accelerate import PartialState

    # Without cpu=True, processes of torchrun on a machine without an accelerator are not connected.
    state = PartialState(cpu=not (trains and torch.accelerator.is_available()), timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes)


def bound_spinning() -> None:
    """Let OpenMP's threads sleep when they wait for one another; to be called before torch is imported.

    By default they spin for as long as they wait. Beside other work on the same cores, each then waits for a thread
    that cannot run, and training takes many times as long. So they sleep at once where half of the cores are taken when
    the process begins, and after a while where not. A user's own setting is kept. docs/training.md has figures.
    """
    if not any(name in os.environ for name in WAITING):
        taken = 2 * _others_running() >= (os.cpu_count() or 1)
        os.environ["GOMP_SPINCOUNT"] = SPINS_BESIDE_OTHERS if taken else SPINS


def _others_running() -> int:
    """Threads of other processes that run or could run now: the fewest of some looks. 0 where the system has no such count."""
    looks = []
    try:
        for _ in range(LOAD_LOOKS):
            running = Path("/proc/loadavg").read_text().split()[3].partition("/")[0]
            looks.append(int(running) - 1)  # this one runs
            time.sleep(LOOK_SECONDS)
    except (OSError, ValueError, IndexError):
        return 0
    return min(looks)


def leave_processes() -> bool:
    """Close the connections to the other processes, to be called last in a process; whether there were any.

    The C++ library sometimes aborts a process that ends while threads of gloo are still running.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    distributed.destroy_process_group()
    return True


@contextlib.contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Run the body with `count` threads per process; 0 leaves the choice to the libraries.

    Float sums depend on how they are split over threads, so identical output requires the same number of threads.
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
