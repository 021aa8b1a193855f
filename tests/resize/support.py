"""Adapt one tensor the way a load does: entry, expression, its JSON and back, shapes, then values."""

from __future__ import annotations

from typing import Any

import torch

from ckptkit.config.adapt import AdaptEntry, adapt_expr
from ckptkit.expr import Read, Resize, evaluate, from_json, infer
from ckptkit.signatures import TensorInfo


def info(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> TensorInfo:
    return TensorInfo(shape, str(dtype).removeprefix("torch."))


def expression(source: TensorInfo, target: tuple[int, ...], **entry: Any) -> Resize:
    made = adapt_expr(
        AdaptEntry(keys=["*"], **entry), "the.key", source, TensorInfo(target, "float32"), Read("k")
    )
    assert isinstance(made, Resize)
    return made


def adapted(tensor: torch.Tensor, target: tuple[int, ...], **entry: Any) -> torch.Tensor:
    """The tensor as a model of the target shape gets it; shape, dtype and input are compared on the way."""
    source, before = info(tuple(tensor.shape), tensor.dtype), tensor.clone()
    made = expression(source, target, **entry)
    assert from_json(made.to_json()) == made
    assert infer(made, {"k": source}) == info(target, tensor.dtype)
    result = evaluate(made, lambda _: tensor)
    assert (tuple(result.shape), result.dtype) == (target, tensor.dtype)
    assert torch.equal(tensor, before)
    return result
