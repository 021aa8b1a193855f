"""A plan over a source: again a source, whose tensors are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .computed import byte_parts, computed_bytes
from .errors import CastError, FormatError
from .expr import Expr, Read, evaluate, with_reads
from .expr.casting import Losses
from .expr.growth import room_for
from .formats.base import Buffer, Item, Source, Storage, View
from .formats.expanded import check_expanded
from .formats.tensor_bytes import tensor_bytes
from .named_metadata import moved_metadata
from .plans import Output, Plan
from .state_metadata import moved_state_metadata

if TYPE_CHECKING:
    import torch


class PlannedSource(Source):
    """The result of a plan, read lazily.

    Args:
        base: the source the plan was made for.
        plan: what to do with it.

    Raises:
        FormatError: the source lacks a key that the plan reads.
    """

    def __init__(self, base: Source, plan: Plan) -> None:
        self.base = base
        self.plan = plan
        self.format = base.format
        self.path = base.path
        self.files = base.files
        named = moved_metadata(plan)
        self.signature = replace(plan.signature, metadata=named.entries)
        earlier: tuple[str, ...] = base.stale_metadata if isinstance(base, PlannedSource) else ()
        self.stale_metadata: tuple[str, ...] = (*earlier, *named.notes)
        versions = moved_state_metadata(base.state_metadata, plan)
        self.state_metadata = versions.entries
        self.left_out = (*base.left_out, *versions.left_out)
        self.remarks = versions.notes
        self.notes = (
            *base.notes,
            *named.notes,
            *versions.notes,
            *(f"left out: {line}" for line in versions.left_out),
        )
        self.companions = base.companions
        self.surroundings = base.surroundings
        self.losses: dict[str, Losses] = {}
        self._outputs = {output.key: output for output in plan.outputs}

    def output(self, key: str) -> Output:
        """How a key is made."""
        return self._outputs[key]

    def view(self, key: str) -> View:
        expr = self._outputs[key].expr
        if isinstance(expr, Read):
            return self.base.view(expr.key)
        raise FormatError(f"{key!r} is computed ({expr.op}), so it has no bytes of its own yet", key=key)

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        return self.base.read(storage, start, stop)

    def storage_size(self, key: str) -> int | None:
        expr = self._outputs[key].expr
        return self.base.storage_size(expr.key) if isinstance(expr, Read) else None

    def check(self, storage: Storage) -> None:
        self.base.check(storage)

    def tensor(self, key: str) -> torch.Tensor:
        return self._evaluated(key, self.base.tensor)

    def loaded(self, key: str) -> torch.Tensor:
        return self._evaluated(key, self.base.loaded)

    def _evaluated(self, key: str, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        expr = self._outputs[key].expr
        if not isinstance(expr, Read):
            check_expanded(self.base, expr.reads())
        try:
            with room_for(key, self.signature[key]):
                return evaluate(expr, read)
        except CastError as error:
            raise CastError(f"{key!r}: {error.message}", key=key) from None

    def verify(self, keys: Iterable[str]) -> None:
        self.base.verify(dict.fromkeys(read for key in keys for read in self._outputs[key].expr.reads()))

    def value(self, key: str) -> Any:
        (source_key,) = self._outputs[key].expr.reads()
        return self.base.value(source_key)

    def check_unchanged(self) -> None:
        self.base.check_unchanged()

    def close(self) -> None:
        self.base.close()


def items(source: Source) -> list[Item]:
    """The entries of a source, ready for a writer: as byte views where they stand, computed where planned.

    Raises:
        FormatError: a tensor has no plain data (meta, sparse, quantised), or one that is computed with repeats
            a few bytes without end; names it.
    """
    tie_of = {key: number for number, group in enumerate(source.signature.tied) for key in group}
    found = [item(source, key, tie_of.get(key)) for key in source.signature]
    _check_computed(source, (each.key for each in found if each.make is not None))
    return found


def _check_computed(source: Source, keys: Iterable[str]) -> None:
    """Refuse what cannot be computed with; views that are only renamed may stay what they are."""
    read: dict[str, None] = {}
    holder = source
    for key in keys:
        expr, holder = settled(source, key)
        read.update(dict.fromkeys(expr.reads()))
    check_expanded(holder, read)


def described(source: Source) -> list[Item]:
    """The entries without any data, for targets that hold none."""
    tie_of = {key: number for number, group in enumerate(source.signature.tied) for key in group}
    return [Item(key, info, tie=tie_of.get(key)) for key, info in source.signature.tensors.items()]


def item(source: Source, key: str, tie: int | None = None) -> Item:
    """One entry, ready for a writer; arguments and errors as for `items`, `tie` is the number of its group."""
    info = source.signature[key]
    if info.kind == "object":
        return Item(key, info, value=source.value(key))
    expr, holder = settled(source, key)
    if not isinstance(expr, Read):
        losses = source.losses if isinstance(source, PlannedSource) else {}
        make = partial(computed_bytes, key, expr, holder, losses)
        return Item(key, info, source=holder, make=make, parts=byte_parts(expr, holder), tie=tie)
    flags = holder.flags(expr.key)
    if holder.lazy(expr.key):
        return Item(key, info, make=partial(_resolved, holder, expr.key), tie=tie, flags=flags)
    return Item(key, info, source=holder, view=holder.view(expr.key), tie=tie, flags=flags)


def settled(source: Source, key: str) -> tuple[Expr, Source]:
    """How a key is made of the keys of the opened source below any number of plans."""
    return settled_expr(Read(key), source)


def settled_expr(expr: Expr, source: Source) -> tuple[Expr, Source]:
    """An expression over the keys of the opened source below any number of plans, and that source."""
    while isinstance(source, PlannedSource):
        holder = source
        expr = with_reads(expr, lambda name: holder.output(name).expr)  # noqa: B023 - used up in this turn
        source = source.base
    return expr, source


def _resolved(source: Source, key: str) -> Iterator[Buffer]:
    return tensor_bytes(source.loaded(key).resolve_conj().resolve_neg())
