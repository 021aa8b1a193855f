"""Casts that do not lose numbers unnoticed: what overflowed and what became zero is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import dtypes
from ..errors import CastError

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Losses:
    """What casts did to single values.

    Args:
        overflowed: finite values that became infinite, NaN, or wrapped around in an integer dtype.
        vanished: values other than zero that became zero.
    """

    overflowed: int = 0
    vanished: int = 0

    def __bool__(self) -> bool:
        return bool(self.overflowed or self.vanished)


def cast(tensor: torch.Tensor, name: str, allow_overflow: bool, losses: Losses | None = None) -> torch.Tensor:
    """A tensor in another dtype.

    Args:
        tensor: the input.
        name: the dtype's name.
        allow_overflow: whether values may overflow.
        losses: where to count.

    Raises:
        CastError: values overflow, and may not.
    """
    import torch

    result = tensor.to(getattr(torch, name))
    if not tensor.numel() or tensor.dtype == result.dtype or widens(_name(tensor), name):
        return result
    overflowed = _overflowed(tensor, result)
    if overflowed and not allow_overflow:
        largest = (
            tensor.abs().nan_to_num(0, 0, 0).max().item()
            if tensor.is_floating_point()
            else tensor.max().item()
        )
        raise CastError(
            f"{overflowed} value{'' if overflowed == 1 else 's'} of {_name(tensor)} cannot be held by {name} (the "
            f"largest is {largest:g}, the limit {_limit(name)}); cast to a wider dtype, leave the key out, or set "
            "allow_overflow: true"
        )
    if losses is not None:
        losses.overflowed += overflowed
        if dtypes.is_floating(name) and tensor.is_floating_point():
            losses.vanished += int(torch.count_nonzero(tensor)) - int(torch.count_nonzero(_plain(result)))
    return result


def widens(before: str, after: str) -> bool:
    """Whether every value of one dtype is a value of another, so that a cast loses nothing.

    Args:
        before, after: dtype names.
    """
    if before == after:
        return True
    a, b = dtypes.DTYPES.get(before), dtypes.DTYPES.get(after)
    if a is None or b is None:
        return False
    kinds = (a.kind, b.kind)
    if kinds == ("float", "float"):
        exponent, mantissa = _FLOATS.get(before, (99, 99)), _FLOATS.get(after, (0, 0))
        return exponent[0] <= mantissa[0] and exponent[1] <= mantissa[1] and b.bits > a.bits
    if kinds in (("int", "int"), ("uint", "uint"), ("complex", "complex")):
        return b.bits >= a.bits
    if kinds == ("uint", "int"):
        return b.bits > a.bits
    if a.kind in ("int", "uint") and b.kind == "float":
        return a.bits - (a.kind == "int") <= _FLOATS.get(after, (0, 0))[1] + 1
    return a.kind == "bool" and b.kind in ("int", "uint", "float", "complex")


# Bits of exponent and of mantissa.
_FLOATS = {
    "float64": (11, 52),
    "float32": (8, 23),
    "float16": (5, 10),
    "bfloat16": (8, 7),
    "float8_e4m3fn": (4, 3),
    "float8_e5m2": (5, 2),
    "float8_e4m3fnuz": (4, 3),
    "float8_e5m2fnuz": (5, 2),
}


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """In a dtype in which torch can count: the narrowest ones lack most operations."""
    return tensor.float() if tensor.dtype.itemsize == 1 and tensor.is_floating_point() else tensor


def _limit(name: str) -> str:
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return (
        f"{torch.finfo(dtype).max:g}"
        if dtype.is_floating_point or dtype.is_complex
        else f"{torch.iinfo(dtype).max}"
    )


def _overflowed(tensor: torch.Tensor, result: torch.Tensor) -> int:
    import torch

    if tensor.is_complex() or result.is_complex() or result.dtype is torch.bool or tensor.dtype is torch.bool:
        return 0
    tensor = _plain(tensor)
    info = torch.finfo if result.is_floating_point() else torch.iinfo
    limits = info(result.dtype)
    if tensor.is_floating_point() or result.is_floating_point():
        low, high = torch.aminmax(tensor)
        if float(low) >= limits.min and float(high) <= limits.max:  # false for NaN
            return 0
    if result.is_floating_point():
        lost = torch.isfinite(tensor) & ~torch.isfinite(_plain(result))
    elif tensor.is_floating_point():
        inside = (tensor >= limits.min) & (tensor <= limits.max)
        lost = ~inside
    else:
        lost = result.to(torch.int64) != tensor.to(torch.int64)
        if tensor.dtype is torch.uint64 or result.dtype is torch.uint64:
            lost |= (tensor.to(torch.int64) < 0) ^ (result.to(torch.int64) < 0)
            lost |= (tensor.to(torch.int64) < 0) & (tensor.dtype is not result.dtype)
    return int(lost.sum())
