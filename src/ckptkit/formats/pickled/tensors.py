"""What the allow-listed functions for tensors would build, described from their arguments and never executed.

The signatures are those of ``torch._utils`` (https://github.com/pytorch/pytorch/blob/main/torch/_utils.py).
"""

from __future__ import annotations

from typing import Any

from ...dtypes import QUANTISED
from .arguments import MAX_DIMS, Args, all_ints, arity, boolean, brief, ints
from .errors import Refused
from .tree import DtypeNode, Function, LayoutNode, Opaque, OrderedNode, StorageNode, TensorNode, TypeNode

MAX_ATTRIBUTES = 256  # far beyond real ones, as MAX_DIMS is
# A saved attribute of one of these names would change the tensor itself instead of decorating it.
_TENSOR_NAMES = frozenset(
    [
        "data",
        "grad",
        "_grad",
        "requires_grad",
        "device",
        "dtype",
        "shape",
        "layout",
        "names",
        "is_leaf",
        "grad_fn",
        "_grad_fn",
        "_version",
        "_cdata",
        "_base",
        "_backward_hooks",
        "real",
        "imag",
        "T",
        "mT",
        "H",
        "mH",
    ]
)
_COMPLEX = frozenset(("complex32", "complex64", "complex128"))
# What torch can negate; it sets the bit on others without a word, and fails on them when they are used.
_NEGATED = _COMPLEX | {
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
}  # fmt: skip


def _hooks(name: str, value: Any) -> None:
    if not (value is None or (isinstance(value, dict) and not value)):
        raise Refused(f"{name}: backward hooks in a saved tensor")


def _flags(name: str, metadata: Any, dtype: str) -> tuple[bool, bool]:
    if metadata is None:
        return False, False
    if not isinstance(metadata, dict) or not set(metadata) <= {"conj", "neg"}:
        raise Refused(f"{name}: unknown tensor metadata")
    for flag, value in metadata.items():
        if value is not True:  # torch writes a flag to say that it is set, and reads any value as set
            raise Refused(f"{name}: {flag} is {brief(value)}, which torch reads as True")
    conj, neg = "conj" in metadata, "neg" in metadata
    if (conj and dtype not in _COMPLEX) or (neg and dtype not in _NEGATED):
        what = "conjugated" if conj and dtype not in _COMPLEX else "negated"
        raise Refused(f"{name}: a lazily {what} tensor of {dtype}, which torch cannot resolve")
    return conj, neg


def _strided(name: str, args: Args, dtype: str | None, grad: bool, metadata: Any = None) -> TensorNode:
    storage, offset, size, stride = args[:4]
    if type(storage) is not StorageNode:
        raise Refused(f"{name}: the first argument is {brief(storage)}, not a storage")
    if type(offset) is not int or offset < 0:
        raise Refused(f"{name}: storage offset {brief(offset)}")
    size, stride = ints(name, "size", size), ints(name, "stride", stride)
    if len(size) != len(stride):
        raise Refused(f"{name}: {len(size)} sizes but {len(stride)} strides")
    dtype = dtype or storage.dtype
    conj, neg = _flags(name, metadata, dtype)
    # torch rebuilds such a tensor without its quantiser, and crashes when it is used.
    reason = "quantised" if dtype in QUANTISED else None
    return TensorNode(storage, offset, size, stride, dtype, grad, conj=conj, neg=neg, reason=reason)


def rebuild_tensor(args: Args) -> TensorNode:
    """``_rebuild_tensor(storage, offset, size, stride)``"""
    arity("_rebuild_tensor", args, 4, 4)
    return _strided("_rebuild_tensor", args, None, False)


def rebuild_tensor_v2(args: Args) -> TensorNode:
    """``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata=None)``"""
    name = "_rebuild_tensor_v2"
    if len(args) == 6 and type(args[0]) is StorageNode and type(args[5]) is OrderedNode and not args[5]:
        storage, offset, size, stride, grad, _ = args
        sane = type(offset) is int and offset >= 0 and type(grad) is bool
        sane = sane and type(size) is tuple and type(stride) is tuple and len(size) == len(stride) <= MAX_DIMS
        sane = sane and storage.dtype not in QUANTISED
        if sane and all_ints(size) and all_ints(stride):
            return TensorNode(storage, offset, size, stride, storage.dtype, grad)  # the usual case, fast
    arity(name, args, 6, 7)
    grad = boolean(name, "requires_grad", args[4])
    _hooks(name, args[5])
    return _strided(name, args, None, grad, args[6] if len(args) > 6 else None)


def rebuild_tensor_v3(args: Args) -> TensorNode:
    """``_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None)``"""
    name = "_rebuild_tensor_v3"
    arity(name, args, 7, 8)
    grad = boolean(name, "requires_grad", args[4])
    _hooks(name, args[5])
    if type(args[6]) is not DtypeNode:
        raise Refused(f"{name}: {brief(args[6])} is no dtype")
    return _strided(name, args, args[6].name, grad, args[7] if len(args) > 7 else None)


def rebuild_parameter(args: Args) -> TensorNode:
    """``_rebuild_parameter(data, requires_grad, hooks)``"""
    arity("_rebuild_parameter", args, 3, 3)
    return _parameter("_rebuild_parameter", args, ())


