"""The allow-list: every global that means something to us, by its exact (module, name).

Nothing here is ever looked up in a module; a global is only compared with these pairs.
"""

from __future__ import annotations

from typing import Any

from ...dtypes import DTYPES, QUANTISED
from . import tensors, values
from .tree import DtypeNode, Function, StorageType, TypeNode

_ODD_DTYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)]
_ODD_DTYPES += ["bits1x8", "bits2x4", "bits4x2", "bits8", "bits16", *QUANTISED]
_ALIASES = {
    "float": "float32", "double": "float64", "half": "float16", "int": "int32", "long": "int64",
    "short": "int16", "cfloat": "complex64", "cdouble": "complex128", "chalf": "complex32",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}  # fmt: skip
# The storage class of each dtype that torch.save writes with one; other dtypes get untyped storages.
TYPED_STORAGES = {
    dtype: name for name, dtype in _STORAGES.items() if dtype in DTYPES and name != "UntypedStorage"
}
_QUANTISERS = (
    "per_tensor_affine", "per_channel_affine", "per_tensor_symmetric", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
)  # fmt: skip
_REBUILD = {
    "_rebuild_tensor": tensors.rebuild_tensor,
    "_rebuild_tensor_v2": tensors.rebuild_tensor_v2,
    "_rebuild_tensor_v3": tensors.rebuild_tensor_v3,
    "_rebuild_parameter": tensors.rebuild_parameter,
    "_rebuild_parameter_with_state": tensors.rebuild_parameter_with_state,
    "_rebuild_meta_tensor_no_storage": tensors.rebuild_meta,
    "_rebuild_sparse_tensor": tensors.rebuild_sparse,
    "_rebuild_qtensor": tensors.rebuild_quantised,
    "_rebuild_nested_tensor": tensors.rebuild_nested,
    "_rebuild_wrapper_subclass": tensors.rebuild_wrapper,
}
_PLAIN = {
    "set": values.plain_set,
    "frozenset": values.frozen_set,
    "complex": values.complex_number,
    "bytearray": values.byte_array,
    "bytes": values.empty_bytes,
}


def _table() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {}

    def function(module: str, name: str, describe: Any, tensor: bool = False) -> None:
        table[module, name] = Function(module, name, describe, tensor)

    def kind(module: str, name: str, describe: Any) -> None:
        table[module, name] = Function(module, name, describe, is_type=True)

    for name, describe in _REBUILD.items():
        function("torch._utils", name, describe, True)
    for module in ("torch._tensor", "torch.tensor"):  # torch before 1.9 used the second
        function(module, "_rebuild_from_type", tensors.rebuild_from_type, True)
        function(module, "_rebuild_from_type_v2", tensors.rebuild_from_type, True)
    for module in ("builtins", "__builtin__"):  # the second is Python 2's, which protocol 2 writes
        for name, plain in _PLAIN.items():
            kind(module, name, plain)
    kind("collections", "OrderedDict", values.ordered_dict)
    kind("torch", "Size", values.size)
    kind("torch", "device", values.device)
    function("torch.serialization", "_get_layout", values.layout)
    function("_codecs", "encode", values.encode)
    for name in [*(d.name for d in DTYPES.values() if d.torch), *_ODD_DTYPES]:
        table["torch", name] = DtypeNode(name)
    for alias, name in _ALIASES.items():
        table["torch", alias] = DtypeNode(name)
    for name, dtype in _STORAGES.items():
        for module in ("torch", "torch.cuda"):
            table[module, name] = StorageType(module, name, dtype)
    for name in ("UntypedStorage", "_UntypedStorage"):  # the second is torch 1.11's
        table["torch.storage", name] = StorageType("torch.storage", name, "uint8")
    for module, name in (
        ("torch", "Tensor"),
        ("torch._tensor", "Tensor"),
        ("torch.tensor", "Tensor"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.nn.parameter", "Buffer"),
        ("torch.nn", "Parameter"),
        *(("torch", name) for name in _QUANTISERS),
    ):
        table[module, name] = TypeNode(module, name)
    return table


GLOBALS: dict[tuple[str, str], Any] = _table()
