"""NaN and infinities in floating-point tensors, counted and located."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..dtypes import DTYPES
from ..errors import FormatError
from ..formats.base import Progress, Source
from ..stats import PACKED, chunks
from .report import Damage

if TYPE_CHECKING:
    pass


def not_finite(source: Source, progress: Progress) -> Iterator[Damage]:
    """One entry for each tensor with values that are no numbers, tied tensors once.

    Args:
        source: an opened checkpoint.
        progress: called with the number of bytes just looked at.
    """
    import torch

    again = {key for group in source.signature.tied for key in group[1:]}
    for key, info in source.signature.tensors.items():
        if info.kind != "tensor" or key in again or info.dtype in PACKED:
            continue
        if DTYPES[info.dtype].kind not in ("float", "complex") or not DTYPES[info.dtype].torch:
            continue
        nan = infinite = position = 0
        first: int | None = None
        for part in chunks(source.tensor(key)):
            wide = part.float() if part.element_size() == 1 else part
            good = torch.isfinite(wide)
            if not bool(good.all()):
                bad = int(torch.isnan(wide).sum())
                nan, infinite = nan + bad, infinite + int((~good).sum()) - bad
                first = position + int((~good).nonzero()[0]) if first is None else first
            position += part.numel()
        progress(info.nbytes)
        if first is not None:
            index = (
                [int(i) for i in torch.unravel_index(torch.tensor(first), info.shape)] if info.shape else []
            )
            words = f"{nan} NaN and {infinite} infinite of {info.numel} values, the first at {index}"
            yield Damage(_file(source, key), words, key, _offset(source, key, first))


def _file(source: Source, key: str) -> str:
    try:
        region = source.view(key).storage.region
    except FormatError:
        region = None
    return region.path if region is not None else str(source.path)


def _offset(source: Source, key: str, element: int) -> int | None:
    """Where an element lies in its file; None where it does not lie there plainly."""
    if source.lazy(key):
        return None
    view = source.view(key)
    if view.storage.region is None or not view.contiguous:
        return None
    return view.storage.region.offset + (view.offset + element) * DTYPES[view.dtype].bits // 8