def rebuild_parameter_with_state(args: Args) -> TensorNode:
    """``_rebuild_parameter_with_state(data, requires_grad, hooks, state)``"""
    name = "_rebuild_parameter_with_state"
    arity(name, args, 4, 4)
    return _parameter(name, args, _attributes(name, args[3]))


def _parameter(name: str, args: Args, attributes: tuple[str, ...]) -> TensorNode:
    data = args[0]
    if type(data) is not TensorNode:
        raise Refused(f"{name}: {brief(data)} is no tensor")
    grad = boolean(name, "requires_grad", args[1])
    _hooks(name, args[2])
    return TensorNode(
        data.storage, data.offset, data.size, data.stride, data.dtype, grad, True,
        data.conj, data.neg, (data.attributes + attributes)[:MAX_ATTRIBUTES], data.reason, data.parts,
    )  # fmt: skip


def _attributes(name: str, state: Any) -> tuple[str, ...]:
    names: list[str] = []
    for part in state if type(state) is tuple else (state,):
        if part is None:
            continue
        if not isinstance(part, dict):
            raise Refused(f"{name}: the saved attributes are no dictionary")
        if len(part) > MAX_ATTRIBUTES:
            raise Refused(f"{name}: {len(part)} saved attributes")
        for key in part:
            if type(key) is not str or key in _TENSOR_NAMES or key.startswith("__"):
                raise Refused(f"{name}: a saved attribute {ascii(key)[:60]} would change the tensor itself")
            names.append(key)
    return tuple(names)


def rebuild_from_type(args: Args) -> Any:
    """``_rebuild_from_type_v2(func, type, args, state)``, and its forerunner without ``_v2``"""
    name = "_rebuild_from_type_v2"
    arity(name, args, 4, 4)
    func, kind, inner, state = args
    if type(func) is Opaque:
        return Opaque(func.module, func.name, (inner,))
    if type(func) is not Function or not func.builds_tensor or func.describe is rebuild_from_type:
        raise Refused(f"{name}: {brief(func)} is no function that rebuilds a tensor")
    if type(inner) is not tuple:
        raise Refused(f"{name}: the arguments are no tuple")
    tensor: TensorNode = func.describe(inner)
    tensor.attributes += _attributes(name, state)
    if type(kind) is TypeNode:
        if kind.name == "Parameter":
            tensor.parameter = True
    elif type(kind) is Opaque:
        tensor.reason = tensor.reason or f"an instance of the tensor subclass {kind.label}"
    else:
        raise Refused(f"{name}: {brief(kind)} is no tensor type")
    return tensor


def rebuild_meta(args: Args) -> TensorNode:
    """``_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)``"""
    name = "_rebuild_meta_tensor_no_storage"
    arity(name, args, 4, 4)
    if type(args[0]) is not DtypeNode:
        raise Refused(f"{name}: {brief(args[0])} is no dtype")
    size, stride = ints(name, "size", args[1]), ints(name, "stride", args[2])
    grad = boolean(name, "requires_grad", args[3])
    return TensorNode(None, 0, size, stride, args[0].name, grad, reason="meta")


def rebuild_sparse(args: Args) -> TensorNode:
    """``_rebuild_sparse_tensor(layout, data)``"""
    name = "_rebuild_sparse_tensor"
    arity(name, args, 2, 2)
    layout, data = args
    if type(layout) is not LayoutNode or type(data) is not tuple or len(data) < 3:
        raise Refused(f"{name}: not the arguments of a sparse tensor")
    tensors = [part for part in data if type(part) is TensorNode]
    sizes = [part for part in data if isinstance(part, (tuple, list))]
    if not tensors or not sizes:
        raise Refused(f"{name}: not the arguments of a sparse tensor")
    size = ints(name, "size", sizes[0])
    return TensorNode(None, 0, size, (), tensors[-1].dtype, reason=f"{layout.name} (sparse)", parts=data)


def rebuild_quantised(args: Args) -> TensorNode:
    """``_rebuild_qtensor(storage, offset, size, stride, quantizer_params, requires_grad, hooks)``"""
    name = "_rebuild_qtensor"
    arity(name, args, 7, 7)
    tensor = _strided(name, args, None, boolean(name, "requires_grad", args[5]))
    _hooks(name, args[6])
    tensor.reason = "quantised"
    tensor.parts = args[4] if type(args[4]) is tuple else ()
    return tensor


def rebuild_nested(args: Args) -> TensorNode:
    """``_rebuild_nested_tensor(buffer, sizes, strides, offsets)``"""
    name = "_rebuild_nested_tensor"
    arity(name, args, 4, 4)
    if any(type(arg) is not TensorNode for arg in args):
        raise Refused(f"{name}: not the arguments of a nested tensor")
    return TensorNode(None, 0, (), (), args[0].dtype, reason="nested", parts=args)


def rebuild_wrapper(args: Args) -> TensorNode:
    """``_rebuild_wrapper_subclass(cls, dtype, size, stride, offset, layout, device, requires_grad)``"""
    name = "_rebuild_wrapper_subclass"
    arity(name, args, 8, 8)
    if type(args[1]) is not DtypeNode:
        raise Refused(f"{name}: {brief(args[1])} is no dtype")
    size = ints(name, "size", args[2])
    kind = (
        f"an instance of the tensor subclass {args[0].label}"
        if type(args[0]) is Opaque
        else "a wrapper subclass"
    )
    return TensorNode(None, 0, size, (), args[1].name, reason=f"{kind} without data of its own")
