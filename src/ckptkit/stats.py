"""Statistics of one tensor, computed in a stream of slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_STEP = 1 << 22  # elements at a time, so that a tensor larger than memory has statistics too


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics over the finite elements; `nan` and `inf` count the others.

    Args:
        min, max, mean, std: NaN when there is no finite element. `std` is of the population.
        nan, inf: how many.
    """

    min: float
    max: float
    mean: float
    std: float
    nan: int
    inf: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in ("min", "max", "mean", "std", "nan", "inf")}


def tensor_stats(state: Mapping[str, torch.Tensor], key: str) -> Stats:
    """Statistics of a tensor, in double precision; complex numbers count by magnitude.

    Args:
        state: where it lies.
        key: its key.
    """
    import torch

    flat = state[key].detach().reshape(-1)
    if str(flat.dtype).startswith("torch.float4"):
        flat = flat.view(torch.uint8)
    low, high, total, count, nan, inf = math.inf, -math.inf, 0.0, 0, 0, 0
    squares = 0.0
    mean = 0.0
    for start in range(0, flat.numel(), _STEP):
        part = flat[start : start + _STEP]
        part = part.abs() if part.is_complex() else part
        numbers = part.to(torch.float64)
        nan += int(numbers.isnan().sum())
        inf += int(numbers.isinf().sum())
        numbers = numbers[numbers.isfinite()]
        n = numbers.numel()
        if not n:
            continue
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
        # Chan, Golub and LeVeque's update: parts of any size give the same variance without cancellation.
        own = float(numbers.mean())
        delta = own - mean
        squares += float((numbers - own).square().sum()) + delta * delta * count * n / (count + n)
        total += own * n
        count += n
        mean = total / count
    if not count:
        return Stats(math.nan, math.nan, math.nan, math.nan, nan, inf)
    return Stats(low, high, mean, math.sqrt(squares / count), nan, inf)
