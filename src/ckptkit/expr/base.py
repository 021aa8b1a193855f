"""What an expression is: an operation on expressions, whose result's shape and dtype follow from theirs."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .. import dtypes
from ..errors import PlanError
from ..signatures import TensorInfo
from ..text import quoted
from ..threads import one_thread
from .growth import LIMIT, check_growth

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

MAX_DEPTH = 200  # operations one after another: rules nest a handful, and the stack is bounded
MAX_NODES = 20_000  # operations and reads of one result: a few rules that double it make millions
MAX_COUNT = (1 << 63) - 1  # what torch counts with


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
        """The result for the given input tensors; a view of them where torch gives one."""

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

    @property
    def read(self) -> str:
        """The key, under the name that it has in JSON."""
        return self.key

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
            raise PlanError(
                f"the plan reads {quoted(expr.key)}, which the source does not have", key=expr.key
            )
        return source[expr.key]
    info = countable(expr.infer(tuple(infer(e, source) for e in expr.of)))
    if info.nbytes > LIMIT:
        check_growth(info, expr.reads(), source)
    return info


def evaluate(expr: Expr, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """The result of an expression.

    Args:
        expr: the expression.
        read: gives the tensor of a source key.
    """
    if isinstance(expr, Read):
        return read(expr.key)
    inputs = tuple(evaluate(e, read) for e in expr.of)
    with one_thread(*inputs):
        return expr.compute(inputs)


def with_reads(expr: Expr, replace: Callable[[str], Expr]) -> Expr:
    """The expression with other expressions in the place of what it reads."""
    if isinstance(expr, Read):
        return replace(expr.key)
    of = tuple(with_reads(e, replace) for e in expr.of)
    return expr if of == expr.of else dataclasses.replace(expr, of=of)  # type: ignore[type-var]


def workable(info: TensorInfo, op: str) -> TensorInfo:
    """The input of an operation, when torch can work on it.

    Raises:
        PlanError: it is no tensor, or of a dtype that torch lacks.
    """
    if info.kind == "object":
        raise PlanError(f"an entry that is no tensor has nothing to {op}; leave it out, or drop it")
    if info.dtype not in dtypes.DTYPES or not dtypes.DTYPES[info.dtype].torch:
        raise PlanError(
            f"torch has no dtype {quoted(info.dtype)}, so there is no {op} for it; it can only be renamed"
        )
    return info


def too_deep(expr: Expr) -> bool:
    """Whether more than `MAX_DEPTH` operations lie one under another."""
    level = {id(expr): expr}
    for _ in range(MAX_DEPTH + 1):
        level = {id(e): e for node in level.values() for e in node.of}
        if not level:
            return False
    return True


def countable(info: TensorInfo) -> TensorInfo:
    """A result whose elements and bytes torch can count, its empty dimensions taken for 1, as its strides are.

    Raises:
        PlanError: they are too many.
    """
    count = 1
    for size in info.shape:
        count *= size or 1
    if (
        count > MAX_COUNT >> 4 and dtypes.nbytes(info.dtype, count) > MAX_COUNT
    ):  # no element has over 16 bytes
        raise PlanError(
            f"torch cannot count the bytes of the shape {list(info.shape)}, which are more than 2**63"
        )
    return info


def dimension(dim: int, shape: Shape, op: str) -> int:
    """A dimension counted from the front.

    Raises:
        PlanError: the shape does not have it.
    """
    if not -len(shape) <= dim < len(shape):
        raise PlanError(f"{op}: shape {list(shape)} has no dimension {dim}")
    return dim % len(shape)


def size_of(shape: Shape) -> int:
    """Elements of a shape; 1 for the empty one."""
    count = 1
    for size in shape:
        count *= size
    return count
