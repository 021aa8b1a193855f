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
        tensor = strided(item)
    else:
        assert item.make is not None
        tensor = item.make().detach()
    name = str(tensor.dtype).removeprefix("torch.")
    if tuple(tensor.shape) != item.info.shape or name != item.info.dtype:
        raise WriteError(
            f"{item.key!r} was planned as {list(item.info.shape)} {item.info.dtype} and computed as "
            f"{list(tensor.shape)} {name}",
            key=item.key,
        )
    yield from tensor_bytes(tensor)


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
    flat = raw_bytes(tensor)
    buffer = bytearray(min(CHUNK, flat.numel()))
    for at in range(0, flat.numel(), CHUNK):
        part = memoryview(buffer)[: min(CHUNK, flat.numel() - at)]
        torch.frombuffer(part, dtype=torch.uint8).copy_(flat[at : at + len(part)])
        yield part


def raw_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor in row-major order, as a flat uint8 tensor on the CPU."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel() == 1:  # any stride counts as contiguous then, but torch lets no other dtype look at it
        flat = flat.clone(memory_format=torch.contiguous_format)
    raw: torch.Tensor = flat.view(torch.uint8)
    return raw
