"""What every case of `benchmarks.gpu` shares: where and how large it runs, how it answers, how outputs are compared.

A case returns its figures by name, or raises `Skipped` or `NotSupported` with the reason why there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

SEED = 0  # of every model with random weights, clip and dataset

Figures = dict[str, Any]  # by name: numbers and texts for the page; mappings are for the JSON file alone


class Skipped(Exception):  # noqa: N818
    """The case needs something that is not here; the text says what."""


class NotSupported(Exception):  # noqa: N818
    """What the case would measure does not exist; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where and how large the cases run."""

    device: torch.device
    tiny: bool  # small random models and clips, without shipped weights or goldens
    data: Path  # the folder that holds goldens/
    scratch: Path  # for models and datasets of this run

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the clips."""
        return (64, 96) if self.tiny else (480, 854)

    @property
    def folder(self) -> Path:
        """For models and datasets of this size."""
        return self.scratch / ("tiny" if self.tiny else "full")

    def wait(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, run: Callable[[], object], count: int, seconds: float) -> tuple[int, float]:
        """Do `run`, which is warm, up to `count` times or for so long; how often it ran, and the seconds of that."""
        self.wait()
        done, start = 0, time.perf_counter()
        while done < (1 if self.tiny else count) and time.perf_counter() - start < seconds:
            run()
            done += 1
        self.wait()
        return done, time.perf_counter() - start

    def saved(self, name: str, make: Callable[[], PreTrainedModel]) -> str:
        """The folder of a model with random weights, made once for all cases."""
        folder = self.folder / name
        if not folder.exists():
            torch.manual_seed(SEED)
            make().save_pretrained(folder)
        return str(folder)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: its name `group/what/how`, and the seconds that must be left before it starts."""

    name: str
    seconds: float
    measure: Callable[[Setup], Figures]


@contextmanager
def tf32(products: bool, convolutions: bool) -> Iterator[None]:
    """Products and convolutions of float32 numbers with or without the 10-bit mantissas of TF32."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


@dataclass(frozen=True)
class Pair:
    """An output of ours and the golden one, and the masks that follow from each."""

    name: str
    found: np.ndarray
    wanted: np.ndarray
    masks: tuple[np.ndarray, np.ndarray] | None = None  # bool

    @staticmethod
    def cut(name: str, found: np.ndarray, wanted: np.ndarray, threshold: float) -> Pair:
        """A pair whose masks are the values above a threshold."""
        return Pair(name, found, wanted, (found > threshold, wanted > threshold))


def differences(pairs: Iterator[Pair]) -> Figures:
    """The largest absolute difference, and the share of pixels of masks that differ."""
    largest, differing, pixels = {}, 0, 0
    for pair in pairs:
        if pair.found.shape != pair.wanted.shape:
            raise ValueError(f"{pair.name}: shape {pair.found.shape}, the golden one is {pair.wanted.shape}")
        largest[pair.name] = float(np.abs(pair.found - pair.wanted.astype(np.float32)).max())
        if pair.masks is not None:
            differing, pixels = differing + int((pair.masks[0] != pair.masks[1]).sum()), pixels + pair.masks[0].size
    where = max(largest, key=lambda name: np.nan_to_num(largest[name], nan=np.inf))
    return {
        "largest difference": largest[where],
        "in": where,
        "share of pixels that differ": differing / pixels if pixels else None,
        "median difference": float(np.median(list(largest.values()))),
        "largest differences": largest,
    }
