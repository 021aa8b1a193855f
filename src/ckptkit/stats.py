"""Figures about the values of tensors, read one chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

from .content import blocks
from .formats.base import CHUNK as READ
from .formats.base import Progress, Source, no_progress
from .formats.expanded import check_expanded
from .signatures import Signature
from .threads import BLOCK

if TYPE_CHECKING:
    import torch

CHUNK = BLOCK  # elements, which stay in the processor's cache
PACKED = frozenset({"float4_e2m1fn_x2"})  # two numbers to an element, which torch cannot take apart


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one tensor. Complex numbers count by their absolute value, booleans as 0 and 1.

    Args:
        min, max: of the finite values; None when there are none. Exact for integers.
        mean: of the finite values, summed in float64; None when there are none.
        std: sample standard deviation of the finite values, as `torch.std` has it: NaN for a single one.
        nan: how many values are NaN.
        inf: how many values are infinite.
    """

    min: float | int | None
    max: float | int | None
    mean: float | None
    std: float | None
    nan: int
    inf: int

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "min": self.min,
            "max": self.max,
            "mean": self.mean,
            "std": self.std,
            "nan": self.nan,
            "inf": self.inf,
        }


def measure(
    source: Source, signature: Signature, progress: Progress = no_progress
) -> Iterator[tuple[str, Stats | None]]:
    """The figures of every key of a signature, one tensor at a time.

    Args:
        source: where the tensors are read from.
        signature: the keys to look at.
        progress: called with the number of bytes just looked at.

    Yields:
        Key and figures; None for objects and for packed dtypes, which have no numbers of their own.

    Raises:
        FormatError: a tensor has no data, repeats a few bytes without end, or its file is damaged.
    """
    check_expanded(source, signature)
    for key, info in signature.tensors.items():
        if info.kind == "object" or info.dtype in PACKED:
            yield key, None
            continue
        yield key, of_chunks(values(source, key))
        progress(info.nbytes)


def values(source: Source, key: str) -> Iterator[torch.Tensor]:
    """The elements of a tensor, flat and in row-major order, at most `CHUNK` at a time.

    They are read, not mapped: a file that is cut meanwhile is an error, and does not end the process.

    Raises:
        FormatError: the tensor has no plain data, or its file is damaged.
    """
    import torch

    view = None if source.lazy(key) else source.view(key)
    dtype = getattr(torch, source.signature[key].dtype, None)
    if view is None or dtype is None or not view.contiguous:
        yield from chunks(source.loaded(key))
        return
    start = view.offset * dtype.itemsize
    data = source.read(view.storage, start, start + source.signature[key].nbytes)
    for block in blocks(data, READ):
        yield from torch.frombuffer(bytearray(block), dtype=dtype).split(CHUNK)  # type: ignore[no-untyped-call]


def chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The elements of a tensor of any stride, flat, at most `CHUNK` at a time."""
    if tensor.numel() <= CHUNK:
        yield tensor.reshape(-1)
    elif tensor.is_contiguous():
        yield from tensor.view(-1).split(CHUNK)  # type: ignore[no-untyped-call]
    else:
        # A few indices of the first dimension at a time: making it contiguous at once would copy it whole.
        rows = max(1, CHUNK * len(tensor) // tensor.numel())
        for start in range(0, len(tensor), rows):
            part = tensor.narrow(0, start, min(rows, len(tensor) - start))
            if part.numel() <= CHUNK:
                yield part.reshape(-1)
            else:
                yield from chunks(part[0])


def of_chunks(parts: Iterable[torch.Tensor]) -> Stats:
    """The figures of all elements of flat tensors.

    Means and squares are joined chunk by chunk as in Chan, Golub and LeVeque, "Updating formulae and a
    pairwise algorithm for computing sample variances" (1979), which loses no digits to large means.
    """
    import torch

    count, mean, squares, nans, infs = 0, 0.0, 0.0, 0, 0
    low: float | int | None = None
    high: float | int | None = None
    for part in parts:
        exact = part
        values = part.abs() if part.is_complex() else part
        values = values.to(torch.float32 if values.element_size() == 1 else values.dtype).to(torch.float64)
        if part.is_floating_point() or part.is_complex():
            finite = torch.isfinite(values)
            if not bool(finite.all()):
                bad = int(torch.isnan(values).sum())
                nans += bad
                infs += int((~finite).sum()) - bad
                values = values[finite]
            exact = values
        if not values.numel():
            continue
        least, most = _bounds(exact)
        low = least if low is None else min(low, least)
        high = most if high is None else max(high, most)
        new = values.numel()
        here = float(values.mean())
        delta = here - mean
        squares += float(((values - here) ** 2).sum()) + delta * delta * count * new / (count + new)
        mean += delta * new / (count + new)
        count += new
    if not count:
        return Stats(None, None, None, None, nans, infs)
    return Stats(low, high, mean, sqrt(squares / (count - 1)) if count > 1 else nan, nans, infs)


def _bounds(values: torch.Tensor) -> tuple[float | int, float | int]:
    """The smallest and the largest of some numbers without NaN."""
    import torch

    if values.dtype is torch.bool:
        values = values.to(torch.uint8)
    elif values.dtype in (torch.uint16, torch.uint32):
        values = values.to(torch.int64)
    elif values.dtype is torch.uint64:
        # torch cannot compare these. With the top bit flipped, signed numbers have the same order.
        shifted = values.view(torch.int64) ^ torch.iinfo(torch.int64).min
        return int(shifted.min()) + 2**63, int(shifted.max()) + 2**63
    return values.min().item(), values.max().item()
