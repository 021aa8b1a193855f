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
        flattened: complex values that lost their imaginary part.
    """

    overflowed: int = 0
    vanished: int = 0
    flattened: int = 0

    def __bool__(self) -> bool:
        return bool(self.overflowed or self.vanished or self.flattened)

    def add(self, other: Losses) -> None:
        """Count what another cast did."""
        self.overflowed += other.overflowed
        self.vanished += other.vanished
        self.flattened += other.flattened


def cast(tensor: torch.Tensor, name: str, allow_overflow: bool, losses: Losses | None = None) -> torch.Tensor:
    """A tensor in another dtype.

    Args:
        tensor: the input.
        name: the dtype's name.
        allow_overflow: whether values may overflow.
        losses: where to count.

    Raises:
        CastError: values overflow or lose their imaginary part, and may not.
    """
    import torch

    target: torch.dtype = getattr(torch, name)
    # torch would take the real part with a warning of its own.
    flat = tensor.is_complex() and not target.is_complex and target is not torch.bool
    real = tensor.real if flat else tensor
    result = real.to(target)
    if not tensor.numel() or tensor.dtype == target or widens(_name(tensor), name):
        return result
    before, after = _numbers(real, result)
    overflowed = _overflowed(before, after)
    if overflowed and not allow_overflow:
        largest = _plain(before).abs().nan_to_num(0, 0, 0).max().item()
        raise CastError(
            f"{_values(overflowed)} of {_name(tensor)} cannot be held by {name} (the "
            f"largest is {largest:g}, the limit {_limit(name)}); cast to a wider dtype, leave the key out, or set "
            "allow_overflow: true"
        )
    flattened = int(torch.count_nonzero(tensor.imag)) if flat else 0
    if flattened and not allow_overflow:
        raise CastError(
            f"{_values(flattened)} of {_name(tensor)} have an imaginary part, which {name} cannot hold; leave the key "
            "out, or set allow_overflow: true to drop the imaginary parts"
        )
    if losses is not None:
        losses.overflowed += overflowed
        losses.flattened += flattened
        if after.is_floating_point() and before.is_floating_point():
            losses.vanished += _vanished(before, after)
    return result


def _values(count: int) -> str:
    return f"{count} value{'' if count == 1 else 's'}"


def _numbers(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The real numbers of which a tensor and the result of its cast are made."""
    import torch

    if before.is_complex() and after.is_complex():
        return torch.view_as_real(before.resolve_conj()), torch.view_as_real(after)
    return before, after.real if after.is_complex() else after


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
    """In a dtype in which torch can count: the narrowest floats and most unsigned integers lack most operations."""
    import torch

    if tensor.is_floating_point():
        return tensor.float() if tensor.dtype.itemsize == 1 else tensor
    if tensor.dtype is torch.uint64:
        return tensor.double()
    return tensor.to(torch.int64) if tensor.dtype in (torch.uint16, torch.uint32) else tensor


def _limit(name: str) -> str:
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return (
        f"{torch.finfo(dtype).max:g}"
        if dtype.is_floating_point or dtype.is_complex
        else f"{torch.iinfo(dtype).max}"
    )


def _vanished(tensor: torch.Tensor, result: torch.Tensor) -> int:
    import torch

    limits = torch.finfo(result.dtype)
    # Whatever is no smaller than the smallest subnormal number stays; most tensors need no count.
    if float(_plain(tensor).abs().min()) >= limits.smallest_normal * limits.eps:
        return 0
    return int(torch.count_nonzero(_plain(tensor))) - int(torch.count_nonzero(_plain(result)))


def _overflowed(tensor: torch.Tensor, result: torch.Tensor) -> int:
    import torch

    if tensor.is_complex() or result.dtype is torch.bool or tensor.dtype is torch.bool:
        return 0
    if not tensor.is_floating_point() and not result.is_floating_point():
        before, after = tensor.to(torch.int64), result.to(torch.int64)
        lost = before != after
        if torch.uint64 in (tensor.dtype, result.dtype):  # of which one half are negative here
            lost |= (before < 0) & (tensor.dtype is not result.dtype)
        return int(lost.sum())
    numbers = _plain(tensor)
    low, high = (float(bound) for bound in torch.aminmax(numbers))
    if result.is_floating_point():
        limits = torch.finfo(result.dtype)
        if low >= limits.min and high <= limits.max:  # false for NaN
            return 0
        return int((torch.isfinite(numbers) & ~torch.isfinite(_plain(result))).sum())
    bounds = torch.iinfo(result.dtype)
    if low >= bounds.min and high <= bounds.max:
        return 0
    whole = numbers.double().trunc()
    # One more than the largest is a power of two, which every float holds; the largest itself few do.
    return int((~((whole >= float(bounds.min)) & (whole < float(bounds.max + 1)))).sum())
