"""Proof that a tensor of a torch file lies inside its storage, with Python's unbounded integers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..dtypes import DTYPES, QUANTISED
from ..errors import FormatError
from .base import Storage, View
from .pickled import Opaque, StorageNode, TensorNode

MAX_NUMEL = 1 << 62  # torch counts bytes in signed 64-bit integers
MAX_STRIDE = (1 << 63) - 1
# Bytes of one element, for every dtype whose elements are whole bytes.
ITEMSIZE = {d.name: d.bits // 8 for d in DTYPES.values() if d.torch} | QUANTISED


def readable(name: str) -> str:
    """A key or dotted place as it stands in a message: without control characters, not too long."""
    return repr(name) if name.isprintable() and len(name) <= 120 else ascii(name[:120])


def itemsize(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        KeyError: a dtype that has no whole-byte elements that we know.
    """
    return ITEMSIZE[dtype]


def storage_nbytes(node: StorageNode) -> int:
    """Declared length of a storage in bytes."""
    return node.numel * itemsize(node.dtype)


def extent(view: View) -> tuple[int, int]:
    """First byte and end of what a view can reach in its storage; (0, 0) without elements."""
    if 0 in view.shape:
        return 0, 0
    width = itemsize(view.dtype)
    last = view.offset + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.stride, strict=True)
    )
    return view.offset * width, (last + 1) * width


def too_large(size: tuple[int, ...]) -> bool:
    """Whether torch cannot count the elements of a shape; it multiplies its way beside a 0, too."""
    if not size:
        return False
    return max(size) >= MAX_NUMEL or prod(size if 0 not in size else (n or 1 for n in size)) >= MAX_NUMEL


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
    size, stride = node.size, node.stride
    if node.parts:
        _prove_parts(node, storages, file, where)
    if too_large(size):
        raise FormatError(f"{file}: {readable(where)}: it has too many elements", file=file, key=where)
    if stride and max(stride) > MAX_STRIDE:
        raise FormatError(
            f"{file}: {readable(where)}: the stride {max(stride)} is more than torch can count; the file is damaged",
            file=file,
            key=where,
        )
    if node.storage is None:
        return None
    storage = storages.get(node.storage.key)
    if storage is None:
        raise FormatError(
            f"{file}: {readable(where)}: its storage {ascii(node.storage.key)[:60]} is not in the file",
            file=file,
            key=where,
        )
    width = ITEMSIZE.get(node.dtype)
    if width is None:
        node.reason = node.reason or "a tensor whose elements ckptkit does not know"
        return None
    if node.requires_grad and not node.dtype.startswith(("float", "bfloat", "complex")):
        raise FormatError(
            f"{file}: {readable(where)}: it requires a gradient and has the dtype {node.dtype}, which takes none; the "
            "file is damaged",
            file=file,
            key=where,
        )
    end = 0
    if 0 not in size:
        end = node.offset + 1
        for i, step in enumerate(stride):
            end += (size[i] - 1) * step
        end *= width
    if end > storage.nbytes:
        raise FormatError(
            f"{file}: {readable(where)}: shape {list(size)} with strides {list(stride)} at element "
            f"{node.offset} needs {end} bytes of a storage that has {storage.nbytes}",
            file=file,
            key=where,
        )
    if node.reason is not None:
        return None
    return View(storage, node.offset, size, stride, node.dtype)


def _prove_parts(node: TensorNode, storages: Mapping[str, Storage], file: str, where: str) -> None:
    for part in node.parts:
        if type(part) is TensorNode:
            prove(part, storages, file, where)
        elif type(part) is Opaque:
            raise FormatError(
                f"{file}: {readable(where)}: {part.label} is used to build a tensor", file=file, key=where
            )
