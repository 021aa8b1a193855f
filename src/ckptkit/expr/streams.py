"""Evaluating an expression piece by piece, so that no more than a part of a large result is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..resize import resolve
from ..resize.methods import padding
from ..signatures import TensorInfo
from ..threads import BLOCK, one_thread
from .base import Expr, evaluate, infer, size_of
from .casting import Losses, cast
from .growth import repeated
from .joins import Concat, Stack
from .values import Cast, Resize
from .views import Reshape

if TYPE_CHECKING:
    import torch

PIECE = BLOCK  # elements cast at a time: input and output stay in the processor's cache
_AHEAD = 6  # chunks that are read and cast while earlier ones are written
Load = Callable[[], "torch.Tensor"]


def pieces(
    expr: Expr,
    source: Mapping[str, TensorInfo],
    read: Callable[[str], torch.Tensor],
    losses: Losses,
    loads: Callable[[Expr], Iterator[Load] | None],
) -> Iterator[torch.Tensor]:
    """Tensors whose elements, one after the other in row-major order, are those of the result.

    Args:
        expr: the expression.
        source: the signature it reads from.
        read: gives the tensor of a source key.
        losses: where casts count what they lose.
        loads: for an expression that is made of whole runs of stored bytes, functions that read its
            one-dimensional pieces, in any thread and order; None for another one.
    """
    stored = loads(expr)
    if stored is not None:
        for load in stored:
            yield load()
    elif isinstance(expr, Cast):
        stored = loads(expr.of[0])
        if stored is not None:
            yield from _cast_ahead(expr, stored, losses)
            return
        for piece in pieces(expr.of[0], source, read, losses, loads):
            yield from _cast_parts(expr, piece, losses)
    elif isinstance(expr, Reshape) or (isinstance(expr, Concat | Stack) and _outermost(expr, source)):
        for e in expr.of:
            yield from pieces(e, source, read, losses, loads)
    elif isinstance(expr, Resize) and (grown := _grown(expr, source)) is not None:
        dim, times, fill = grown
        tensor = evaluate(expr.of[0], read)
        if expr.method == "pad":
            yield tensor
            tensor = padding(tensor, dim, fill)
        yield from repeated(tensor, times)
    else:
        yield evaluate(expr, read)


def _cast_parts(expr: Cast, piece: torch.Tensor, losses: Losses) -> Iterator[torch.Tensor]:
    with one_thread(piece):
        flat = piece.reshape(-1)
    for start in range(0, flat.numel(), PIECE):
        yield cast(flat[start : start + PIECE], expr.dtype, expr.allow_overflow, losses)


def _cast_ahead(expr: Cast, stored: Iterator[Load], losses: Losses) -> Iterator[torch.Tensor]:
    """Read and cast in two threads, while who takes the results writes them."""

    def work(load: Load) -> tuple[list[torch.Tensor], Losses]:
        own = Losses()
        return list(_cast_parts(expr, load(), own)), own

    with ThreadPoolExecutor(2, thread_name_prefix="ckptkit-cast") as pool:
        jobs: deque[Future[tuple[list[torch.Tensor], Losses]]] = deque()
        try:
            while True:
                jobs.extend(pool.submit(work, load) for load in islice(stored, _AHEAD - len(jobs)))
                if not jobs:
                    return
                parts, lost = jobs.popleft().result()
                losses.add(lost)
                yield from parts
        finally:
            for job in jobs:
                job.cancel()


def _grown(expr: Resize, source: Mapping[str, TensorInfo]) -> tuple[int, int, Any] | None:
    """The one dimension in which a tensor grows by more of the same, how often, and with what; None for others."""
    shape = infer(expr.of[0], source).shape
    args: dict[str, Any] = dict(resolve(expr.method, shape, expr.shape, dict(expr.args)))
    dims = args.get("dims", ())
    if expr.method not in ("repeat", "pad") or len(dims) != 1 or size_of(shape[: dims[0]]) != 1:
        return None
    (dim,) = dims
    more = expr.shape[dim] // shape[dim] if expr.method == "repeat" else expr.shape[dim] - shape[dim]
    return dim, more, args.get("fill")


def _outermost(expr: Concat | Stack, source: Mapping[str, TensorInfo]) -> bool:
    """Whether the parts follow one another in memory."""
    shape = infer(expr.of[0], source).shape
    dim = expr.dim % (len(shape) + isinstance(expr, Stack))
    return size_of(shape[:dim]) == 1
