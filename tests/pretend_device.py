"""A tensor that says it lies on a GPU and computes on the CPU: shows on a machine without one what a GPU would meet.

`move` and `to` make such tensors. Within `Pretending`, an operation that mixes them with plain CPU tensors raises, and
every wait for the device and every copy is counted by the line of `vng` that caused it. Not covered: real kernels,
CUDA's own list of autocast operations, memory, speed, NCCL.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda", 0)
SYNC, BOOLEAN, TO_HOST, TO_DEVICE = "wait", "wait (boolean index)", "to host", "to device"
WAITING = {  # operations whose result the host needs before it goes on
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "equal",
    "masked_select",
    "unique_dim",
    "_unique2",
}
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
counted: Counter[tuple[str, str]] = Counter()


def waits() -> int:
    """How often the program waited for the device since the counter was cleared, copies to the host included."""
    return sum(n for (kind, _), n in counted.items() if kind in (SYNC, BOOLEAN, TO_HOST))


def table() -> str:
    """What was counted, by kind and line."""
    return "\n".join(f"{n:5d} {kind:22} {line}" for (kind, line), n in counted.most_common())


def _note(kind: str) -> None:
    counted[kind, _line()] += 1


def _line() -> str:
    """The innermost line of our code in the call stack."""
    for frame in reversed(traceback.extract_stack()):
        if "/vng/" in frame.filename and "site-packages" not in frame.filename:
            return f"{frame.filename.split('/vng/')[-1]}:{frame.lineno}"
    return "elsewhere"


class DeviceTensor(Tensor):
    """A wrapper around a CPU tensor (`held`) that reports the device `DEVICE`."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )
        made.held = held.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({list(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        _note(SYNC)
        return self.held.tolist()

    def new_tensor(self, data: Any, *, dtype: Any = None, **_: Any) -> Tensor:  # type: ignore[override]
        _note(TO_DEVICE)
        return DeviceTensor(torch.tensor(data, dtype=dtype or self.dtype))

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_there(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_there(index), value)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Pretending(TorchDispatchMode):
    """Within it, tensors can be made on the device, and what happens there is counted."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextlib.contextmanager
def pretending() -> Iterator[None]:
    """The mode, with counters at zero; CUDA's start-up, which is impossible here, is left out."""
    counted.clear()
    before, lifted = torch.cuda._lazy_init, torch._C._only_lift_cpu_tensors()  # type: ignore[attr-defined]
    torch.cuda._lazy_init = lambda: None
    torch._C._set_only_lift_cpu_tensors(True)  # type: ignore[attr-defined]
    try:
        with Pretending():
            yield
    finally:
        torch.cuda._lazy_init = before
        torch._C._set_only_lift_cpu_tensors(lifted)  # type: ignore[attr-defined]


def _there(index: Any) -> Any:
    """An index with its lists, arrays and CPU tensors on the device, as torch would copy them."""
    if isinstance(index, tuple):
        return tuple(map(_there, index))
    if isinstance(index, DeviceTensor) or (isinstance(index, Tensor) and not index.dim()):
        return index
    if isinstance(index, list | Tensor) or getattr(index, "ndim", 0):
        _note(TO_DEVICE)
        empty = isinstance(index, list) and not index
        return DeviceTensor(torch.as_tensor(index, dtype=torch.long if empty else None))
    return index


def _on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("meta", DEVICE.type)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    ours = [x for x in flat if isinstance(x, DeviceTensor)]
    plain = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, DeviceTensor)]
    asked = kwargs.get("device")
    if not ours and not _on_device(asked):
        return func(*args, **kwargs)
    name = func.overloadpacket.__name__
    leaves = name == "_to_copy" and asked is not None and not _on_device(asked) and bool(ours)
    _count(name, func, flat, args, ours, plain, leaves, _on_device(asked))
    there = tree_map(_held, (args, kwargs))
    result = func(*there[0], **there[1])
    if leaves:
        return result
    if name == "copy_" or (name.endswith("_") and not name.endswith("__") and isinstance(args[0], DeviceTensor)):
        return args[0]
    if isinstance(kwargs.get("out"), Tensor):
        return kwargs["out"]
    return tree_map(lambda x: DeviceTensor(x) if type(x) is Tensor else x, result)


def _held(value: Any) -> Any:
    """An argument as the CPU gets it: tensors without their wrapper, and the CPU for every device."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.held if isinstance(value, DeviceTensor) else value


def _count(name: str, func: Any, flat: list, args: Any, ours: list, plain: list, leaves: bool, arrives: bool) -> None:
    """Count waits and copies; raises RuntimeError where devices are mixed."""
    indexing = name in INDEXING
    if ours and plain and name not in ("_to_copy", "copy_"):
        mixed = [x for x in plain if x.dim() and not (indexing and x.dtype in (torch.long, torch.bool, torch.uint8))]
        if mixed or (indexing and not isinstance(flat[0], DeviceTensor)):
            raise RuntimeError(f"{func} mixes devices at {_line()}: {[list(x.shape) for x in mixed]}")
    if name in WAITING or str(func) == "aten.repeat_interleave.Tensor":
        _note(SYNC)
    if indexing and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
        _note(BOOLEAN)
    if leaves:
        _note(TO_HOST)
    elif name == "_to_copy" and arrives and plain and not ours:
        _note(TO_DEVICE)
    if name == "copy_" and ours and plain:
        _note(TO_DEVICE if isinstance(args[0], DeviceTensor) else TO_HOST)


def move(model: Any) -> Any:
    """A module with its parameters and buffers on the device, in place; weights that are shared stay shared."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None and id(value) not in moved:
                held = value.data.clone(memory_format=torch.preserve_format)
                moved[id(value)] = nn.Parameter(DeviceTensor(held), requires_grad=value.requires_grad)
            if value is not None:
                module._parameters[name] = moved[id(value)]
        for name, value in list(module._buffers.items()):
            module._buffers[name] = None if value is None else DeviceTensor(value.clone())
    return model


def to(value: Tensor) -> Tensor:
    """A CPU tensor on the device."""
    return DeviceTensor(value.clone())


def back(value: Tensor) -> Tensor:
    """What a tensor of the device holds."""
    return value.held if isinstance(value, DeviceTensor) else value


def worst_gradient(model: nn.Module, other: nn.Module) -> float:
    """The largest difference of gradients of two models, over the largest gradient of the first."""
    pairs = [(p.grad, q.grad) for p, q in zip(model.parameters(), other.parameters(), strict=True)]
    assert all((p is None) == (q is None) for p, q in pairs)
    largest = max(float(p.abs().max()) for p, _ in pairs if p is not None)
    return max(float((p - back(q)).abs().max()) for p, q in pairs if p is not None and q is not None) / largest
