"""The weights of a ``torch.export`` archive (``.pt2``): a JSON file says where in the archive each tensor lies.

The layout is that of torch 2.9 and later (torch/export/pt2_archive): ``data/weights/NAME_weights_config.json`` gives each
key its file, and shape, dtype, strides and offset of the tensor in it.
"""

from __future__ import annotations

from typing import Any

from ..pickled import OrderedNode, StorageNode, TensorNode
from ..torch_views import ITEMSIZE

# torch._export.serde.schema.ScalarType
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
_STRIDED = 7
MAX_DIMS = 1024


class NoWeights(Exception):
    """Why a list of weights is not understood."""


def weights(document: Any, sizes: dict[str, int], folder: str) -> OrderedNode:
    """The tensors that a list of weights names.

    Args:
        document: the content of ``NAME_weights_config.json``.
        sizes: bytes of each file of the folder, by its name.
        folder: where the files lie, below ``data/``.

    Raises:
        NoWeights: it is not as torch writes it; names the key.
    """
    config = document.get("config") if type(document) is dict else None
    if type(config) is not dict:
        raise NoWeights("it has no object `config`")
    state = OrderedNode()
    for key, entry in config.items():
        state[key] = _tensor(key, entry, sizes, folder)
    return state


def _tensor(key: str, entry: Any, sizes: dict[str, int], folder: str) -> TensorNode:
    def fail(what: str) -> NoWeights:
        return NoWeights(f"{key[:120]!r}: {what}")

    if type(entry) is not dict or type(entry.get("tensor_meta")) is not dict:
        raise fail("it is no tensor")
    name, meta = entry.get("path_name"), entry["tensor_meta"]
    dtype, layout, offset = meta.get("dtype"), meta.get("layout"), meta.get("storage_offset")
    if type(name) is not str or name not in sizes:
        raise fail("its file is not in the archive")
    if type(dtype) is not int or dtype not in _DTYPES:
        raise fail(f"dtype number {str(dtype)[:20]} is unknown")
    size, stride = _numbers(meta.get("sizes")), _numbers(meta.get("strides"))
    start = _number(offset)
    if size is None or stride is None or start is None or len(size) != len(stride):
        raise fail("its shape, strides and offset are not plain numbers")
    grad = meta.get("requires_grad") is True
    reason = None
    if entry.get("use_pickle") is not False:
        reason = "a tensor that is pickled in a file of its own"
    elif layout != _STRIDED:
        reason = "sparse"
    itemsize = ITEMSIZE[_DTYPES[dtype]]
    if reason is None and sizes[name] % itemsize:
        raise fail(f"its file has {sizes[name]} bytes, no multiple of an element")
    storage = StorageNode(f"{folder}/{name}", "uint8", sizes[name], "cpu")
    parameter = entry.get("is_param") is True
    return TensorNode(storage, start, size, stride, _DTYPES[dtype], grad, parameter, reason=reason)


def _numbers(value: Any) -> tuple[int, ...] | None:
    if type(value) is not list or len(value) > MAX_DIMS:
        return None
    numbers = [_number(part) for part in value]
    return None if None in numbers else tuple(number for number in numbers if number is not None)


def _number(value: Any) -> int | None:
    number = value.get("as_int") if type(value) is dict else None
    return number if type(number) is int and number >= 0 else None
