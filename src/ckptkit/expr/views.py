"""Expressions that look at their one input differently: other order, other shape, or a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import PlanError
from ..signatures import TensorInfo
from .base import MAX_COUNT, Expr, Shape, dimension, size_of, workable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Transpose(Expr):
    """Two dimensions swapped, as `Tensor.transpose`."""

    dims: tuple[int, int]
    of: tuple[Expr, ...]
    op: ClassVar[str] = "transpose"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        source = workable(inputs[0], self.op)
        one, other = (dimension(dim, source.shape, self.op) for dim in self.dims)
        shape = list(source.shape)
        shape[one], shape[other] = shape[other], shape[one]
        return TensorInfo(tuple(shape), source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return inputs[0].transpose(*self.dims)

    def arguments(self) -> dict[str, Any]:
        return {"dims": list(self.dims)}


@dataclass(frozen=True, slots=True)
class Permute(Expr):
    """Dimensions in another order, as `Tensor.permute`."""

    dims: tuple[int, ...]
    of: tuple[Expr, ...]
    op: ClassVar[str] = "permute"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        source = workable(inputs[0], self.op)
        order = [dimension(dim, source.shape, self.op) for dim in self.dims]
        if sorted(order) != list(range(len(source.shape))):
            raise PlanError(
                f"permute: dims {list(self.dims)} do not name each of the {len(source.shape)} dimensions of "
                f"{list(source.shape)} once"
            )
        return TensorInfo(tuple(source.shape[dim] for dim in order), source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return inputs[0].permute(self.dims)

    def arguments(self) -> dict[str, Any]:
        return {"dims": list(self.dims)}


@dataclass(frozen=True, slots=True)
class Reshape(Expr):
    """The same elements in row-major order in another shape, as `Tensor.reshape`; one size may be -1."""

    shape: Shape
    of: tuple[Expr, ...]
    op: ClassVar[str] = "reshape"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        source = workable(inputs[0], self.op)
        return TensorInfo(reshaped(source.shape, self.shape), source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        import torch

        # torch packs two 4-bit numbers into a byte and cannot copy them; bytes it can.
        if inputs[0].dtype is getattr(torch, "float4_e2m1fn_x2", None):
            return inputs[0].view(torch.uint8).reshape(self.shape).view(inputs[0].dtype)
        return inputs[0].reshape(self.shape)

    def arguments(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}


def reshaped(source: Shape, shape: Shape) -> Shape:
    """The shape after a reshape, with -1 resolved.

    Raises:
        PlanError: the numbers of elements differ, or -1 cannot be resolved.
    """
    count, known = size_of(source), size_of(tuple(n for n in shape if n != -1))
    if shape.count(-1) > 1 or any(n < -1 for n in shape):
        raise PlanError(f"reshape: {list(shape)} is no shape; at most one size may be -1, none less")
    if -1 in shape:
        if not known or count % known:
            raise PlanError(
                f"reshape: {list(source)} has {count} elements, which {list(shape)} does not divide evenly"
            )
        return tuple(count // known if n == -1 else n for n in shape)
    if known != count:
        raise PlanError(f"reshape: {list(source)} has {count} elements, {list(shape)} has {known}")
    return shape


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    """The entries ``start:stop:step`` along one dimension."""

    dim: int
    start: int
    stop: int
    of: tuple[Expr, ...]
    step: int = 1
    op: ClassVar[str] = "slice"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        source = workable(inputs[0], self.op)
        dim = dimension(self.dim, source.shape, self.op)
        if not 0 <= self.start <= self.stop <= source.shape[dim] or not 1 <= self.step <= MAX_COUNT:
            step = f" in steps of {self.step}" if self.step != 1 else ""
            raise PlanError(
                f"slice: {self.start} to {self.stop}{step} is no part of the {source.shape[dim]} entries of "
                f"dimension {dim} of {list(source.shape)}"
            )
        size = -(-(self.stop - self.start) // self.step)
        return TensorInfo((*source.shape[:dim], size, *source.shape[dim + 1 :]), source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        part = inputs[0].narrow(self.dim, self.start, self.stop - self.start)
        if self.step == 1:
            return part
        dim = self.dim % part.dim()
        # torch multiplies the step with the stride, also where only the first entry is taken.
        step = min(self.step, max(part.shape[dim], 1))
        return part[(*[slice(None)] * dim, slice(None, None, step))]

    def arguments(self) -> dict[str, Any]:
        plain = {"dim": self.dim, "start": self.start, "stop": self.stop}
        return plain if self.step == 1 else {**plain, "step": self.step}


@dataclass(frozen=True, slots=True)
class Select(Expr):
    """One entry along a dimension, which goes away, as `Tensor.select`."""

    dim: int
    index: int
    of: tuple[Expr, ...]
    op: ClassVar[str] = "select"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        source = workable(inputs[0], self.op)
        dim = dimension(self.dim, source.shape, self.op)
        if not 0 <= self.index < source.shape[dim]:
            raise PlanError(
                f"select: dimension {dim} of {list(source.shape)} has {source.shape[dim]} entries, none numbered "
                f"{self.index}"
            )
        return TensorInfo((*source.shape[:dim], *source.shape[dim + 1 :]), source.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return inputs[0].select(self.dim, self.index)

    def arguments(self) -> dict[str, Any]:
        return {"dim": self.dim, "index": self.index}
