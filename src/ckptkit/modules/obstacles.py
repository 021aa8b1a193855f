"""Why torch could not fill a parameter though its name and shape fit: found before the first one changes."""

from __future__ import annotations

from typing import Any

from ..config.load import LoadConfig
from ..errors import FormatError
from ..formats.base import Source
from ..formats.memory import MemorySource
from ..matching import Match
from ..planned import settled_expr
from ..text import folded
from .targets import Target
from .values import wanted_dtype


def obstacles(target: Target, source: Source, match: Match, config: LoadConfig) -> list[str]:
    """One line for each reason, with the keys that it stops.

    Args:
        target: the module.
        source: the checkpoint after the rules.
        match: what is to fill what.
        config: dtype policy, and whether tensors are assigned.
    """
    found: dict[str, list[str]] = {}
    for key, expr in match.fills.items():
        parameter = target.state.get(key)
        if not hasattr(parameter, "is_meta"):
            continue
        dtype = source.signature[expr.reads()[0]].dtype
        settled, base = settled_expr(expr, source)
        reason = (
            _dtype_reason(dtype, parameter, config)
            or (None if config.assign else _fixed(parameter))
            or next((r for read in settled.reads() if (r := _dataless(base, read, parameter))), None)
        )
        if reason is not None:
            found.setdefault(reason, []).append(key)
    return [f"{len(keys)} cannot be filled ({folded(keys, 4)}): {reason}" for reason, keys in found.items()]


def _dtype_reason(name: str, parameter: Any, config: LoadConfig) -> str | None:
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        return f"this torch has no dtype {name}; cast it to another"
    wanted = wanted_dtype(dtype, parameter, config.assign, config.dtype)
    real = parameter.dtype if not config.assign and config.dtype in ("auto", "model") else wanted
    if dtype.is_complex and not real.is_complex:
        return f"{name} in the checkpoint, {str(real).removeprefix('torch.')} in the model: the imaginary part would be lost"
    if parameter.requires_grad and not (real.is_floating_point or real.is_complex):
        return (
            f"it would become {str(real).removeprefix('torch.')}, and a parameter that trains takes floating-point "
            "numbers only; load with dtype: model, or cast it by a rule"
        )
    return None


def _fixed(parameter: Any) -> str | None:
    """Why nothing can be copied into it."""
    import torch

    if parameter.is_inference() and not torch.is_inference_mode_enabled():
        return "it was made in torch.inference_mode(), outside of which it cannot change; load there, or with assign: true"
    if parameter.layout is torch.strided and type(parameter.data) is torch.Tensor:
        stretched = any(n > 1 and s == 0 for n, s in zip(parameter.shape, parameter.stride(), strict=True))
        if stretched:
            return "its elements share memory (expand()), and cannot differ; make it contiguous, or load with assign: true"
    return None


def _dataless(base: Source, key: str, parameter: Any) -> str | None:
    """Why the checkpoint's tensor gives no values for this parameter."""
    if isinstance(base, MemorySource):
        tensor = base.tensor(key)
        if tensor.is_meta:
            return "the checkpoint's tensor is on the meta device: it has a shape but no data"
        if tensor.layout is not parameter.layout:
            return f"the checkpoint's tensor is {_last(tensor.layout)}, the model's {_last(parameter.layout)}"
        if tensor.is_quantized is not parameter.is_quantized:
            return "one of both is quantised; dequantise the checkpoint's tensor, or quantise the model first"
        return None
    if base.format == "signature" or base.lazy(key):
        return None
    try:
        base.view(key)
    except FormatError as error:
        return error.message
    return None


def _last(layout: Any) -> str:
    return str(layout).removeprefix("torch.")
