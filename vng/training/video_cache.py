"""The videos that a sampler drew last, kept by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST_BYTES = 64 << 20  # of a sampler; each worker of each process has one
V = TypeVar("V")


class ByteCache(Generic[V]):
    """Values by key, the least recently used of which are let go when all together exceed `most_bytes`.

    The last value is kept even if it is larger.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.nbytes = most_bytes, 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], tuple[V, int]]) -> V:
        """The value of a key; where it is not kept, `make` gives it, and its size in bytes."""
        if key not in self._values:
            self._values[key] = make()
            self.nbytes += self._values[key][1]
            while self.nbytes > self.most_bytes and len(self._values) > 1:
                _, (_, freed) = self._values.popitem(last=False)
                self.nbytes -= freed
        self._values.move_to_end(key)
        return self._values[key][0]
