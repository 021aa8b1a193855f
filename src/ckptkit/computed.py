"""The bytes of outputs that are made of something: copied runs where they can be, computed pieces else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from .dtypes import DTYPES
from .errors import CastError
from .expr import Expr, infer
from .expr.casting import Losses
from .expr.growth import room_for
from .expr.runs import Run, runs
from .expr.streams import Load, pieces
from .formats.base import CHUNK, Buffer, Source, View
from .formats.expanded import check_expanded
from .formats.tensor_bytes import tensor_bytes

if TYPE_CHECKING:
    import torch


def computed_bytes(key: str, expr: Expr, source: Source, losses: dict[str, Losses]) -> Iterator[Buffer]:
    """The little-endian bytes of an expression's result in row-major order.

    Memory holds one piece at a time where the operations allow it, else the inputs of one operation and
    its result. Runs of stored bytes are passed on without torch.

    Args:
        key: the output's key, for messages and for `losses`.
        expr: over the keys of `source`.
        source: opened; no `PlannedSource`.
        losses: gets an entry when a cast loses values.

    Raises:
        CastError: values overflow, and may not; names the key.
        FormatError: the source is damaged, or repeats a few bytes without end.
        PlanError: there is no memory for it.
    """
    check_expanded(source, expr.reads())
    reader = _Reader(source)
    found = reader.runs(expr)
    if found is not None:
        for run in found:
            yield from reader.bytes(run)
        return
    lost = Losses()
    try:
        with room_for(key, infer(expr, source.signature)):
            for piece in pieces(expr, source.signature, reader.tensor, lost, reader.loads):
                yield from tensor_bytes(piece)
    except CastError as error:
        raise CastError(f"{key!r}: {error.message}", key=key) from None
    if lost:
        losses[key] = lost


def byte_parts(expr: Expr, source: Source) -> tuple[View, ...]:
    """The contiguous views of files whose bytes, one after the other, are an expression's result; none else."""
    found = _Reader(source).runs(expr) or []
    parts = []
    for run in found:
        view = source.view(run.key)
        if view.storage.region is None:
            return ()
        parts.append(View(view.storage, view.offset + run.start, (run.count,), (1,), view.dtype))
    return tuple(parts)


class _Reader:
    """What `computed_bytes` reads."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def runs(self, expr: Expr) -> list[Run] | None:
        return runs(expr, self.source.signature, self._whole)

    def _whole(self, key: str) -> bool:
        if self.source.signature[key].kind == "object":
            return False
        return not self.source.lazy(key) and self.source.view(key).contiguous

    def tensor(self, key: str) -> torch.Tensor:
        return self.source.loaded(key).detach().resolve_conj().resolve_neg()

    def bytes(self, run: Run) -> Iterator[Buffer]:
        view = self.source.view(run.key)
        width = DTYPES[view.dtype].bits // 8
        start = (view.offset + run.start) * width
        yield from self.source.read(view.storage, start, start + run.count * width)

    def loads(self, expr: Expr) -> Iterator[Load] | None:
        found = self.runs(expr)
        return None if found is None else self._loads(found)

    def _loads(self, found: list[Run]) -> Iterator[Load]:
        for run in found:
            view = self.source.view(run.key)
            self.source.check(view.storage)  # once, and not in each of the threads that load
            step = CHUNK * 8 // DTYPES[view.dtype].bits
            for start in range(run.start, run.start + run.count, step):
                yield partial(self._load, view, start, min(step, run.start + run.count - start))

    def _load(self, view: View, start: int, count: int) -> torch.Tensor:
        import torch

        width = DTYPES[view.dtype].bits // 8
        first = (view.offset + start) * width
        data = bytearray()
        for chunk in self.source.read(view.storage, first, first + count * width):
            data += chunk
        dtype: torch.dtype = getattr(torch, view.dtype)
        return torch.frombuffer(data, dtype=dtype)
