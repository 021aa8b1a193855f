"""Rules that make several tensors of one, or a smaller one: split, unstack, slice."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..errors import ConfigError, PlanError
from ..expr import Expr, Select
from ..expr import Reshape as ReshapeExpr
from ..expr import Slice as SliceExpr
from ..expr.base import dimension
from ..regexes import read_template
from ..rewriting import expand, whole_matches
from ..text import quoted
from .base import Entry, Keys, NamingRule, Regex, Rule, State, Template
from .layout import listed, remake

MAX_PARTS = 100_000  # keys of one tensor: empty ones may have any number of entries
NewKey = Annotated[Template, Field(min_length=1)]


def check_templates(pattern: str, templates: list[str]) -> None:
    """Refuse templates that refer to groups a pattern lacks.

    Raises:
        ValueError: naming template and pattern.
    """
    for template in templates:
        try:
            read_template(pattern, template)
        except ConfigError as error:
            raise ValueError(error.message) from None


class Split(NamingRule):
    r"""Cut a tensor into parts along one dimension.

    Args:
        pattern: a regular expression that must match the whole key.
        into: templates of the parts' keys, in their order, with ``\1`` and ``\g<name>``.
        dim: the dimension; 0 without.
        sizes: entries of each part; equal parts, which must divide the dimension, without.
        groups: the dimension is that many groups, each of which holds its share of every part: fused
            projections that are interleaved by head. 1 without.
    """

    op: Literal["split"] = "split"
    pattern: Regex
    into: Annotated[list[NewKey], Field(min_length=1)]
    dim: int = 0
    sizes: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(listed)] | None = None
    groups: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_templates(self.pattern, self.into)
        if self.sizes is not None and len(self.sizes) != len(self.into):
            raise ValueError(
                f"{len(self.sizes)} sizes for {len(self.into)} parts; there must be one for each"
            )
        return self

    def apply(self, state: State) -> int:
        made = {}
        for key, match in whole_matches(self.pattern, state.keys):
            entry = state.entries[key]
            try:
                parts = self._parts(entry)
            except PlanError as error:
                raise PlanError(f"{quoted(key)}: {error.message}", key=key) from None
            made[key] = [
                (expand(self.pattern, name, key, match), state.made(part, key, entry))
                for name, part in zip(self.into, parts, strict=True)
            ]
        state.rebuild(made)
        return len(made)

    def _parts(self, entry: Entry) -> list[Expr]:
        shape = entry.info.shape
        if entry.info.kind == "object":
            raise PlanError("an entry that is no tensor cannot be split; make the pattern leave it out")
        dim = dimension(self.dim, shape, self.op)
        sizes = self._sizes(shape[dim], dim)
        uneven = [size for size in (*sizes, shape[dim]) if size % self.groups]
        if uneven:
            raise PlanError(f"split: {self.groups} groups do not divide a part of {uneven[0]} entries")
        parts: list[Expr] = []
        start = 0
        before, after = shape[:dim], shape[dim + 1 :]
        whole = entry.expr
        if self.groups > 1:
            whole = ReshapeExpr((*before, self.groups, shape[dim] // self.groups, *after), (whole,))
        for size in sizes:
            if self.groups == 1:
                parts.append(SliceExpr(dim, start, start + size, (whole,)))
            else:
                low, high = start // self.groups, (start + size) // self.groups
                part = SliceExpr(dim + 1, low, high, (whole,))
                parts.append(ReshapeExpr((*before, size, *after), (part,)))
            start += size
        return parts

    def _sizes(self, total: int, dim: int) -> list[int]:
        if self.sizes is None:
            size, rest = divmod(total, len(self.into))
            if rest:
                raise PlanError(
                    f"split: dimension {dim} has {total} entries, which {len(self.into)} equal parts do not divide; "
                    "give sizes"
                )
            return [size] * len(self.into)
        if sum(self.sizes) != total:
            raise PlanError(
                f"split: the sizes {quoted(self.sizes)} make {sum(self.sizes)}, dimension {dim} has {total} entries"
            )
        return list(self.sizes)


class Unstack(NamingRule):
    r"""Give every entry along one dimension a key of its own; the dimension goes away.

    Args:
        pattern: a regular expression that must match the whole key.
        into: template of the parts' keys; the literal ``{index}`` is replaced by 0, 1, ...
        dim: the dimension; 0 without.
    """

    op: Literal["unstack"] = "unstack"
    pattern: Regex
    into: NewKey
    dim: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_templates(self.pattern, [self.into])
        if "{index}" not in self.into:
            raise ValueError("into needs the literal {index}, e.g. '\\1.experts.{index}.weight'")
        return self

    def apply(self, state: State) -> int:
        # Groups are expanded first around a mark, so that a key which holds "{index}" itself stays as it is.
        head, *tails = self.into.split("{index}")
        made = {}
        for key, match in whole_matches(self.pattern, state.keys):
            entry = state.entries[key]
            if entry.info.kind == "object":
                raise PlanError(f"{quoted(key)} is no tensor, so it cannot be unstacked", key=key)
            try:
                dim = dimension(self.dim, entry.info.shape, self.op)
            except PlanError as error:
                raise PlanError(f"{quoted(key)}: {error.message}", key=key) from None
            if entry.info.shape[dim] > MAX_PARTS:
                raise PlanError(
                    f"{quoted(key)}: unstack: dimension {dim} of {list(entry.info.shape)} would give "
                    f"{entry.info.shape[dim]} keys; {MAX_PARTS} is the limit",
                    key=key,
                )
            pieces = [expand(self.pattern, piece, key, match) for piece in (head, *tails)]
            made[key] = [
                (str(index).join(pieces), state.made(Select(dim, index, (entry.expr,)), key, entry))
                for index in range(entry.info.shape[dim])
            ]
            if not made[key]:
                raise PlanError(
                    f"{quoted(key)}: unstack: dimension {dim} of {list(entry.info.shape)} is empty", key=key
                )
        state.rebuild(made)
        return len(made)


class Slice(Rule):
    """Keep a part of the entries along one dimension; the others are lost.

    Args:
        keys: patterns of the keys.
        dim: the dimension; 0 without.
        start, stop: first entry and end; negative ones count from the end. All without.
        step: every how many-th.
    """

    op: Literal["slice"] = "slice"
    keys: Keys
    dim: int = 0
    start: int = 0
    stop: int | None = None
    step: Annotated[int, Field(ge=1)] = 1

    def apply(self, state: State) -> int:
        def make(entry: Entry) -> Expr:
            dim = dimension(self.dim, entry.info.shape, self.op)
            size = entry.info.shape[dim]
            start = self.start + size if self.start < 0 else self.start
            stop = size if self.stop is None else self.stop + size if self.stop < 0 else self.stop
            return SliceExpr(dim, start, stop, (entry.expr,), self.step)

        return remake(state, self.selected(list(self.keys), state.keys), make)
