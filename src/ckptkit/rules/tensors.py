"""Rules that make tensors: cast, copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .. import dtypes
from ..dtype_names import as_name, named_dtype
from ..errors import ConfigError, PlanError
from ..expr import Cast as CastExpr
from ..expr import Expr
from ..patterns import select
from ..regexes import read_template
from ..rewriting import expand, whole_matches
from ..signatures import TensorInfo
from ..text import quoted
from .base import Entry, Keys, NamingRule, Regex, Rule, State, Template, Text, no_match

if TYPE_CHECKING:
    DTypeName = str
else:
    DTypeName = Annotated[str, BeforeValidator(as_name), AfterValidator(named_dtype)]


class Cast(Rule):
    """Change the dtype of the selected tensors.

    A cast to a floating dtype leaves integer, bool and complex tensors alone, unless a pattern
    without wildcards names them.

    Args:
        dtype: e.g. ``bfloat16``; short names such as ``bf16``, ``fp32`` and ``half`` are understood.
        keys: patterns of the keys to cast; all without.
        allow_overflow: whether finite values may become infinite. Without, they stop the remap.
    """

    op: Literal["cast"] = "cast"
    dtype: DTypeName
    keys: Keys | None = None
    allow_overflow: bool = False

    def apply(self, state: State) -> int:
        every = state.keys
        patterns = ["*"] if self.keys is None else list(self.keys)
        found = select(patterns, every)
        if found.unmatched and self.required:
            raise PlanError(no_match(found.unmatched[0], "pattern", every))
        floating = dtypes.is_floating(self.dtype)

        def make(key: str, entry: Entry) -> tuple[Expr, TensorInfo]:
            spared = floating and not dtypes.is_floating(entry.info.dtype) and key not in found.by_name
            if spared or entry.info.dtype == self.dtype:
                return entry.expr, entry.info
            if entry.info.kind == "object":
                raise PlanError(
                    f"{quoted(key)} is no tensor, so it cannot be cast to {self.dtype}; leave it out of keys",
                    key=key,
                )
            expr = CastExpr(self.dtype, (entry.expr,), self.allow_overflow)
            return expr, expr.infer((entry.info,))

        touched = [k for k in found.keys if state.entries[k].info.kind == "tensor" or k in found.by_name]
        state.replace(make, touched)
        return len(touched)


class Copy(NamingRule):
    r"""Give a tensor a second key, with a copy of its own or tied to the first.

    Either `key` with a plain `into`, or `pattern` with a template `into` (siamese towers).

    Args:
        key: the key to copy.
        pattern: a regular expression that must match the whole key.
        into: the new key; with `pattern` a template with ``\1`` and ``\g<name>``.
        tie: whether the two keys are one tensor, as an embedding and an output layer that shares it.
    """

    op: Literal["copy"] = "copy"
    key: Text | None = None
    pattern: Regex | None = None
    into: Annotated[Template, Field(min_length=1)]
    tie: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.key is None) == (self.pattern is None):
            raise ValueError("copy needs either key or pattern")
        if self.pattern is not None:
            try:
                read_template(self.pattern, self.into)
            except ConfigError as error:
                raise ValueError(error.message) from None
        return self

    def apply(self, state: State) -> int:
        copies = self._copies(state)
        made: dict[str, list[tuple[str, Entry]]] = {}
        for key, new in copies.items():
            entry = state.entries[key]
            touched = Entry(entry.expr, entry.info, (*entry.rules, state.index), entry.tie or self.tie)
            made[key] = [(key, touched), (new, touched)]
        state.rebuild(made)
        return len(copies)

    def _copies(self, state: State) -> dict[str, str]:
        if self.key is not None:
            if self.key in state.entries:
                return {self.key: self.into}
            if self.required:
                raise PlanError(no_match(self.key, "key", state.keys), key=self.key)
            return {}
        assert self.pattern is not None
        matches = whole_matches(self.pattern, state.keys)
        return {key: expand(self.pattern, self.into, key, match) for key, match in matches}
