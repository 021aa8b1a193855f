"""From a tensor of the checkpoint to what one parameter takes: dtype, device, shards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..config.load import LoadConfig
from ..distributed.shards import is_dtensor, shard_for
from ..expr.casting import Losses, cast
from ..formats.base import Source
from ..matching import Match
from ..threads import one_thread
from .targets import Target

if TYPE_CHECKING:
    import torch


def arrange(
    tensor: torch.Tensor, parameter: Any, *, assign: bool, dtype: str, losses: Losses | None = None
) -> torch.Tensor:
    """What a parameter or buffer is filled with.

    Args:
        tensor: from the checkpoint, on the CPU, possibly a look into a mapped file.
        parameter: the parameter or buffer it is for; None when that is not known.
        assign: whether the result becomes the parameter, instead of being copied into it.
        dtype: LoadConfig's policy.
        losses: where values are counted that the wanted dtype cannot hold.

    Returns:
        A tensor for `Module._load_from_state_dict`; with `assign` one of its own memory.
    """
    import torch

    if parameter is None:
        return tensor
    wanted = wanted_dtype(tensor.dtype, parameter, assign, dtype)
    if is_dtensor(parameter):
        return shard_for(tensor, parameter, wanted)
    with one_thread(tensor):
        if wanted is not tensor.dtype:
            tensor = cast(tensor, str(wanted).removeprefix("torch."), True, losses)
        elif assign:
            # The file may change or go later; an assigned parameter must not look into it.
            tensor = tensor.clone()
    if assign and isinstance(parameter, torch.Tensor) and parameter.device.type not in ("meta", "cpu"):
        tensor = tensor.to(parameter.device)
    return tensor.reshape(()) if parameter.dim() == 0 and tensor.shape == (1,) else tensor


def wanted_dtype(dtype: torch.dtype, parameter: torch.Tensor, assign: bool, policy: str) -> torch.dtype:
    """The dtype that a parameter has after the load.

    Args:
        dtype: of the checkpoint's tensor.
        parameter: the parameter or buffer.
        assign: whether the tensor becomes the parameter.
        policy: LoadConfig's.
    """
    import torch

    if policy == "auto":
        return dtype if assign else parameter.dtype
    if policy == "model":
        return parameter.dtype
    if policy == "checkpoint":
        return dtype
    named: torch.dtype = getattr(torch, policy)
    # A named dtype is meant for weights: counters and masks keep theirs.
    if (dtype.is_floating_point and parameter.is_floating_point()) or not named.is_floating_point:
        return named
    return parameter.dtype


def retyped(key: str, target: Target, match: Match, source: Source, config: LoadConfig) -> torch.dtype | None:
    """The dtype that a parameter is given before it is filled; None when it keeps its own.

    Args:
        key: the parameter's name.
        target, match, source, config: what is loaded how.
    """
    import torch

    if config.assign or config.dtype in ("auto", "model"):
        return None
    expr, parameter = match.fills.get(key), target.state.get(key)
    if expr is None or not isinstance(parameter, torch.Tensor) or is_dtensor(parameter):
        return None
    dtype = getattr(torch, source.signature[expr.reads()[0]].dtype)
    wanted = wanted_dtype(dtype, parameter, False, config.dtype)
    return None if parameter.dtype is wanted or parameter.is_meta else wanted


def retype(keys: Iterable[str], target: Target, match: Match, source: Source, config: LoadConfig) -> None:
    """Give parameters the dtype in which they will be filled, ties included; their values are of no use any more.

    Args:
        keys: the parameters' names.
        target, match, source, config: what is loaded how.
    """
    tied = {key: group for group in target.signature.tied for key in group}
    for key in keys:
        wanted = retyped(key, target, match, source, config)
        if wanted is not None:
            fresh = target.state[key].data.to(wanted)
            for name in tied.get(key, (key,)):
                target.state[name].data = fresh
