"""The part of a tensor that this rank holds of a DTensor parameter (FSDP2, tensor parallelism)."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def dtensor_in(value: Any) -> Any:
    """The DTensor that a parameter or buffer is or holds; None when it is none."""
    for each in (value, getattr(value, "data", None)):
        if type(each).__name__ == "DTensor":
            return each
    return None


def is_dtensor(value: Any) -> bool:
    """Whether a parameter or buffer is a DTensor, or holds one."""
    return dtensor_in(value) is not None


def shard_for(tensor: torch.Tensor, parameter: Any, dtype: torch.dtype) -> torch.Tensor:
    """A DTensor with this rank's part of a whole tensor, laid out as the parameter is.

    Only the pages of that part are read when `tensor` looks into a mapped file. Where the part lies
    is asked of torch (`compute_local_shape_and_global_offset`); strided placements, for which a part
    is no single box, are left to `distribute_tensor`.

    Args:
        tensor: the whole tensor, equal on every rank.
        parameter: the DTensor to be filled.
        dtype: of the result.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    mesh, placements = parameter.device_mesh, tuple(parameter.placements)
    part = part_for(tensor, parameter)
    if part is None:
        # Every rank reads the same file: by itself, each takes its part, and nothing is sent where torch can do that.
        alone: dict[str, Any] = {"src_data_rank": None} if _may_stay_alone(distribute_tensor) else {}
        whole = tensor.to(dtype) if tensor.dtype is not dtype else tensor.clone()
        return distribute_tensor(whole, mesh, placements, **alone)
    device = parameter.to_local().device
    local = part.to(device=device if device.type != "meta" else part.device, dtype=dtype, copy=True)
    return DTensor.from_local(
        local.contiguous(),
        mesh,
        placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def part_for(tensor: torch.Tensor, parameter: Any) -> torch.Tensor | None:
    """The part of a whole tensor that this rank holds of a DTensor, as a view; None where a part is no single box."""
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = parameter.device_mesh, tuple(parameter.placements)
    if not all(type(p) is Shard or p.is_replicate() for p in placements):
        return None
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    part = tensor
    for dim, (start, size) in enumerate(zip(offset, shape, strict=True)):
        part = part.narrow(dim, start if size else 0, size)
    return part


def _may_stay_alone(distribute: Callable[..., Any]) -> bool:
    """Whether torch can distribute without sending (2.6 and later)."""
    return "src_data_rank" in signature(distribute).parameters
