"""The part of a tensor that this rank holds of a DTensor parameter (FSDP2, tensor parallelism)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def is_dtensor(value: Any) -> bool:
    """Whether a parameter or buffer is a DTensor, or holds one."""
    return type(value).__name__ == "DTensor" or type(getattr(value, "data", None)).__name__ == "DTensor"


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
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = parameter.device_mesh, tuple(parameter.placements)
    plain = all(type(p) is Shard or p.is_replicate() for p in placements)
    if not plain:
        return distribute_tensor(tensor.to(dtype), mesh, placements)
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    part = tensor
    for dim, (start, size) in enumerate(zip(offset, shape, strict=True)):
        part = part.narrow(dim, start if size else 0, size)
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
