"""How far apart the values of two tensors are, from their bytes, block by block, in float64."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from math import frexp, inf, isfinite, isnan, ldexp, nan, sqrt
from typing import TYPE_CHECKING

from ..content import blocks
from ..diff_report import ValueChange
from ..dtypes import DTYPES
from ..formats.base import Buffer
from ..threads import BLOCK

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ELEMENTS = BLOCK  # at a time; they stay in the processor's cache
_WIDE = frozenset({"int64", "uint64"})  # integers that float64 cannot hold
_HUGE = frozenset({"float64", "complex128"})  # numbers whose squares float64 cannot hold
_PACKED = frozenset({"float4_e2m1fn_x2"})  # two numbers to an element, which torch cannot take apart


def compare(
    key: str,
    dtypes: tuple[str, str],
    a: Iterable[Buffer],
    b: Iterable[Buffer],
    elements: int = ELEMENTS,
) -> ValueChange:
    """Compare two tensors of one shape.

    Elements that are equal count as a difference of 0, and so do NaN and NaN. What is the same but not
    finite in both is left out of the L2 norms and the cosine; what is not finite in one of them
    makes the figures infinite or NaN, so that no threshold is passed by accident. Where A is all
    zeros `rel_l2` is infinite, or 0 when B is too; the cosine of a zero vector is NaN, or 1 when both are zero.
    Complex numbers count by their real and imaginary parts, `max_abs` by absolute values.

    Args:
        key: for the result.
        dtypes: of A and of B.
        a, b: row-major little-endian bytes.
        elements: how many are looked at in one go; the figures do not depend on it but for rounding.

    Returns:
        The figures; without numbers for dtypes that torch cannot compute with.
    """
    widths = [DTYPES[dtype].bits for dtype in dtypes]
    if not all(_has_numbers(dtype) for dtype in dtypes):
        equal = dtypes[0] == dtypes[1] and same_bytes(a, b)
        return ValueChange(key, equal)
    one, two = (blocks(chunks, elements * bits // 8) for chunks, bits in zip((a, b), widths, strict=True))
    figures = Figures(dtypes)
    for left, right in zip(one, two, strict=True):
        figures.add(left, right)
    return figures.result(key)


def same_bytes(a: Iterable[Buffer], b: Iterable[Buffer]) -> bool:
    """Whether two streams hold the same bytes; reads no further than the first difference."""
    step = 1 << 20
    return all(x == y for x, y in zip_longest(blocks(a, step), blocks(b, step)))


class Figures:
    """Sums over the elements of two tensors, added block by block.

    Args:
        dtypes: of A and of B, by name.
    """

    def __init__(self, dtypes: tuple[str, str]) -> None:
        import torch

        self.torch = torch
        self.dtypes: tuple[torch.dtype, torch.dtype] = (getattr(torch, dtypes[0]), getattr(torch, dtypes[1]))
        self.alike = dtypes[0] == dtypes[1]
        self.exact = all(dtype in _WIDE for dtype in dtypes)
        self.huge = any(dtype in _HUGE for dtype in dtypes)
        # Numbers whose squares float64 holds: then an infinite sum says that there are NaN or Inf.
        self.plain = not self.exact and not self.huge and "complex" not in "".join(dtypes)
        self.equal = True
        self.max_abs: float = 0.0
        self.nan, self.inf = [0, 0], [0, 0]
        # Sums of squares of A, of B and of the difference, and of the products; each vector is divided by
        # a power of two, which loses nothing and keeps squares in range (the idea of BLAS' nrm2).
        self.scale = [0, 0, 0]
        self.squares = [0.0, 0.0, 0.0]
        self.dot = 0.0

    def add(self, left: Buffer, right: Buffer) -> None:
        """Add equally many elements of A and of B, as little-endian bytes."""
        same = self.alike and left == right
        a = self._numbers(left, 0)
        b = a if same else self._numbers(right, 1)
        if self.plain and self._add_finite(a, b):
            return
        for side, values in enumerate((a, b)):
            if values.is_floating_point() or values.is_complex():
                self.nan[side] += int(self.torch.isnan(values).sum())
                self.inf[side] += int(self.torch.isinf(values).sum())
        if same:
            flat = _flat(a)
            flat = flat[self.torch.isfinite(flat)]
            self._sums(flat, flat, None)
            return
        self._compare(a, b)

    def _add_finite(self, a: Tensor, b: Tensor) -> bool:
        """Add a block in which every number is finite, or do nothing; sums of squares tell at no cost."""
        one = _dot(a, a)
        two = one if b is a else _dot(b, b)
        if not isfinite(one + two):
            return False
        self.squares[0] += one
        self.squares[1] += two
        if b is a:
            self.dot += one
            return True
        self.dot += _dot(a, b)
        low, high = self.torch.aminmax(gap := a - b)
        largest = max(-float(low), float(high))
        self.equal = self.equal and not self.alike and largest == 0
        if not isnan(self.max_abs):
            self.max_abs = max(self.max_abs, largest)
        self.squares[2] += _dot(gap, gap)
        return True

    def _compare(self, a: Tensor, b: Tensor) -> None:
        torch = self.torch
        if self.exact:
            gap = self._exact_gap(a, b)
            a, b, alike = a.to(torch.float64), b.to(torch.float64), gap == 0
        else:
            if a.is_complex() != b.is_complex():
                a, b = a.to(torch.complex128), b.to(torch.complex128)
            alike = (a == b) | (torch.isnan(a) & torch.isnan(b))
            gap = (a - b).masked_fill(alike, 0)
        # Equal bits were seen before; here -0.0 and 0.0, or two NaNs of other bits, still differ as bits do.
        self.equal = self.equal and not self.alike and bool(alike.all())
        if gap.numel():
            largest = float(gap.abs().max())
            self.max_abs = largest if isnan(largest) or largest > self.max_abs else self.max_abs
        if a.is_complex():
            a, b, gap = _flat(a), _flat(b), _flat(gap)
        left_out = (gap == 0) & ~torch.isfinite(a)
        if bool(left_out.any()):
            a, b, gap = a[~left_out], b[~left_out], gap[~left_out]
        self._sums(a, b, gap)

    def _sums(self, a: Tensor, b: Tensor, gap: Tensor | None) -> None:
        if not a.numel():
            return
        a = self._scaled(a, 0)
        self.squares[0] += _dot(a, a)
        b = a if gap is None and self.scale[0] == self.scale[1] else self._scaled(b, 1)
        self.squares[1] += _dot(b, b)
        self.dot += _dot(a, b)
        if gap is not None:
            gap = self._scaled(gap, 2)
            self.squares[2] += _dot(gap, gap)

    def _scaled(self, values: Tensor, which: int) -> Tensor:
        if not self.huge:
            return values
        largest = float(values.abs().max())
        if largest and largest < inf:
            exponent = max(-1000, min(1000, frexp(largest)[1]))
            before = self.scale[which]
            if exponent > before or not self.squares[which]:
                self.squares[which] = ldexp(self.squares[which], 2 * (before - exponent))
                if which < 2:
                    self.dot = ldexp(self.dot, before - exponent)
                self.scale[which] = exponent
        return values * ldexp(1.0, -self.scale[which])

    def _numbers(self, raw: Buffer, side: int) -> Tensor:
        """Elements in a dtype that torch computes with: float64, complex128, or an integer."""
        torch = self.torch
        values: Tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(self.dtypes[side])
        if values.is_complex():
            return values.to(torch.complex128)
        if values.is_floating_point():
            # torch converts the narrowest floats to float32 only.
            return (values.to(torch.float32) if values.element_size() == 1 else values).to(torch.float64)
        return values if self.exact else values.to(torch.float64)

    def _exact_gap(self, a: Tensor, b: Tensor) -> Tensor:
        """The difference of 64-bit integers: halves are subtracted apart, so that none is lost to rounding."""
        torch = self.torch
        halves = []
        for side, values in enumerate((a, b)):
            whole = values.view(torch.int64)
            high = whole >> 32
            halves.append(
                (high & 0xFFFFFFFF if self.dtypes[side] is torch.uint64 else high, whole & 0xFFFFFFFF)
            )
        high, low = halves[0][0] - halves[1][0], halves[0][1] - halves[1][1]
        return high.to(torch.float64) * 2.0**32 + low.to(torch.float64)

    def result(self, key: str) -> ValueChange:
        """The figures of everything that was added."""
        a, b, gap = (sqrt(square) for square in self.squares)
        # Both norms and their powers of two are put together last; only a true overflow is infinite.
        if gap == 0 and not isnan(self.max_abs):
            rel = 0.0
        elif a == 0:
            rel = nan if isnan(gap) else inf
        else:
            rel = _times_power(gap / a, self.scale[2] - self.scale[0])
        if rel == 0 == self.max_abs:
            cosine = 1.0
        elif a and b:
            cosine = self.dot / a / b
            cosine = cosine if isnan(cosine) else max(-1.0, min(1.0, cosine))
        else:
            cosine = nan
        return ValueChange(
            key,
            self.equal,
            self.max_abs,
            rel,
            cosine,
            (self.nan[0], self.nan[1]),
            (self.inf[0], self.inf[1]),
        )


def _dot(a: Tensor, b: Tensor) -> float:
    """The sum of products; `torch.dot` is the BLAS library's, which shares out much shorter ones than torch does."""
    return float((a * b).sum())


def _times_power(value: float, exponent: int) -> float:
    try:
        return ldexp(value, exponent)
    except OverflowError:
        return inf


def _flat(values: Tensor) -> Tensor:
    """Numbers as float64, complex ones as real and imaginary parts."""
    import torch

    return torch.view_as_real(values).reshape(-1) if values.is_complex() else values.to(torch.float64)


def _has_numbers(dtype: str) -> bool:
    return DTYPES[dtype].torch and dtype not in _PACKED
