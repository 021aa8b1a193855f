"""Expressions that make one tensor of several: along a dimension they have, or along a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import PlanError
from ..signatures import TensorInfo
from .base import Expr, dimension, workable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Concat(Expr):
    """The inputs one after the other along a dimension, as `torch.cat`; all of one dtype."""

    dim: int
    of: tuple[Expr, ...]
    op: ClassVar[str] = "concat"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        first = _first(inputs, self.op)
        dim = dimension(self.dim, first.shape, self.op)
        total = 0
        for number, info in enumerate(inputs):
            workable(info, self.op)
            shape = info.shape
            if len(shape) != len(first.shape) or any(
                a != b for d, (a, b) in enumerate(zip(shape, first.shape, strict=True)) if d != dim
            ):
                raise PlanError(
                    f"concat along dimension {dim}: part {number} has the shape {list(shape)}, part 0 "
                    f"{list(first.shape)}; all other dimensions must be equal"
                )
            _same_dtype(info, first, number, self.op)
            total += shape[dim]
        return TensorInfo((*first.shape[:dim], total, *first.shape[dim + 1 :]), first.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return _joined(inputs, self.dim)

    def arguments(self) -> dict[str, Any]:
        return {"dim": self.dim}


@dataclass(frozen=True, slots=True)
class Stack(Expr):
    """The inputs side by side along a new dimension, as `torch.stack`; all of one shape and dtype."""

    dim: int
    of: tuple[Expr, ...]
    op: ClassVar[str] = "stack"

    def infer(self, inputs: tuple[TensorInfo, ...]) -> TensorInfo:
        first = _first(inputs, self.op)
        dim = dimension(self.dim, (*first.shape, 0), self.op)
        for number, info in enumerate(inputs):
            workable(info, self.op)
            if info.shape != first.shape:
                raise PlanError(
                    f"stack: part {number} has the shape {list(info.shape)}, part 0 {list(first.shape)}; "
                    "all must be equal"
                )
            _same_dtype(info, first, number, self.op)
        return TensorInfo((*first.shape[:dim], len(inputs), *first.shape[dim:]), first.dtype)

    def compute(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        dim = self.dim % (inputs[0].dim() + 1)
        return _joined(tuple(tensor.unsqueeze(dim) for tensor in inputs), dim)

    def arguments(self) -> dict[str, Any]:
        return {"dim": self.dim}


def _joined(inputs: tuple[torch.Tensor, ...], dim: int) -> torch.Tensor:
    """`torch.cat`, which knows no rule for some of the narrowest dtypes: those are joined as bytes."""
    import torch

    dtype = inputs[0].dtype
    if dtype.itemsize > 1 or dtype is torch.bool:
        return torch.cat(inputs, dim)
    return torch.cat([tensor.view(torch.uint8) for tensor in inputs], dim).view(dtype)


def _first(inputs: tuple[TensorInfo, ...], op: str) -> TensorInfo:
    if not inputs:
        raise PlanError(f"{op} needs at least one part")
    return workable(inputs[0], op)


def _same_dtype(info: TensorInfo, first: TensorInfo, number: int, op: str) -> None:
    if info.dtype != first.dtype:
        raise PlanError(
            f"{op}: part {number} is {info.dtype}, part 0 {first.dtype}; cast them to one dtype first"
        )
