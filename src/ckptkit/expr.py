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
from .resize import Args, check_dtype, freeze, resolve
from .resize.methods import resize
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
    "resize": lambda a, of: _resize(a["method"], a["shape"], a["args"], of),
}


def _resize(method: Any, shape: Any, args: Any, of: tuple[Expr, ...]) -> Resize:
    sizes = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(method, str) or not sizes or not isinstance(args, dict) or len(of) != 1:
        raise PlanError(
            "a resize in a plan needs a method, a shape of sizes, args as a mapping, and one input"
        )
    return Resize(method, tuple(shape), freeze(args), of)


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
