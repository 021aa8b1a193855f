"""The bytes of an item in row-major order, in chunks: for formats that hold contiguous tensors only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..dtypes import DTYPES
from ..errors import WriteError
from ..threads import one_thread
from .base import CHUNK, Buffer, Item, Source, View

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
    """The tensor of an item whose view is not contiguous, looking into the bytes that it reaches."""
    import torch

    view, source = item.view, item.source
    assert view is not None
    assert source is not None
    raw = memoryview(read_extent(source, view))
    dtype: torch.dtype = getattr(torch, view.dtype)
    flat = torch.frombuffer(raw, dtype=torch.uint8)
    return torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), 0, view.shape, view.stride)


def read_extent(source: Source, view: View) -> bytearray:
    """The bytes that a view with elements reaches, from its first element to its last."""
    width = DTYPES[view.dtype].bits // 8
    start = view.offset * width
    reach = sum((size - 1) * step for size, step in zip(view.shape, view.stride, strict=True))
    data = bytearray((reach + 1) * width)
    at = 0
    for chunk in source.read(view.storage, start, start + len(data)):
        data[at : at + len(chunk)] = chunk
        at += len(chunk)
    return data


def tensor_bytes(tensor: torch.Tensor) -> Iterator[Buffer]:
    """The bytes of a tensor in row-major order; the yielded buffer is reused."""
    import ctypes

    if not tensor.numel():
        return
    flat = flat_bytes(tensor)
    buffer = bytearray(min(CHUNK, flat.numel()))
    place = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    for at in range(0, flat.numel(), CHUNK):
        count = min(CHUNK, flat.numel() - at)
        ctypes.memmove(place, flat.data_ptr() + at, count)  # torch would share out each chunk to its threads
        yield memoryview(buffer)[:count]


def flat_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor in row-major order as one run of ``uint8``; a view where it is contiguous."""
    import torch

    with one_thread(tensor):
        whole = tensor.detach().cpu().contiguous()
    # A single element counts as contiguous whatever its stride, and cannot be viewed as bytes then.
    return whole.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
