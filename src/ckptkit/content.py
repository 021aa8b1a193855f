"""What a checkpoint holds, whatever holds it: row-major bytes of tensors, and hashes over them.

The hash of a tensor covers dtype, shape and its elements as row-major little-endian bytes, so it is the
same in every format, sharding and memory layout; that of a state_dict covers the sorted keys with theirs.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from .dtypes import DTYPES
from .errors import UsageError
from .formats.base import Buffer, Progress, Source, View, no_progress
from .formats.expanded import check_expanded
from .formats.tensor_bytes import item_bytes, read_extent, tensor_bytes
from .planned import item
from .text import one_line

if TYPE_CHECKING:
    import torch

GATHERED = 1 << 23  # bytes of a strided tensor that are put in order at a time
_FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MANY = 1 << 16  # runs along the longest dimension, each of which takes a step in Python
_DEEPEST = 100


def row_major_bytes(source: Source, key: str) -> Iterator[Buffer]:
    """The elements of a tensor as row-major little-endian bytes, in chunks; a buffer is valid until the next.

    torch is imported only for tensors that are computed, or lazily conjugated or negated. What lies in
    its file in another order is held in memory, one tensor at a time; all else streams.

    Args:
        source: where it lies.
        key: a key of kind ``tensor``.

    Raises:
        FormatError: the tensor has no plain data, or its file is damaged.
    """
    entry = item(source, key)
    if entry.view is None or entry.source is None or entry.view.contiguous:
        return item_bytes(entry)
    return _gathered(entry.source, entry.view)


def blocks(chunks: Iterable[Buffer], size: int) -> Iterator[Buffer]:
    """The same bytes in blocks of `size` bytes, the last one shorter; a block is valid until the next."""
    waiting = bytearray()
    for chunk in chunks:
        if not waiting and len(chunk) == size:
            yield chunk
            continue
        waiting += chunk
        while len(waiting) >= size:
            yield waiting[:size]
            del waiting[:size]
    if waiting:
        yield waiting


def tensor_hash(source: Source, key: str, progress: Progress = no_progress) -> str:
    """The SHA-256 of a tensor's dtype, shape and row-major little-endian bytes, as 64 hex digits.

    Args:
        source: where it lies.
        key: a key of kind ``tensor``.
        progress: called with the number of bytes just read.

    Raises:
        FormatError: the tensor has no plain data, or its file is damaged.
    """
    info = source.signature[key]
    digest = hashlib.sha256(f"{info.dtype}{list(info.shape)}\n".encode())
    for chunk in row_major_bytes(source, key):
        digest.update(chunk)
        progress(len(chunk))
    return digest.hexdigest()


def object_hash(value: Any) -> str | None:
    """The SHA-256 of plain data, as 64 hex digits; None for what is no plain data.

    Plain are None, numbers, strings, bytes, lists, tuples, sets, dicts (in any order, of any class),
    tensors, and torch's sizes, dtypes, devices and layouts.
    """
    digest = hashlib.sha256()
    try:
        for part in _encoded(value, 0):
            digest.update(part)
    except _NotPlain:
        return None
    return digest.hexdigest()


def state_hash(source: Source, progress: Progress = no_progress) -> str:
    """``sha256:`` and the SHA-256 over the sorted keys, each with the hash of what it holds.

    Equal for equal state_dicts across formats, sharding and key order. Which keys are tied, metadata,
    and what surrounds a root do not count.

    Args:
        source: the checkpoint.
        progress: called with the number of bytes just read.

    Raises:
        FormatError: a tensor has no plain data or repeats a few bytes without end, or a file is damaged.
        UsageError: an entry that is no tensor is no plain data either.
    """
    check_expanded(source, source.signature)
    first = {key: group[0] for group in source.signature.tied for key in group}
    known: dict[str, str] = {}
    digest = hashlib.sha256()
    for key in sorted(source.signature):
        holder = first.get(key, key)
        if holder not in known:
            known[holder] = _entry_hash(source, holder, progress)
        name = key.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%s=%s\n" % (len(name), name, known[holder].encode()))
    return f"sha256:{digest.hexdigest()}"


def _entry_hash(source: Source, key: str, progress: Progress) -> str:
    if source.signature[key].kind == "tensor":
        return tensor_hash(source, key, progress)
    found = object_hash(source.value(key))
    if found is None:
        raise UsageError(f"{key!r} holds an object that is no plain data and has no hash; drop it", key=key)
    return found


def _gathered(source: Source, view: View) -> Iterator[Buffer]:
    """The elements of a strided view in row-major order."""
    width = DTYPES[view.dtype].bits // 8
    span = read_extent(source, view)
    shape, stride = view.shape, view.stride
    if width == 16:  # no machine word; two of eight bytes
        shape, width = (*shape, 2), 8
        stride = (*(step * 2 for step in stride), 1)
    shape, stride = _joined(shape, stride)
    if prod(shape) // max(shape, default=1) > _MANY:
        yield from tensor_bytes(_as_tensor(span, shape, stride, width))
        return
    yield from _in_order(memoryview(span).cast(_FORMATS[width]), shape, stride, width)


def _joined(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same look with as few dimensions as there can be; at least one."""
    joined: list[tuple[int, int]] = []
    for size, step in zip(shape, stride, strict=True):
        if size == 1:
            continue
        if joined and joined[-1][1] == size * step:
            joined[-1] = (joined[-1][0] * size, step)
        else:
            joined.append((size, step))
    return tuple(size for size, _ in joined) or (1,), tuple(step for _, step in joined) or (1,)


