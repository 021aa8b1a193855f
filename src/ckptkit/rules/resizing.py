"""The rule that brings tensors to another shape by one of the shape adapters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ..errors import PlanError
from ..expr import Expr
from ..expr import Resize as ResizeExpr
from ..resize import check_dtype, resolve
from ..resize.fields import ResizeFields
from .base import Entry, Keys, Rule, State
from .layout import MAX_DIMS, listed, remake

Size = Annotated[int, Field(ge=-1)]


class Resize(Rule, ResizeFields):
    """Another shape: positions interpolated, rows cropped or padded, channels repeated or summed.

    Args:
        keys: patterns of the keys.
        shape: the shape to reach; -1 keeps a dimension as it is.
        method: the shape adapter; the other arguments are its own.
    """

    op: Literal["resize"] = "resize"
    keys: Keys
    shape: Annotated[list[Size], Field(max_length=MAX_DIMS), BeforeValidator(listed)]
    method: Literal["interpolate", "rel_pos_table", "crop", "pad", "repeat", "input_channels", "inflate"]

    def apply(self, state: State) -> int:
        return remake(state, self.selected(list(self.keys), state.keys), self._expr)

    def _expr(self, entry: Entry) -> Expr:
        source, given = entry.info.shape, self.given
        if -1 in self.shape and len(self.shape) != len(source):
            raise PlanError(
                f"resize: -1 keeps a dimension, but {self.shape} and {list(source)} differ in theirs"
            )
        shape = tuple(source[i] if n == -1 else n for i, n in enumerate(self.shape))
        regrid = "grid" in given and "target_grid" in given and given["grid"] != given["target_grid"]
        if shape == source and not regrid:
            return entry.expr
        try:
            check_dtype(entry.info.dtype, given.get("fill"))
            args = resolve(self.method, source, shape, given)
        except PlanError as error:
            raise PlanError(
                f"cannot be resized by {self.method} from {list(source)} to {list(shape)}: {error.message}"
            ) from None
        return ResizeExpr(self.method, shape, args, (entry.expr,))
