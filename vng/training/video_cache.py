"""The videos that a sampler drew last, kept by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from vng.dataset import Video, VngDataset

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


class VideoCache(Generic[V]):
    """Values that a sampler makes of the videos that it drew last, weighed by the bytes of these videos.

    Args:
        datasets: one for each source.
        prepare: video and source -> value.
    """

    def __init__(self, datasets: Sequence[VngDataset], prepare: Callable[[Video, int], V]) -> None:
        self._datasets, self._prepare = datasets, prepare
        self._values: ByteCache[V] = ByteCache()

    def __call__(self, source: int, place: int) -> V:
        """The value of the video at a place of a source's dataset."""

        def read() -> tuple[V, int]:
            video = self._datasets[source][place]
            return self._prepare(video, source), video.nbytes

        return self._values.get((source, place), read)


def as_it_is(video: Video, source: int) -> Video:
    """A `prepare` that keeps the video itself."""
    return video
