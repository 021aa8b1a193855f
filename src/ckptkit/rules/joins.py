"""Rules that make one tensor of several: concat, stack. A group that lacks a part is an error that names it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..errors import PlanError
from ..expr import Concat as ConcatExpr
from ..expr import Expr
from ..expr import Reshape as ReshapeExpr
from ..expr import Stack as StackExpr
from ..expr.base import dimension
from ..regexes import Budget, compile_regex, read_template, with_groups
from ..rewriting import expand, whole_matches
from ..text import quote_list, quoted
from .base import Entry, NamingRule, Regex, State
from .layout import listed
from .parts import NewKey, check_templates
from .refusals import collision


class Concat(NamingRule):
    r"""Put tensors one after the other along one dimension.

    Args:
        patterns: one for each part, in their order; each must match the whole key.
        into: template of the new key; parts whose templates give the same key belong together.
        dim: the dimension; 0 without.
        groups: the parts are interleaved: each of so many groups takes its share of every part. 1 without.
    """

    op: Literal["concat"] = "concat"
    patterns: Annotated[list[Regex], Field(min_length=1), BeforeValidator(listed)]
    into: NewKey
    dim: int = 0
    groups: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        for pattern in self.patterns:
            check_templates(pattern, [self.into])
        return self

    def apply(self, state: State) -> int:
        found: dict[str, list[str | None]] = {}
        budget = Budget()
        for number, pattern in enumerate(self.patterns):
            for key, match in whole_matches(pattern, state.keys, budget):
                into = expand(pattern, self.into, key, match)
                state.check_name(into, key)
                parts = found.setdefault(into, [None] * len(self.patterns))
                first = parts[number]
                if first is not None:
                    raise PlanError(
                        f"{quoted(first)} and {quoted(key)} both match {quoted(pattern)} for "
                        f"{quoted(into)}; make the pattern tell them apart",
                        key=key,
                    )
                parts[number] = key
        groups = {into: self._complete(into, parts) for into, parts in found.items()}
        return join(state, groups, self._expr)

    def _complete(self, into: str, parts: list[str | None]) -> list[str]:
        there = [(number, key) for number, key in enumerate(parts) if key is not None]
        if len(there) < len(parts):
            missing = [number for number, key in enumerate(parts) if key is None]
            names = [self._name(number, there[0]) for number in missing]
            raise PlanError(
                f"{quoted(into)} lacks {'a part' if len(names) == 1 else f'{len(names)} parts'}: there is no "
                f"{quote_list(names, 3)}, beside {quote_list([key for _, key in there], 3)}",
                key=names[0],
            )
        return [key for _, key in there]

    def _name(self, number: int, other: tuple[int, str]) -> str:
        """What a missing part would be called, after the groups of one that is there."""
        known = compile_regex(self.patterns[other[0]]).fullmatch(other[1])
        name = with_groups(self.patterns[number], known.groups()) if known else None
        return name if name is not None else f"key that matches {self.patterns[number]}"

    def _expr(self, parts: Sequence[Entry]) -> Expr:
        if self.groups == 1:
            return ConcatExpr(self.dim, tuple(part.expr for part in parts))
        grouped = []
        total = 0
        shape = parts[0].info.shape
        dim = dimension(self.dim, shape, self.op)
        for part in parts:
            own = part.info.shape
            if len(own) != len(shape):
                raise PlanError(f"concat: the parts {list(shape)} and {list(own)} differ in their dimensions")
            if own[dim] % self.groups:
                raise PlanError(f"concat: {self.groups} groups do not divide a part of {own[dim]} entries")
            split = (*own[:dim], self.groups, own[dim] // self.groups, *own[dim + 1 :])
            grouped.append(ReshapeExpr(split, (part.expr,)))
            total += own[dim]
        whole = ConcatExpr(dim + 1, tuple(grouped))
        return ReshapeExpr((*shape[:dim], total, *shape[dim + 1 :]), (whole,))


class Stack(NamingRule):
    r"""Put tensors of one shape side by side along a new dimension.

    Args:
        pattern: must match the whole key; its group ``(?P<index>\d+)`` is the place in the stack.
        into: template of the new key, which must not use the index.
        dim: the new dimension; 0 without.
        renumber: whether the indices may have gaps; without, they run 0, 1, ...
    """

    op: Literal["stack"] = "stack"
    pattern: Regex
    into: NewKey
    dim: int = 0
    renumber: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        regex = compile_regex(self.pattern)
        if "index" not in regex.groupindex:
            raise ValueError(r"the pattern of stack needs a group named index, e.g. (?P<index>\d+)")
        check_templates(self.pattern, [self.into])
        number = regex.groupindex["index"]
        if number in read_template(self.pattern, self.into).parts:
            raise ValueError("into must not use the group index: all parts of a stack share one key")
        return self

    def apply(self, state: State) -> int:
        found: dict[str, dict[int, str]] = {}
        for key, match in whole_matches(self.pattern, state.keys):
            index = match.group("index")
            if index is None or not index.isascii() or not index.isdigit() or len(index) > 18:
                raise PlanError(
                    f"stack: the group index matched {quoted(index)} in {quoted(key)}, which is no number",
                    key=key,
                )
            into = expand(self.pattern, self.into, key, match)
            state.check_name(into, key)
            parts = found.setdefault(into, {})
            if int(index) in parts:
                raise collision(parts[int(index)], key, into)
            parts[int(index)] = key
        groups = {into: self._complete(into, parts) for into, parts in found.items()}
        return join(state, groups, lambda parts: StackExpr(self.dim, tuple(part.expr for part in parts)))

    def _complete(self, into: str, parts: dict[int, str]) -> list[str]:
        order = sorted(parts)
        if not self.renumber and order != list(range(len(order))):
            gap = next(n for n in range(order[-1]) if n not in parts)
            last = parts[order[-1]]
            match = compile_regex(self.pattern).fullmatch(last)
            assert match is not None
            start, end = match.span("index")
            raise PlanError(
                f"{quoted(into)} lacks a part: there is no {quoted(last[:start] + str(gap) + last[end:])}, "
                f"but there is {quoted(last)}; "
                "renumber: true stacks what is there",
                key=last[:start] + str(gap) + last[end:],
            )
        return [parts[index] for index in order]


def join(state: State, groups: dict[str, list[str]], make: Callable[[Sequence[Entry]], Expr]) -> int:
    """Put one new key where the first of its parts stands; the number of parts."""
    made: dict[str, list[tuple[str, Entry]]] = {}
    users: dict[str, str] = {}
    for into, keys in groups.items():
        for key in keys:
            if users.setdefault(key, into) != into:
                raise PlanError(
                    f"{quoted(key)} would go into {quoted(users[key])} and {quoted(into)}; copy it first",
                    key=key,
                )
        parts = [state.entries[key] for key in keys]
        try:
            expr = make(parts)
            entry = state.made(expr, into, *parts)
        except PlanError as error:
            text = error.message.removeprefix(f"{quoted(into)}: ")
            raise PlanError(f"{quoted(into)} of {quote_list(keys, 4)}: {text}", key=into) from None
        made.setdefault(keys[0], []).append((into, entry))
    state.rebuild(made, users)
    return len(users)
