"""Work for a device that a CPU prepares: transfers that do not wait, and reading ahead in a thread.

On the CPU itself nothing is copied and nothing runs ahead: a thread there would take the network's core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels in [0, 1]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device; to a GPU from pinned memory, so that the copy does not hold up the program."""
    if device.type == "cuda" and torch.cuda.is_available():
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device, depth: int = 2
) -> Iterator[Result]:
    """`work` of each item, in order; for a device other than the CPU a thread is up to `depth` items ahead.

    An error of `work` is raised where its item is due.
    """
    if device.type == "cpu":
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def pixel_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ImageNet's pixels in [0, 1], float32 [3, 1, 1] each."""
    mean, std = (to_device(torch.tensor(values).view(3, 1, 1), device) for values in (MEAN, STD))
    return mean, std


def normalised(pixels: Tensor) -> Tensor:
    """Pixels in 0..255, [..., 3, H, W] -> float32, normalised as usual for ImageNet, on their device."""
    mean, std = pixel_statistics(pixels.device)
    return (pixels.float() / 255 - mean) / std


def masks_to_host(masks: Tensor) -> np.ndarray:
    """Bool masks [..., H, W] on any device -> numpy; a bit a pixel crosses the bus."""
    if masks.device.type == "cpu":
        return masks.numpy()
    flat = masks.flatten()
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8).to(torch.uint8)
    shifts = torch.arange(7, -1, -1, device=masks.device, dtype=torch.uint8)
    bits = (padded << shifts).sum(1, dtype=torch.uint8).cpu().numpy()
    return np.unpackbits(bits, count=flat.numel()).view(bool).reshape(masks.shape)
