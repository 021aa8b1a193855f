"""numpy arrays and scalars of a pickle as tensors: their bytes stand in the pickle itself.

What numpy pickles: ``_reconstruct(ndarray, (0,), b'b')`` with the state ``(version, shape, dtype, fortran, bytes)``,
``_frombuffer(buffer, dtype, shape, order)`` since protocol 5, ``scalar(dtype, bytes)``, and
``dtype(code, align, copy)`` with the state ``(version, byte order, ...)``.
"""

from __future__ import annotations

from math import prod
from typing import Any

from ..pickled import Opaque, StorageNode, TensorNode
from ..strides import row_major
from ..torch_bytes import swap
from ..torch_views import ITEMSIZE, too_large

ARRAY, SCALAR = "a numpy array", "a numpy scalar"
MAX_DIMS = 64  # numpy's own
_ROOMS = ("numpy.core.", "numpy._core.")
_CODES = {
    "f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
_EXTENSIONS = {
    name: name
    for name in (
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    )
}


class Arrays:
    """Makes tensors of arrays, and keeps their bytes.

    Attributes:
        inline: the bytes of each, by the key of its storage; no entry of a file can have such a key.
    """

    def __init__(self) -> None:
        self.inline: dict[str, bytes] = {}

    def tensor(self, node: Opaque) -> TensorNode | None:
        """The tensor of an array or scalar; None for anything else, and for arrays of objects, texts or records."""
        if not node.module.startswith(_ROOMS):
            return None
        if node.name == "_reconstruct":
            state = node.state
            if type(state) is not tuple or len(state) != 5 or not _is_plain_array(node):
                return None
            return self._make(state[2], state[1], state[4], state[3] is True, ARRAY)
        if node.name == "_frombuffer" and node.args is not None and len(node.args) == 4:
            data, dtype, shape, order = node.args
            return self._make(dtype, shape, data, order == "F", ARRAY) if order in ("C", "F") else None
        if node.name == "scalar" and node.args is not None and len(node.args) == 2:
            return self._make(node.args[0], (), node.args[1], False, SCALAR)
        return None

    @staticmethod
    def is_array(node: Opaque) -> bool:
        """Whether it is an array or scalar at all."""
        return node.module.startswith(_ROOMS) and node.name in ("_reconstruct", "_frombuffer", "scalar")

    def _make(self, dtype: Any, shape: Any, data: Any, fortran: bool, origin: str) -> TensorNode | None:
        known = dtype_of(dtype)
        if known is None or type(shape) is not tuple or len(shape) > MAX_DIMS:
            return None
        if any(type(size) is not int or size < 0 for size in shape) or too_large(shape):
            return None
        if type(data) is str:  # Python 2 wrote bytes as text, and what reads as text became a string
            data = data.encode("utf-8", "surrogatepass")
        name, big = known
        width = ITEMSIZE[name]
        if type(data) not in (bytes, bytearray) or len(data) != prod(shape) * width:
            return None
        return self.add(name, shape, bytes(data), big=big, fortran=fortran, origin=origin)

    def add(
        self, dtype: str, shape: tuple[int, ...], data: bytes, *, big: bool, fortran: bool, origin: str
    ) -> TensorNode:
        """A tensor of the given bytes; big-endian ones are swapped."""
        part = ITEMSIZE[dtype] // (2 if dtype.startswith("complex") else 1)
        key = f"\0{len(self.inline)}"
        self.inline[key] = swap(data, part) if big and part > 1 else data
        stride = tuple(reversed(row_major(shape[::-1]))) if fortran else row_major(shape)
        return TensorNode(StorageNode(key, dtype, prod(shape), "cpu"), 0, shape, stride, dtype, origin=origin)


def dtype_of(node: Any) -> tuple[str, bool] | None:
    """The dtype of a pickled ``numpy.dtype``, and whether it is big-endian; None for those that torch has not."""
    if type(node) is not Opaque or (node.module, node.name) != ("numpy", "dtype") or not node.args:
        return None
    code = node.args[0]
    if type(code) is Opaque:  # ml_dtypes pickles its classes
        name = _EXTENSIONS.get(code.name) if code.module == "ml_dtypes" and code.args is None else None
        return None if name is None else (name, False)
    state = node.state
    if (
        type(code) is not str
        or type(state) is not tuple
        or len(state) < 2
        or any(part is not None for part in state[2:5])
    ):
        return None
    return named_dtype(state[1] + code) if type(state[1]) is str else None


def named_dtype(text: str) -> tuple[str, bool] | None:
    """The dtype of numpy's spelling, ``<f4``, and whether it is big-endian."""
    order, code = (text[0], text[1:]) if text[:1] in tuple("<>|=") else ("=", text)
    name = _CODES.get(code)
    return None if name is None else (name, order == ">")


def _is_plain_array(node: Opaque) -> bool:
    kind = node.args[0] if node.args else None
    return type(kind) is Opaque and (kind.module, kind.name) == ("numpy", "ndarray") and kind.args is None
