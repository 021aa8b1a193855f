"""Expressions that make other values: another dtype, or another shape by a shape adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import dtypes
from ..errors import PlanError
from ..resize import Args, check_dtype, resolve
from ..resize.methods import resize
from ..signatures import TensorInfo
from ..text import quoted
from .base import Expr
from .casting import cast

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """Another dtype, with torch's `Tensor.to` semantics.

    Args:
        dtype: its name.
        of: the input.
        allow_overflow: whether finite values may become infinite (or NaN, in dtypes without infinity).
    """

    dtype: str
    of: tuple[Expr, ...]
    allow_overflow: bool = False
    op: ClassVar[str] = "cast"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        (source,) = inputs
        for name in (source.dtype, self.dtype):
            if name not in dtypes.DTYPES or not dtypes.DTYPES[name].torch:
                raise PlanError(
                    f"torch has no dtype {quoted(name)}, so a cast from {source.dtype} to {self.dtype} is not possible"
                )
            if dtypes.DTYPES[name].kind == "other" and source.dtype != self.dtype:
                raise PlanError(
                    f"{name} packs several numbers into one element, which torch cannot take apart: no cast from "
                    f"{source.dtype} to {self.dtype}; leave the key out"
                )
            if dtypes.DTYPES[name].kind == "other":
                raise PlanError(
                    f"{name} packs two numbers to an element, and torch casts neither from nor to it"
                )
        return TensorInfo(source.shape, self.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return cast(inputs[0], self.dtype, self.allow_overflow)

    def arguments(self) -> dict[str, Any]:
        return {"dtype": self.dtype} | ({"allow_overflow": True} if self.allow_overflow else {})


@dataclass(frozen=True, slots=True)
class Resize(Expr):
    """Another shape by one of the shape adapters.

    Args:
        method: one of `resize.METHODS`.
        shape: the shape of the result.
        args: what `resize.resolve` gives, sorted by name.
        of: the input.
    """

    method: str
    shape: tuple[int, ...]
    args: Args
    of: tuple[Expr, ...]
    op: ClassVar[str] = "resize"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        (source,) = inputs
        try:
            check_dtype(source.dtype, dict(self.args).get("fill"))
            resolve(self.method, source.shape, self.shape, dict(self.args))
        except PlanError as error:
            change = f"{self.method} from {list(source.shape)} to {list(self.shape)}"
            raise PlanError(f"resize by {change}: {error.message}") from None
        return TensorInfo(self.shape, source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (tensor,) = inputs
        args = resolve(self.method, tuple(tensor.shape), self.shape, dict(self.args))
        return resize(tensor, self.method, self.shape, dict(args))

    def arguments(self) -> dict[str, Any]:
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in self.args}
        return {"method": self.method, "shape": list(self.shape), "args": plain}
