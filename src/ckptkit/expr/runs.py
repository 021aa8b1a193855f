"""Which bytes of its sources an expression's result is made of, where it is made of whole runs of them.

Stacking experts, cutting a fused projection into its rows, or flattening moves bytes and computes
nothing: such an output is copied, and needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .. import dtypes
from ..signatures import TensorInfo
from .base import Expr, Read, infer, size_of
from .joins import Concat, Stack
from .views import Permute, Reshape, Select, Slice, Transpose

_SHORTEST = 16 << 10  # bytes; shorter runs are quicker put together by torch
Cuts = list["Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive elements of one source tensor, in row-major order.

    Args:
        key: the source key.
        start: first element.
        count: how many.
    """

    key: str
    start: int
    count: int


def runs(
    expr: Expr, source: Mapping[str, TensorInfo], whole: Callable[[str], bool] = lambda _: True
) -> list[Run] | None:
    """The runs whose concatenation is the result in row-major order.

    Args:
        expr: the expression.
        source: the signature it reads from.
        whole: whether the elements of a source key lie in row-major order without gaps.

    Returns:
        None where the result is computed, or the runs would be too short to be worth it.
    """
    found = _runs(expr, source, whole)
    if found is None or len(found) <= 1:
        return found
    width = dtypes.DTYPES[source[found[0].key].dtype].bits // 8
    return found if width * sum(run.count for run in found) >= _SHORTEST * len(found) else None


def _runs(expr: Expr, source: Mapping[str, TensorInfo], whole: Callable[[str], bool]) -> Cuts | None:
    if isinstance(expr, Read):
        info = source[expr.key]
        known = dtypes.DTYPES.get(info.dtype)
        if info.kind == "object" or known is None or known.bits % 8 or not whole(expr.key):
            return None
        return [Run(expr.key, 0, info.numel)] if info.numel else []
    parts = [_runs(e, source, whole) for e in expr.of]
    known_parts = [part for part in parts if part is not None]
    if len(known_parts) < len(parts):
        return None
    first = infer(expr.of[0], source)
    if isinstance(expr, Reshape):
        return known_parts[0]
    if isinstance(expr, Transpose | Permute):
        return known_parts[0] if _keeps_order(expr, first.shape) else None
    if isinstance(expr, Slice | Select):
        dim = expr.dim % len(first.shape)
        inner = size_of(first.shape[dim + 1 :])
        if isinstance(expr, Slice) and expr.step != 1:
            return None
        low, high = (expr.start, expr.stop) if isinstance(expr, Slice) else (expr.index, expr.index + 1)
        outer, size = size_of(first.shape[:dim]), first.shape[dim]
        if outer > 1 and not _long_enough(first, (high - low) * inner):
            return None
        spans = ((o * size * inner + low * inner, o * size * inner + high * inner) for o in range(outer))
        return [run for start, stop in spans for run in _cut(known_parts[0], start, stop)]
    if isinstance(expr, Concat | Stack):
        rank = len(first.shape) + isinstance(expr, Stack)
        dim = expr.dim % rank
        outer = size_of(first.shape[:dim])
        sizes = [infer(e, source).numel // max(outer, 1) for e in expr.of]
        if outer > 1 and not _long_enough(first, min(sizes)):
            return None
        return [
            run
            for o in range(outer)
            for part, size in zip(known_parts, sizes, strict=True)
            for run in _cut(part, o * size, (o + 1) * size)
        ]
    return None


def _long_enough(info: TensorInfo, count: int) -> bool:
    return count * dtypes.DTYPES[info.dtype].bits // 8 >= _SHORTEST


def _keeps_order(expr: Transpose | Permute, shape: tuple[int, ...]) -> bool:
    """Whether only dimensions of size 1 change their place."""
    order = list(range(len(shape)))
    if isinstance(expr, Transpose):
        one, other = (dim % len(shape) for dim in expr.dims)
        order[one], order[other] = order[other], order[one]
    else:
        order = [dim % len(shape) for dim in expr.dims]
    wide = [dim for dim in order if shape[dim] != 1]
    return wide == sorted(wide)


def _cut(parts: Cuts, start: int, stop: int) -> Iterator[Run]:
    """The elements ``start:stop`` of a list of runs."""
    at = 0
    for run in parts:
        low, high = max(start - at, 0), min(stop - at, run.count)
        if low < high:
            yield Run(run.key, run.start + low, high - low)
        at += run.count
        if at >= stop:
            return
