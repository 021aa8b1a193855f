"""Evaluating an expression piece by piece, so that no more than a part of a large result is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..signatures import TensorInfo
from .base import Expr, evaluate, infer, size_of
from .casting import Losses, cast
from .joins import Concat, Stack
from .values import Cast
from .views import Reshape

if TYPE_CHECKING:
    import torch

PIECE = 1 << 18  # elements cast at a time: input and output stay in the processor's cache


def pieces(
    expr: Expr,
    source: Mapping[str, TensorInfo],
    read: Callable[[str], torch.Tensor],
    losses: Losses,
    elements: Callable[[Expr], Iterator[torch.Tensor] | None],
) -> Iterator[torch.Tensor]:
    """Tensors whose elements, one after the other in row-major order, are those of the result.

    Args:
        expr: the expression.
        source: the signature it reads from.
        read: gives the tensor of a source key.
        losses: where casts count what they lose.
        elements: one-dimensional pieces of an expression that is made of whole runs of stored bytes;
            None for another one.
    """
    stored = elements(expr)
    if stored is not None:
        yield from stored
    elif isinstance(expr, Cast):
        for piece in pieces(expr.of[0], source, read, losses, elements):
            flat = piece.reshape(-1)
            for start in range(0, flat.numel(), PIECE):
                yield cast(flat[start : start + PIECE], expr.dtype, expr.allow_overflow, losses)
    elif isinstance(expr, Reshape) or (isinstance(expr, Concat | Stack) and _outermost(expr, source)):
        for e in expr.of:
            yield from pieces(e, source, read, losses, elements)
    else:
        yield evaluate(expr, read)


def _outermost(expr: Concat | Stack, source: Mapping[str, TensorInfo]) -> bool:
    """Whether the parts follow one another in memory."""
    shape = infer(expr.of[0], source).shape
    dim = expr.dim % (len(shape) + isinstance(expr, Stack))
    return size_of(shape[:dim]) == 1
