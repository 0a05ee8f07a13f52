"""Batch norm with the statistics of all processes, so that several of them compute what one does on the whole batch."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def share_batch_norms(model: nn.Module) -> None:
    """Let the batch norms of a model, in place, take their statistics over the batches of all processes.

    `nn.SyncBatchNorm` does the same on GPUs, and does not run on a CPU. Names and weights stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d


def freeze_norms(model: nn.Module, after: int, part: nn.Module | None = None) -> None:
    """Let batch norms in training mode keep their statistics: those of small batches are noise.

    The number of batches is saved with them, so that a resumed run freezes them where an uninterrupted one does.

    Args:
        model: changed in place; called again before each training batch.
        after: training batches after which all are frozen.
        part: one whose norms are frozen from the start (pre-trained ones).
    """
    frozen = set() if part is None else {m for m in part.modules() if isinstance(m, nn.BatchNorm2d)}
    others = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m not in frozen]
    counted = others[0].num_batches_tracked if others else None
    settled = others if counted is not None and int(counted) >= after else []
    for module in (*frozen, *settled):
        module.eval()


def takes_statistics(model: nn.Module) -> bool:
    """Whether a model in training mode has a batch norm that is not frozen: its output depends on the whole batch."""
    return any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules())


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the batches of all processes; see `share_batch_norms`."""

    def forward(self, input: Tensor) -> Tensor:
        """Float [B, C, H, W] -> the same shape; B may differ between processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        x = input.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = all_reduce(torch.cat([x.sum((0, 2, 3)), count]))
        total = sums[-1].detach()
        centred = x - (sums[:-1] / total)[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / total
        self._keep(sums[:-1].detach() / total, variance.detach() * total / (total - 1))
        normed = centred * (variance + self.eps).rsqrt()[:, None, None]
        return (normed * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as `nn.BatchNorm2d` does."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(variance, factor)
