"""Rules that put the same elements in another order: transpose, permute, reshape, rotary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..errors import PlanError
from ..expr import Concat as ConcatExpr
from ..expr import Expr, Slice
from ..expr import Permute as PermuteExpr
from ..expr import Reshape as ReshapeExpr
from ..expr import Transpose as TransposeExpr
from ..expr.base import dimension
from ..expr.views import reshaped
from ..text import quoted
from .base import Entry, Keys, Rule, State

Shape = tuple[int, ...]


def listed(value: Any) -> Any:
    """Python users write tuples where files have lists."""
    return list(value) if isinstance(value, tuple) else value


MAX_DIMS = 64  # that a tensor of torch can have
Integers = Annotated[list[int], Field(min_length=1, max_length=MAX_DIMS), BeforeValidator(listed)]


def remake(state: State, keys: list[str], make: Callable[[Entry], Expr]) -> int:
    """Give every key a new expression over its old one; the number of keys."""
    made = {}
    for key in keys:
        entry = state.entries[key]
        try:
            if entry.info.kind == "object":
                raise PlanError("an entry that is no tensor has no shape; leave it out of keys")
            expr = make(entry)
        except PlanError as error:
            raise PlanError(f"{quoted(key)}: {error.message}", key=key) from None
        made[key] = [(key, state.made(expr, key, entry))]
    state.rebuild(made)
    return len(made)


class Transpose(Rule):
    """Swap two dimensions.

    Args:
        keys: patterns of the keys.
        dims: the two; negative ones count from the end. The first two without.
    """

    op: Literal["transpose"] = "transpose"
    keys: Keys
    dims: Annotated[list[int], Field(min_length=2, max_length=2), BeforeValidator(listed)] = Field([0, 1])

    def apply(self, state: State) -> int:
        one, other = self.dims
        keys = self.selected(list(self.keys), state.keys)
        return remake(state, keys, lambda entry: TransposeExpr((one, other), (entry.expr,)))


class Permute(Rule):
    """Put dimensions in another order, or the parts of one dimension.

    With `view`, dimension `dim` is seen as that shape, its parts are put in the order `dims`, and it is
    flattened again: the heads, halves and pairs that a projection's rows are made of.

    Args:
        keys: patterns of the keys.
        dims: the new order, as `Tensor.permute` takes it.
        dim: the dimension that `view` is about; 0 without.
        view: sizes of its parts, their product its size; one may be -1.
    """

    op: Literal["permute"] = "permute"
    keys: Keys
    dims: Integers
    dim: int = 0
    view: Integers | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.view is None and "dim" in self.model_fields_set:
            raise ValueError("dim goes with view, the sizes that the dimension is made of")
        if self.view is not None:
            if sorted(d % len(self.view) for d in self.dims) != list(range(len(self.view))):
                raise ValueError(
                    f"dims {self.dims} must name each of the {len(self.view)} parts of view once"
                )
            if self.view.count(-1) > 1 or any(n < 1 and n != -1 for n in self.view):
                raise ValueError("view holds positive sizes, of which one may be -1")
        return self

    def apply(self, state: State) -> int:
        def make(entry: Entry) -> Expr:
            if self.view is None:
                return PermuteExpr(tuple(self.dims), (entry.expr,))
            return reordered(entry.expr, entry.info.shape, self.dim, tuple(self.view), tuple(self.dims))

        return remake(state, self.selected(list(self.keys), state.keys), make)


def reordered(expr: Expr, shape: Shape, dim: int, view: Shape, order: Shape) -> Expr:
    """One dimension seen as `view`, its parts put in another order, and flattened again.

    Raises:
        PlanError: the sizes do not make the dimension.
    """
    dim = dimension(dim, shape, "permute")
    before, after = shape[:dim], shape[dim + 1 :]
    try:
        parts = reshaped((shape[dim],), view)
    except PlanError:
        raise PlanError(
            f"permute: dimension {dim} of {list(shape)} cannot be seen as {list(view)}, whose product is not "
            f"{shape[dim]}"
        ) from None
    inner = [dim + part % len(parts) for part in order]
    rest = range(dim + len(parts), dim + len(parts) + len(after))
    seen = ReshapeExpr((*before, *parts, *after), (expr,))
    return ReshapeExpr(shape, (PermuteExpr((*range(dim), *inner, *rest), (seen,)),))


class Reshape(Rule):
    """The same elements in row-major order in another shape.

    Args:
        keys: patterns of the keys.
        shape: the new shape; one size may be -1.
    """

    op: Literal["reshape"] = "reshape"
    keys: Keys
    shape: Annotated[list[int], Field(max_length=MAX_DIMS), BeforeValidator(listed)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape.count(-1) > 1 or any(n < -1 for n in self.shape):
            raise ValueError("at most one size may be -1, none less")
        return self

    def apply(self, state: State) -> int:
        wanted = tuple(self.shape)
        keys = self.selected(list(self.keys), state.keys)
        return remake(
            state, keys, lambda entry: ReshapeExpr(reshaped(entry.info.shape, wanted), (entry.expr,))
        )


class Rotary(Rule):
    """Change between the two layouts of rotary position embeddings (Su et al. 2021).

    The pairs that are rotated together lie side by side in one layout (``interleaved``: 0 1 2 3 are
    pairs 0-1, 2-3; Meta's Llama) and half a head apart in the other (``half``: 0-2, 1-3; Hugging Face).
    The rows of the query and key projections, and their biases, follow.

    Args:
        keys: patterns of the query and key projections.
        heads: how many heads the dimension holds.
        to: the layout to reach, ``half`` or ``interleaved``.
        dim: the dimension with the heads.
        rotary_dim: how many entries at the start of each head are rotated; all without.
    """

    op: Literal["rotary"] = "rotary"
    keys: Keys
    heads: Annotated[int, Field(ge=1)]
    to: Literal["half", "interleaved"]
    dim: int = 0
    rotary_dim: Annotated[int, Field(ge=2)] | None = None

    def apply(self, state: State) -> int:
        return remake(
            state,
            self.selected(list(self.keys), state.keys),
            lambda entry: self._expr(entry.expr, entry.info.shape),
        )

    def _expr(self, expr: Expr, shape: Shape) -> Expr:
        dim = dimension(self.dim, shape, self.op)
        size, rest = divmod(shape[dim], self.heads)
        if rest:
            raise PlanError(f"rotary: {self.heads} heads do not divide dimension {dim} of {list(shape)}")
        rotated = self.rotary_dim or size
        if rotated % 2 or rotated > size:
            raise PlanError(f"rotary: {rotated} of the {size} entries of a head cannot be rotated in pairs")
        pairs = (2, rotated // 2) if self.to == "interleaved" else (rotated // 2, 2)
        if rotated == size:
            return reordered(expr, shape, dim, (self.heads, *pairs), (0, 2, 1))
        before, after = shape[:dim], shape[dim + 1 :]
        headed = ReshapeExpr((*before, self.heads, size, *after), (expr,))
        turned = Slice(dim + 1, 0, rotated, (headed,))
        kept = Slice(dim + 1, rotated, size, (headed,))
        inner = reordered(turned, (*before, self.heads, rotated, *after), dim + 1, pairs, (1, 0))
        return ReshapeExpr(shape, (ConcatExpr(dim + 1, (inner, kept)),))
