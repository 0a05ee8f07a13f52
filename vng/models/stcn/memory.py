"""STCN's memory of a video: keys and values of cells, of which a few nearest ones are read; its size can be bounded.

Cheng et al., NeurIPS 2021, Sec. 3: every n-th frame is kept, and the last one until the next. A bounded memory drops
the cells that were read least for their age (as XMem, ECCV 2022, Sec. 3.3, consolidates by use); cells of prompted
frames and of the newest frame stay.
Shapes: K objects, N cells of a frame, M cells in memory, Ck and Cv channels of a key and a value.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vng.models import quick_convolution

ROWS_AT_ONCE = 128  # cells of a query compared with all of memory at a time on a CPU, for its cache
MOST_SIMILARITIES = 1 << 27  # at a time on other devices, 512 MiB in float32
BLOCK = 64  # cells of memory in a block; the largest similarity of each block is computed first


class Memory:
    """Keys shared by all objects, and a value for each object.

    Objects may enter later; they read only frames added since.

    Args:
        top_k: cells of memory that a cell of the query reads.
        budget: most cells kept, unless more cells may not be dropped; None: all.
    """

    def __init__(self, top_k: int = 20, budget: int | None = None) -> None:
        self.top_k, self.budget = top_k, budget
        self._entered: list[int] = []  # per object, the time it entered
        self._key = torch.empty(0)  # [capacity, Ck]
        self._value = torch.empty(0)  # [capacity, K * Cv]
        self._born = torch.empty(0, dtype=torch.long)  # time, [capacity]
        self._kept = torch.empty(0, dtype=torch.bool)  # may not be dropped
        self._use = torch.empty(0)  # sum of the weights it was read with
        self._filled = 0
        self._never_dropped = 0  # number of cells that may not be dropped
        self._newest = 0  # time of the frame that was added last
        self._last: tuple[Tensor, Tensor] | None = None  # the frame remembered until the next

    def __len__(self) -> int:
        """Cells in memory."""
        return self._filled + (0 if self._last is None else len(self._last[0]))

    @property
    def objects(self) -> int:
        """The number of objects that have entered."""
        return len(self._entered)

    def enter(self, count: int, time: int) -> None:
        """Add `count` objects that enter at `time`."""
        self._entered += [time] * count
        if self._filled:
            width = self._value.shape[1] // (self.objects - count)
            self._value = F.pad(self._value, (0, width * count))
        self._last = None

    def add(self, key: Tensor, value: Tensor, time: int, lasting: bool = True, kept: bool = False) -> None:
        """Remember a frame.

        Args:
            key: [Ck, h, w]. value: [K, Cv, h, w], of all objects that have entered.
            time: of the frame, not less than before.
            lasting: keep it until the budget drops it; False: until the next frame is added.
            kept: never drop it.
        """
        keys, values = key.flatten(1).T.contiguous(), value.flatten(2).permute(2, 0, 1).flatten(1).contiguous()
        self._last = None
        if not lasting:
            self._last = (keys, values)
            return
        fresh = self._fresh(len(keys))
        self._reserve(keys, values, fresh)
        place = self._places(len(keys), fresh)
        self._key[place], self._value[place] = keys, values
        self._born[place], self._kept[place], self._use[place] = time, kept, 0
        self._newest = time
        self._never_dropped += len(keys) if kept else 0

    def _fresh(self, count: int) -> int:
        """The number of `count` new cells that enlarge the memory; others replace cells that may be dropped.

        Cells that may not be dropped always stay: memory then holds those and one frame, whatever the budget.
        """
        if self.budget is None:
            return count
        limit = max(self.budget, self._never_dropped + count)
        return max(0, min(count, limit - self._filled))

    def _reserve(self, keys: Tensor, values: Tensor, fresh: int) -> None:
        """Allocate `fresh` more cells, growing by half so that memory is rarely copied, but not beyond the budget."""
        needed, capacity = self._filled + fresh, len(self._key)
        if needed <= capacity:
            return
        grown = max(needed, capacity + capacity // 2)
        if self.budget is not None:
            grown = max(needed, min(grown, self.budget))
        more = grown - capacity

        def enlarged(old: Tensor, like: Tensor | None = None) -> Tensor:
            if not capacity and like is not None:
                return like.new_zeros(grown, like.shape[1])
            if not capacity:
                return torch.zeros(grown, dtype=old.dtype, device=keys.device)
            return F.pad(old, (0, 0, 0, more) if old.dim() == 2 else (0, more))

        self._key, self._value = enlarged(self._key, keys), enlarged(self._value, values)
        self._born, self._kept, self._use = (enlarged(x) for x in (self._born, self._kept, self._use))

    def _places(self, count: int, fresh: int) -> Tensor:
        """Indices at which to write `count` cells: `fresh` at the end, the rest over those read least for their age."""
        place = torch.arange(self._filled, self._filled + fresh, device=self._key.device)
        if fresh < count:
            age = (self._newest + 1 - self._born[: self._filled]).clamp(min=1)
            rate = (self._use[: self._filled] / age).masked_fill(self._kept[: self._filled], float("inf"))
            place = torch.cat([place, rate.topk(count - fresh, largest=False).indices])
        self._filled += fresh
        return place

    def read(self, query: Tensor) -> Tensor:
        """The readout of memory for a frame's keys: [Ck, h, w] -> [K, Cv, h, w].

        Softmax over the `top_k` most similar cells by negative squared distance / sqrt(Ck), with the largest
        subtracted; only those few values are read, and similarities exist only for a part of the query at a time.
        """
        cells, (h, w) = query.flatten(1).T.contiguous(), query.shape[-2:]
        keys, values = [self._key[: self._filled]], [self._value[: self._filled]]
        if self._last is not None:
            keys, values = [*keys, self._last[0]], [*values, self._last[1]]
        born = F.pad(self._born[: self._filled], (0, len(self) - self._filled), value=torch.iinfo(torch.long).max)
        rows = ROWS_AT_ONCE if cells.device.type == "cpu" else max(1, MOST_SIMILARITIES // len(self))
        compare = _comparison(keys, min(rows, len(cells)))
        out = cells.new_empty(len(cells), values[0].shape[1])
        width, times = out.shape[1] // self.objects, sorted(set(self._entered))
        for start in range(0, len(cells), rows):
            part = slice(start, start + rows)
            similarity = compare(cells[part])
            for time in times:
                if time != times[0]:
                    similarity[:, : len(self)].masked_fill_(born < time, float("-inf"))
                best, index = _largest(similarity, min(self.top_k, len(self)))
                index = index.clamp_(max=len(self) - 1)  # larger ones pad the last block and have weight 0
                weight = (best.float() * (2 / cells.shape[1] ** 0.5)).softmax(1).to(out.dtype)
                self._count(index, weight)
                columns = [k for k, entered in enumerate(self._entered) if entered == time]
                own = slice(columns[0] * width, (columns[-1] + 1) * width)
                out[part, own] = _weighted([value[:, own] for value in values], index, weight)
        return out.T.reshape(self.objects, width, h, w)

    def _count(self, index: Tensor, weight: Tensor) -> None:
        if self.budget is not None and self._filled:
            counted = (weight * (index < self._filled)).flatten().to(self._use.dtype)
            self._use.index_add_(0, index.flatten().clamp(max=self._filled - 1), counted)


def _comparison(keys: list[Tensor], rows: int) -> Callable[[Tensor], Tensor]:
    """A function that compares cells [R, Ck] with keys [M, Ck]: products minus half the keys' squares.

    It returns [R, >= M], in whole blocks. On a CPU it is a convolution with weights packed for `rows` cells, twice as
    fast there as a matrix product.
    """
    key = torch.cat(keys)
    more = -len(key) % BLOCK
    bias = F.pad(-key.pow(2).sum(1) / 2, (0, more), value=float("-inf"))
    key = F.pad(key, (0, 0, 0, more))
    if key.device.type != "cpu" or key.dtype != torch.float32 or not quick_convolution.is_available():
        return lambda cells: torch.addmm(bias, cells, key.T)
    return quick_convolution.packed_linear(key, bias, rows)


def _largest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row [R, blocks * BLOCK], and their indices.

    They lie in the `count` blocks with the largest maxima; finding those blocks first is several times as fast.
    """
    blocks = similarity.unflatten(1, (-1, BLOCK))
    if blocks.shape[1] <= 2 * count:
        best, index = similarity.topk(count, 1)
        return best, index
    chosen = blocks.amax(2).topk(count, 1, sorted=False).indices
    best, place = blocks.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1).topk(count, 1)
    return best, chosen.gather(1, place // BLOCK) * BLOCK + place % BLOCK


def _weighted(values: list[Tensor], index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows of the concatenated tables: indices and weights [R, k] -> [R, C]."""
    if len(values) == 1:
        return F.embedding_bag(index, values[0], per_sample_weights=weight, mode="sum")
    split = len(values[0])
    first = F.embedding_bag(
        index.clamp(max=split - 1), values[0], per_sample_weights=weight * (index < split), mode="sum"
    )
    late = F.embedding_bag(
        (index - split).clamp(min=0), values[1], per_sample_weights=weight * (index >= split), mode="sum"
    )
    return first + late
