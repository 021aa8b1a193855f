"""The bytes of outputs that are made of something: copied runs where they can be, computed pieces else."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from .dtypes import DTYPES
from .errors import CastError
from .expr import Expr
from .expr.casting import Losses
from .expr.runs import Run, runs
from .expr.streams import pieces
from .formats.base import Buffer, Source
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
        FormatError: the source is damaged.
    """
    reader = _Reader(source)
    found = reader.runs(expr)
    if found is not None:
        for run in found:
            yield from reader.bytes(run)
        return
    lost = Losses()
    try:
        for piece in pieces(expr, source.signature, reader.tensor, lost, reader.elements):
            yield from tensor_bytes(piece)
    except CastError as error:
        raise CastError(f"{key!r}: {error.message}", key=key) from None
    if lost:
        losses[key] = lost


class _Reader:
    """What `computed_bytes` reads, and which checksums it has compared."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.verified: set[Hashable] = set()

    def runs(self, expr: Expr) -> list[Run] | None:
        return runs(expr, self.source.signature, self._whole)

    def _whole(self, key: str) -> bool:
        if self.source.signature[key].kind == "object":
            return False
        return not self.source.lazy(key) and self.source.view(key).contiguous

    def tensor(self, key: str) -> torch.Tensor:
        return self.source.tensor(key).detach().resolve_conj().resolve_neg()

    def bytes(self, run: Run) -> Iterator[Buffer]:
        view = self.source.view(run.key)
        width = DTYPES[view.dtype].bits // 8
        start = (view.offset + run.start) * width
        stop = start + run.count * width
        region = view.storage.region
        part = (start, stop) != (0, view.storage.nbytes)
        if part and region is not None and region.crc is not None and view.storage.id not in self.verified:
            for _ in self.source.read(view.storage, 0, view.storage.nbytes):
                pass  # reading all of a storage compares its checksum
            self.verified.add(view.storage.id)
        yield from self.source.read(view.storage, start, stop)

    def elements(self, expr: Expr) -> Iterator[torch.Tensor] | None:
        found = self.runs(expr)
        return None if found is None else self._elements(found)

    def _elements(self, found: list[Run]) -> Iterator[torch.Tensor]:
        import torch

        for run in found:
            name = self.source.signature[run.key].dtype
            dtype: torch.dtype = getattr(torch, name)
            width = DTYPES[name].bits // 8
            rest = bytearray()
            for chunk in self.bytes(run):
                rest += chunk
                whole = len(rest) // width * width
                data, rest = (rest, bytearray()) if whole == len(rest) else (rest[:whole], rest[whole:])
                if whole:
                    yield torch.frombuffer(data, dtype=dtype)
