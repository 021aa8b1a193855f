"""NaN and infinities in floating-point tensors, counted and located."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING

from ..dtypes import DTYPES
from ..errors import FormatError
from ..formats.base import Progress, Source, View
from ..formats.expanded import check_expanded
from ..signatures import TensorInfo
from ..stats import PACKED, values
from .report import Damage

if TYPE_CHECKING:
    import torch


def not_finite(source: Source, progress: Progress) -> Iterator[Damage]:
    """One entry for each tensor with values that are no numbers, tied tensors once.

    Formats of four and six bits have neither NaN nor infinities; tensors without data have no values.

    Args:
        source: an opened checkpoint.
        progress: called with the number of bytes just looked at.

    Raises:
        FormatError: a tensor repeats a few bytes without end, or a file was damaged since it was opened.
    """
    check_expanded(source, source.signature)
    again = {key for group in source.signature.tied for key in group[1:]}
    for key, info in source.signature.tensors.items():
        if key in again or not _can_be_bad(info):
            continue
        view = _view(source, key)
        if view is None and not source.lazy(key):
            continue
        nan, infinite, first = _count(values(source, key))
        progress(info.nbytes)
        if first is not None:
            index = _index(first, info.shape)
            words = f"{nan} NaN and {infinite} infinite of {info.numel} values, the first at index {index}"
            file = view.storage.region.path if view is not None and view.storage.region is not None else None
            yield Damage(file or str(source.path), words, key, _offset(view, index))


def _can_be_bad(info: TensorInfo) -> bool:
    dtype = DTYPES.get(info.dtype)
    if info.kind != "tensor" or dtype is None or not dtype.torch or dtype.name in PACKED:
        return False
    return dtype.kind in ("float", "complex")


def _view(source: Source, key: str) -> View | None:
    try:
        return source.view(key)
    except FormatError:
        return None


def _count(parts: Iterable[torch.Tensor]) -> tuple[int, int, int | None]:
    """How many values are NaN and infinite, and the number of the first of them in row-major order.

    A complex number is NaN if one of its parts is, else infinite if one of them is.
    """
    import torch

    nan = infinite = position = 0
    first: int | None = None
    for part in parts:
        if part.is_complex():
            real, imag = (
                part.real,
                part.imag,
            )  # apart: a block of pairs would be shared out to torch's threads
            bad = torch.isnan(real) | torch.isnan(imag)
            good = torch.isfinite(real) & torch.isfinite(imag)
        else:
            wide = part.float() if part.element_size() == 1 else part  # torch cannot ask eight bits
            bad, good = torch.isnan(wide), torch.isfinite(wide)
        if not bool(good.all()):
            here = int(bad.sum())
            nan, infinite = nan + here, infinite + int((~good).sum()) - here
            first = position + int((~good).nonzero()[0]) if first is None else first
        position += part.numel()
    return nan, infinite, first


def _index(number: int, shape: tuple[int, ...]) -> list[int]:
    """The index of an element from its number in row-major order."""
    return [number // prod(shape[dim + 1 :]) % size for dim, size in enumerate(shape)]


def _offset(view: View | None, index: list[int]) -> int | None:
    """Where an element lies in its file; None where it does not lie there plainly."""
    if view is None or view.storage.region is None:
        return None
    element = view.offset + sum(i * step for i, step in zip(index, view.stride, strict=True))
    return view.storage.region.offset + element * DTYPES[view.dtype].bits // 8
