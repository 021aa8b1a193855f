"""Entries of LoadConfig.adapt: what brings a tensor to the model's shape."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..errors import PlanError
from ..expr import Expr, Resize
from ..resize import check_dtype, resolve
from ..resize.fields import ResizeFields
from ..rules.base import Keys
from ..signatures import TensorInfo
from ..text import quoted


class AdaptEntry(ResizeFields):
    """One entry; besides `keys` and `method` it takes the arguments of its method.

    Args:
        keys: patterns of the target keys it is for.
        method: a shape adapter, or ``reinit``, which keeps the model's own values.
    """

    _unsized: ClassVar[frozenset[str]] = frozenset({"reinit"})

    keys: Keys
    method: Literal[
        "interpolate", "rel_pos_table", "crop", "pad", "repeat", "input_channels", "inflate", "reinit"
    ]


def adapt_expr(entry: AdaptEntry, key: str, source: TensorInfo, target: TensorInfo, expr: Expr) -> Expr:
    """The expression that brings a tensor to the target's shape; its dtype stays.

    Args:
        entry: what to do; any method but ``reinit``.
        key: the target's key, for messages.
        source: shape and dtype of the checkpoint's tensor.
        target: those of the model's.
        expr: how the checkpoint's tensor is made.

    Returns:
        A `Resize` with everything it needs to know, or `expr` where the shapes are equal and the
        entry states no change of the grid.

    Raises:
        PlanError: the adapter does not apply, or something that it needs can neither be proved nor
            was stated; names the key, both shapes and what to give.
    """
    given = entry.given
    regrid = "grid" in given and "target_grid" in given and given["grid"] != given["target_grid"]
    if source == target or (source.shape == target.shape and source.kind == target.kind):
        if not regrid or source.kind == "object":
            return expr
    try:
        if source.kind == "object" or target.kind == "object":
            raise PlanError("an entry that is no tensor cannot be resized; leave it out of keys")
        check_dtype(source.dtype, given.get("fill"))
        args = resolve(entry.method, source.shape, target.shape, given)
    except PlanError as error:
        raise PlanError(
            f"{quoted(key)} cannot be adapted by {entry.method} from {list(source.shape)} in the checkpoint to "
            f"{list(target.shape)} in the model: {error.message}",
            key=key,
        ) from None
    return Resize(entry.method, target.shape, args, (expr,))
