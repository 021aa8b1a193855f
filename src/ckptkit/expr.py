"""Expressions: how an output key is made from source keys. Small frozen data with shape laws.

An expression knows its result's shape and dtype from its inputs' alone; evaluating it needs torch
and is done by `evaluate`, which asks for source tensors one at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from . import dtypes
from .errors import PlanError
from .signatures import TensorInfo

if TYPE_CHECKING:
    import torch


class Expr(ABC):
    """One node: an operation on its inputs `of`."""

    op: ClassVar[str]

    @property
    @abstractmethod
    def of(self) -> tuple[Expr, ...]:
        """The expressions it takes as inputs."""

    @abstractmethod
    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        """Shape and dtype of the result.

        Args:
            inputs: shape and dtype of each of `of`.

        Raises:
            PlanError: the inputs do not suit the operation.
        """

    @abstractmethod
    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The result for the given input tensors."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The operation's own fields, for JSON."""

    def to_json(self) -> dict[str, Any]:
        """The expression as the contract's JSON."""
        return {"op": self.op, **self.arguments(), "of": [e.to_json() for e in self.of]}

    def reads(self) -> tuple[str, ...]:
        """Every source key it needs, each once, in reading order."""
        return tuple(dict.fromkeys(key for e in self.of for key in e.reads()))


@dataclass(frozen=True, slots=True)
class Read(Expr):
    """The tensor of a source key as it is."""

    key: str
    op: ClassVar[str] = "read"
    of: ClassVar[tuple[Expr, ...]] = ()

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        raise AssertionError("a read takes its shape from the signature")

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        raise AssertionError("a read takes its tensor from the source")

    def arguments(self) -> dict[str, Any]:
        return {"key": self.key}

    def to_json(self) -> dict[str, Any]:
        return {"read": self.key}

    def reads(self) -> tuple[str, ...]:
        return (self.key,)


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """Another dtype, with torch's `Tensor.to` semantics."""

    dtype: str
    of: tuple[Expr, ...]
    op: ClassVar[str] = "cast"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        (source,) = inputs
        for name in (source.dtype, self.dtype):
            if name not in dtypes.DTYPES or not dtypes.DTYPES[name].torch:
                raise PlanError(
                    f"torch has no dtype {name!r}, so a cast from {source.dtype} to {self.dtype} is not possible"
                )
        return TensorInfo(source.shape, self.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return inputs[0].to(dtype)

    def arguments(self) -> dict[str, Any]:
        return {"dtype": self.dtype}


def infer(expr: Expr, source: Mapping[str, TensorInfo]) -> TensorInfo:
    """Shape and dtype of an expression's result.

    Args:
        expr: the expression.
        source: the signature it reads from.

    Raises:
        PlanError: a source key is missing, or shapes do not suit.
    """
    if isinstance(expr, Read):
        if expr.key not in source:
            raise PlanError(f"the plan reads {expr.key!r}, which the source does not have", key=expr.key)
        return source[expr.key]
    return expr.infer(tuple(infer(e, source) for e in expr.of))


def evaluate(expr: Expr, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """The result of an expression.

    Args:
        expr: the expression.
        read: gives the tensor of a source key.
    """
    if isinstance(expr, Read):
        return read(expr.key)
    return expr.compute(tuple(evaluate(e, read) for e in expr.of))


_OPS: dict[str, Callable[[dict[str, Any], tuple[Expr, ...]], Expr]] = {
    "cast": lambda a, of: Cast(a["dtype"], of),
}


def from_json(document: Any) -> Expr:
    """Read an expression from the contract's JSON.

    Raises:
        PlanError: it is no expression, or of an unknown operation.
    """
    if isinstance(document, dict) and isinstance(document.get("read"), str) and len(document) == 1:
        return Read(document["read"])
    if not isinstance(document, dict) or not isinstance(document.get("of"), list):
        raise PlanError(f"not an expression: {str(document)[:80]}")
    make = _OPS.get(str(document.get("op")))
    if make is None:
        raise PlanError(
            f"unknown operation {document.get('op')!r} in a plan; known are read, {', '.join(_OPS)}"
        )
    of = tuple(from_json(e) for e in document["of"])
    try:
        return make(document, of)
    except KeyError as error:
        raise PlanError(f"the operation {document['op']!r} in a plan lacks its field {error}") from None
