"""What STCN remembers of a video: keys and values of cells, read by the nearest few, bounded if asked.

Cheng et al., NeurIPS 2021, Sec. 3: every n-th frame is kept, and the last one until the next. A bounded memory forgets the
cells that were read least for the time they were there (as XMem, ECCV 2022, Sec. 3.3, consolidates by use); cells of
prompted frames and of the newest frame stay.
Shapes: K objects, N cells of a frame, M cells in memory, Ck and Cv channels of a key and a value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS_AT_ONCE = 256  # cells of a query compared with all of memory at a time


class Memory:
    """Keys shared by all objects, a value for each.

    Objects may enter later: they see only what was remembered since.

    Args:
        top_k: cells of memory that a cell of the query reads.
        budget: most cells kept, but for those that may not be forgotten; None: all.
    """

    def __init__(self, top_k: int = 20, budget: int | None = None) -> None:
        self.top_k, self.budget = top_k, budget
        self._entered: list[int] = []  # per object, the time it entered
        self._key = torch.empty(0)  # [capacity, Ck]
        self._value = torch.empty(0)  # [capacity, K * Cv]
        self._born = torch.empty(0, dtype=torch.long)  # time, [capacity]
        self._kept = torch.empty(0, dtype=torch.bool)  # may not be forgotten
        self._use = torch.empty(0)  # sum of the weights it was read with
        self._filled = 0
        self._newest = 0  # time of the frame that was added last
        self._last: tuple[Tensor, Tensor] | None = None  # the frame remembered until the next

    def __len__(self) -> int:
        """Cells in memory."""
        return self._filled + (0 if self._last is None else len(self._last[0]))

    @property
    def objects(self) -> int:
        """How many objects have entered."""
        return len(self._entered)

    def enter(self, count: int, time: int) -> None:
        """`count` further objects, of which nothing before `time` is known."""
        self._entered += [time] * count
        if self._filled:
            width = self._value.shape[1] // (self.objects - count)
            self._value = F.pad(self._value, (0, width * count))
        self._last = None

    def add(self, key: Tensor, value: Tensor, time: int, lasting: bool = True, kept: bool = False) -> None:
        """Remember a frame.

        Args:
            key: [Ck, h, w]. value: [K, Cv, h, w], of all objects that have entered.
            time: of the frame, never falling.
            lasting: until the budget forgets it, else until the next frame is added.
            kept: never to be forgotten.
        """
        rows, told = key.flatten(1).T.contiguous(), value.flatten(2).permute(2, 0, 1).flatten(1).contiguous()
        self._last = None
        if not lasting:
            self._last = (rows, told)
            return
        fresh = self._fresh(len(rows))
        self._reserve(rows, told, fresh)
        place = self._places(len(rows), fresh)
        self._key[place], self._value[place] = rows, told
        self._born[place], self._kept[place], self._use[place] = time, kept, 0
        self._newest = time

    def _fresh(self, count: int) -> int:
        """How many of `count` further cells come on top; the others take the places of cells that may be forgotten.

        What may not be forgotten never gives way: memory then holds that and one frame, whatever the budget.
        """
        if self.budget is None:
            return count
        limit = max(self.budget, int(self._kept[: self._filled].sum()) + count)
        return max(0, min(count, limit - self._filled))

    def _reserve(self, rows: Tensor, told: Tensor, fresh: int) -> None:
        """Room for `fresh` more cells, grown by halves so that it is rarely copied; none beyond what is ever kept."""
        needed, capacity = self._filled + fresh, len(self._key)
        if needed <= capacity:
            return
        grown = max(needed, capacity + capacity // 2)
        if self.budget is not None:
            grown = max(needed, min(grown, self.budget))
        more = grown - capacity

        def wider(old: Tensor, like: Tensor | None = None) -> Tensor:
            if not capacity and like is not None:
                return like.new_zeros(grown, like.shape[1])
            if not capacity:
                return torch.zeros(grown, dtype=old.dtype, device=rows.device)
            return F.pad(old, (0, 0, 0, more) if old.dim() == 2 else (0, more))

        self._key, self._value = wider(self._key, rows), wider(self._value, told)
        self._born, self._kept, self._use = (wider(x) for x in (self._born, self._kept, self._use))

    def _places(self, count: int, fresh: int) -> Tensor:
        """Where to write `count` cells: `fresh` behind the others, the rest over those read least for their age."""
        place = torch.arange(self._filled, self._filled + fresh, device=self._key.device)
        if fresh < count:
            age = (self._newest + 1 - self._born[: self._filled]).clamp(min=1)
            rate = (self._use[: self._filled] / age).masked_fill(self._kept[: self._filled], float("inf"))
            place = torch.cat([place, rate.topk(count - fresh, largest=False).indices])
        self._filled += fresh
        return place

    def read(self, query: Tensor) -> Tensor:
        """What memory says of a frame's cells: keys [Ck, h, w] -> [K, Cv, h, w].

        Softmax over the `top_k` most alike cells by negative squared distance / sqrt(Ck), with the largest subtracted;
        only those few values are read, and the likenesses of a part of the query are held at a time.
        """
        cells, (h, w) = query.flatten(1).T.contiguous(), query.shape[-2:]
        key, value, born = self._key[: self._filled], self._value[: self._filled], self._born[: self._filled]
        if self._last is not None:
            key, value = torch.cat([key, self._last[0]]), torch.cat([value, self._last[1]])
            born = F.pad(born, (0, len(self._last[0])), value=torch.iinfo(torch.long).max)
        width = value.shape[1] // self.objects
        out = value.new_empty(len(cells), value.shape[1])
        half_square = key.pow(2).sum(1) / 2
        times = sorted(set(self._entered))
        for start in range(0, len(cells), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            likeness = (cells[part] @ key.T - half_square) * (2 / key.shape[1] ** 0.5)
            for time in times:
                seen = likeness if time == times[0] else likeness.masked_fill(born < time, float("-inf"))
                best, index = seen.topk(min(self.top_k, len(key)), 1)
                weight = best.float().softmax(1).to(value.dtype)
                self._count(index, weight)
                columns = [k for k, entered in enumerate(self._entered) if entered == time]
                own = slice(columns[0] * width, (columns[-1] + 1) * width)
                out[part, own] = F.embedding_bag(index, value[:, own], per_sample_weights=weight, mode="sum")
        return out.T.reshape(self.objects, width, h, w)

    def _count(self, index: Tensor, weight: Tensor) -> None:
        if self.budget is not None:
            lasting = index < self._filled
            self._use.index_add_(0, index[lasting], weight[lasting].to(self._use.dtype))
