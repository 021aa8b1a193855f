"""The bytes of an item in row-major order, in chunks: for formats that hold contiguous tensors only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..dtypes import DTYPES
from ..errors import WriteError
from .base import CHUNK, Buffer, Item

if TYPE_CHECKING:
    import torch


def item_bytes(item: Item) -> Iterator[Buffer]:
    """The little-endian bytes of a tensor item, at most `CHUNK` at a time.

    Raises:
        FormatError: the source is damaged.
        WriteError: a computed tensor is not what was planned.
    """
    view = item.view
    if view is not None and item.source is not None:
        if view.contiguous:
            start = view.offset * DTYPES[view.dtype].bits // 8
            yield from item.source.read(view.storage, start, start + item.info.nbytes)
            return
        yield from tensor_bytes(strided(item))
        return
    assert item.make is not None
    count = 0
    for chunk in item.make():
        count += len(chunk)
        yield chunk
    if count != item.info.nbytes:
        raise WriteError(
            f"{item.key!r} was planned as {item.info.nbytes} bytes and computed as {count}", key=item.key
        )


def strided(item: Item) -> torch.Tensor:
    """The tensor of an item whose view is not contiguous, looking into the bytes of its storage."""
    import torch

    view, source = item.view, item.source
    assert view is not None
    assert source is not None
    raw = torch.empty(view.storage.nbytes, dtype=torch.uint8)
    at = 0
    for chunk in source.read(view.storage, 0, view.storage.nbytes):
        raw[at : at + len(chunk)] = torch.frombuffer(bytearray(chunk), dtype=torch.uint8)
        at += len(chunk)
    dtype: torch.dtype = getattr(torch, view.dtype)
    return torch.empty(0, dtype=dtype).set_(raw.untyped_storage(), view.offset, view.shape, view.stride)


def tensor_bytes(tensor: torch.Tensor) -> Iterator[Buffer]:
    """The bytes of a tensor in row-major order; the yielded buffer is reused."""
    import torch

    if not tensor.numel():
        return
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    buffer = bytearray(min(CHUNK, flat.numel()))
    for at in range(0, flat.numel(), CHUNK):
        part = memoryview(buffer)[: min(CHUNK, flat.numel() - at)]
        torch.frombuffer(part, dtype=torch.uint8).copy_(flat[at : at + len(part)])
        yield part
