"""From a tensor of the checkpoint to what one parameter takes: dtype, device, shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..distributed.shards import is_dtensor, shard_for

if TYPE_CHECKING:
    import torch


def arrange(tensor: torch.Tensor, parameter: Any, *, assign: bool, dtype: str) -> torch.Tensor:
    """What a parameter or buffer is filled with.

    Args:
        tensor: from the checkpoint, on the CPU, possibly a look into a mapped file.
        parameter: the parameter or buffer it is for; None when that is not known.
        assign: whether the result becomes the parameter, instead of being copied into it.
        dtype: LoadConfig's policy.

    Returns:
        A tensor for `Module._load_from_state_dict`; with `assign` one of its own memory.
    """
    import torch

    if parameter is None:
        return tensor
    wanted = _dtype(tensor, parameter, assign, dtype)
    if is_dtensor(parameter):
        return shard_for(tensor, parameter, wanted)
    if wanted is not tensor.dtype:
        tensor = tensor.to(wanted)
    elif assign:
        # The file may change or go later; an assigned parameter must not look into it.
        tensor = tensor.clone()
    if not assign and parameter.dtype is not wanted and parameter.device.type != "meta":
        parameter.data = parameter.data.to(wanted)
    if assign and isinstance(parameter, torch.Tensor) and parameter.device.type not in ("meta", "cpu"):
        tensor = tensor.to(parameter.device)
    return tensor.reshape(()) if parameter.dim() == 0 and tensor.shape == (1,) else tensor


def _dtype(tensor: torch.Tensor, parameter: torch.Tensor, assign: bool, policy: str) -> torch.dtype:
    import torch

    if policy == "auto":
        return tensor.dtype if assign else parameter.dtype
    if policy == "model":
        return parameter.dtype
    if policy == "checkpoint":
        return tensor.dtype
    named: torch.dtype = getattr(torch, policy)
    # A named dtype is meant for weights: counters and masks keep theirs.
    if (tensor.is_floating_point() and parameter.is_floating_point()) or not named.is_floating_point:
        return named
    return parameter.dtype
