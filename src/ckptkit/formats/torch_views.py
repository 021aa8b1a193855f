"""Proof that a tensor of a torch file lies inside its storage, with Python's unbounded integers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..dtypes import DTYPES
from ..errors import FormatError
from .base import Storage, View
from .pickled import Opaque, StorageNode, TensorNode
from .pickled.allowed import ODD_ITEMSIZE

MAX_NUMEL = 1 << 62  # torch counts bytes in signed 64-bit integers


def itemsize(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        KeyError: a dtype that has no whole-byte elements that we know.
    """
    known = DTYPES.get(dtype)
    return known.bits // 8 if known is not None else ODD_ITEMSIZE[dtype]


def storage_nbytes(node: StorageNode) -> int:
    """Declared length of a storage in bytes."""
    return node.numel * itemsize(node.dtype)


def prove(node: TensorNode, storages: Mapping[str, Storage], file: str, where: str) -> View | None:
    """The view of a tensor, proved to lie inside its storage.

    Args:
        node: as the pickle describes it.
        storages: the storages that are in the file, by key.
        file, where: for messages; `where` is the key.

    Returns:
        The view; None for a tensor without plain data (`node.reason` says why).

    Raises:
        FormatError: it reaches outside its storage, or its storage is not in the file.
    """
    for part in node.parts:
        if type(part) is TensorNode:
            prove(part, storages, file, where)
        elif type(part) is Opaque:
            raise FormatError(
                f"{file}: {where}: {part.label} is used to build a tensor", file=file, key=where
            )
    if any(size >= MAX_NUMEL for size in node.size) or prod(node.size) * 16 >= MAX_NUMEL * 16:
        raise FormatError(
            f"{file}: {where}: shape {list(node.size)} has too many elements", file=file, key=where
        )
    if node.storage is None:
        return None
    storage = storages.get(node.storage.key)
    if storage is None:
        raise FormatError(
            f"{file}: {where}: its storage {ascii(node.storage.key)[:60]} is not in the file",
            file=file,
            key=where,
        )
    try:
        width = itemsize(node.dtype)
    except KeyError:
        raise FormatError(
            f"{file}: {where}: dtype {node.dtype} is not supported", file=file, key=where
        ) from None
    last = 0
    if 0 not in node.size:
        last = node.offset + 1
        for size, stride in zip(node.size, node.stride, strict=True):
            last += (size - 1) * stride
    if last * width > storage.nbytes:
        raise FormatError(
            f"{file}: {where}: shape {list(node.size)} with strides {list(node.stride)} at element {node.offset} "
            f"needs {last * width} bytes of a storage that has {storage.nbytes}",
            file=file,
            key=where,
        )
    if node.reason is not None:
        return None
    return View(storage, node.offset, node.size, node.stride, node.dtype)