def _as_tensor(span: bytearray, shape: tuple[int, ...], stride: tuple[int, ...], width: int) -> torch.Tensor:
    """Words as integers of a tensor: torch is faster where there are many short runs."""
    import torch

    dtype = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width]
    return torch.frombuffer(span, dtype=dtype).as_strided(shape, stride)


def _in_order(
    words: memoryview, shape: tuple[int, ...], stride: tuple[int, ...], width: int
) -> Iterator[Buffer]:
    """The words of a strided look, row-major, at most about `GATHERED` bytes at a time."""
    if len(shape) > 1 and prod(shape) * width > GATHERED:
        row = prod(shape[1:])
        rows = max(1, GATHERED // (row * width))
        for start in range(0, shape[0], rows):
            here = words[start * stride[0] :]
            count = min(rows, shape[0] - start)
            if count == 1:
                yield from _in_order(here, shape[1:], stride[1:], width)
            else:
                yield _placed(here, (count, *shape[1:]), stride, width)
        return
    yield _placed(words, shape, stride, width)


def _placed(words: memoryview, shape: tuple[int, ...], stride: tuple[int, ...], width: int) -> bytearray:
    """One copy per run along the longest dimension, so that few steps are taken whatever the layout."""
    buffer = bytearray(prod(shape) * width)
    out = memoryview(buffer).cast(_FORMATS[width])
    target = [prod(shape[dim + 1 :]) for dim in range(len(shape))]
    longest = max(range(len(shape)), key=shape.__getitem__)
    others = [dim for dim in range(len(shape)) if dim != longest]
    size, step, into = shape[longest], stride[longest], target[longest]
    for place in product(*(range(shape[dim]) for dim in others)):
        a = sum(i * stride[dim] for i, dim in zip(place, others, strict=True))
        b = sum(i * target[dim] for i, dim in zip(place, others, strict=True))
        if step:
            out[b : b + (size - 1) * into + 1 : into] = words[a : a + (size - 1) * step + 1 : step]
        else:  # expanded: one element stands for all
            repeated = memoryview(bytes(words[a : a + 1]) * size).cast(_FORMATS[width])
            out[b : b + (size - 1) * into + 1 : into] = repeated
    return buffer


class _NotPlain(Exception):
    """A value that has no encoding of its own."""


def _encoded(value: Any, depth: int) -> Iterator[bytes]:
    """A value as bytes that differ whenever values differ."""
    if depth > _DEEPEST:
        raise _NotPlain
    if value is None or type(value) in (bool, int):
        # In hexadecimal, since Python refuses to write very long integers as decimals.
        yield f"{type(value).__name__}:{value if value is None else format(value, 'x')};".encode()
    elif type(value) is float:
        yield b"float:" + struct.pack("<d", value)
    elif type(value) is complex:
        yield b"complex:" + struct.pack("<dd", value.real, value.imag)
    elif isinstance(value, str | bytes | bytearray):
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
        yield b"%s:%d:%s" % (b"str" if isinstance(value, str) else b"bytes", len(raw), raw)
    elif isinstance(value, Mapping):
        pairs = sorted(
            b"".join(_encoded(k, depth + 1)) + b"".join(_encoded(v, depth + 1)) for k, v in value.items()
        )
        yield b"dict:%d:" % len(pairs) + b"".join(pairs)
    elif isinstance(value, AbstractSet):
        yield b"set:%d:" % len(value) + b"".join(sorted(b"".join(_encoded(v, depth + 1)) for v in value))
    elif type(value) in (list, tuple):
        yield b"%s:%d:" % (type(value).__name__.encode(), len(value))
        for part in value:
            yield from _encoded(part, depth + 1)
    else:
        yield from _encoded_of_torch(value)


def _encoded_of_torch(value: Any) -> Iterator[bytes]:
    torch = sys.modules.get("torch")  # without it, nothing can be of its classes
    if torch is None:
        raise _NotPlain
    if isinstance(value, torch.Size | torch.dtype | torch.device | torch.layout):
        yield f"{type(value).__name__}:{one_line(str(value))};".encode()
    elif isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta:
        yield f"{value.dtype}{list(value.shape)}:".encode()
        resolved = value.detach().resolve_conj().resolve_neg()
        for chunk in tensor_bytes(resolved):
            yield bytes(chunk)
    else:
        raise _NotPlain
