"""What the allow-listed functions would build, described from their arguments and never executed.

The signatures are those of ``torch._utils`` (https://github.com/pytorch/pytorch/blob/main/torch/_utils.py).
"""

from __future__ import annotations

import re
from typing import Any

from ...dtypes import QUANTISED
from .errors import Refused
from .keys import check_key
from .tree import (
    DeviceNode,
    DtypeNode,
    Function,
    LayoutNode,
    Opaque,
    OrderedNode,
    Shape,
    SizeNode,
    StorageNode,
    TensorNode,
    TypeNode,
)

Args = tuple[Any, ...]
# Both are far beyond real ones; they bound the work that one short call on memoised arguments can cause.
MAX_DIMS = 1024
MAX_ATTRIBUTES = 256
MAX_SIZE = (1 << 63) - 1  # torch counts in signed 64-bit integers, and devices in seven bits
MAX_DEVICE = 127
_DEVICE = re.compile(r"[a-z][a-z0-9_]{0,60}(:(0|[1-9][0-9]{0,2}))?", re.ASCII)

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
_LAYOUTS = frozenset(
    ["strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged", "_mkldnn"]
)


def _arity(name: str, args: Args, low: int, high: int) -> None:
    if not low <= len(args) <= high:
        raise Refused(f"{name} called with {len(args)} arguments")


def _ints(name: str, what: str, value: Any) -> Shape:
    if type(value) is not tuple and type(value) is not SizeNode and type(value) is not list:
        raise Refused(f"{name}: {what} is not a tuple of integers")
    if len(value) > MAX_DIMS:
        raise Refused(f"{name}: {what} has {len(value)} dimensions")
    for item in value:
        if type(item) is not int or item < 0:
            raise Refused(f"{name}: {what} holds {_brief(item)}, not a non-negative integer")
    return tuple(value)


def _all_ints(values: tuple[Any, ...]) -> bool:
    return {int}.issuperset(map(type, values)) and min(values, default=0) >= 0


def _brief(value: Any) -> str:
    return str(value)[:40] if type(value) in (int, float, bool) else f"a value of type {type(value).__name__}"


def _bool(name: str, what: str, value: Any) -> bool:
    if type(value) is not bool:
        raise Refused(f"{name}: {what} is {_brief(value)}, not a bool")
    return value


def _hooks(name: str, value: Any) -> None:
    if not (value is None or (isinstance(value, dict) and not value)):
        raise Refused(f"{name}: backward hooks in a saved tensor")


def _flags(name: str, metadata: Any, dtype: str) -> tuple[bool, bool]:
    if metadata is None:
        return False, False
    if not isinstance(metadata, dict) or not set(metadata) <= {"conj", "neg"}:
        raise Refused(f"{name}: unknown tensor metadata")
    conj = _bool(name, "conj", metadata.get("conj", False))
    neg = _bool(name, "neg", metadata.get("neg", False))
    if (conj and dtype not in _COMPLEX) or (neg and dtype not in _NEGATED):
        what = "conjugated" if conj and dtype not in _COMPLEX else "negated"
        raise Refused(f"{name}: a lazily {what} tensor of {dtype}, which torch cannot resolve")
    return conj, neg


def _strided(name: str, args: Args, dtype: str | None, grad: bool, metadata: Any = None) -> TensorNode:
    storage, offset, size, stride = args[:4]
    if type(storage) is not StorageNode:
        raise Refused(f"{name}: the first argument is {_brief(storage)}, not a storage")
    if type(offset) is not int or offset < 0:
        raise Refused(f"{name}: storage offset {_brief(offset)}")
    size, stride = _ints(name, "size", size), _ints(name, "stride", stride)
    if len(size) != len(stride):
        raise Refused(f"{name}: {len(size)} sizes but {len(stride)} strides")
    dtype = dtype or storage.dtype
    conj, neg = _flags(name, metadata, dtype)
    # torch rebuilds such a tensor without its quantiser, and crashes when it is used.
    reason = "quantised" if dtype in QUANTISED else None
    return TensorNode(storage, offset, size, stride, dtype, grad, conj=conj, neg=neg, reason=reason)


def rebuild_tensor(args: Args) -> TensorNode:
    """``_rebuild_tensor(storage, offset, size, stride)``"""
    _arity("_rebuild_tensor", args, 4, 4)
    return _strided("_rebuild_tensor", args, None, False)


def rebuild_tensor_v2(args: Args) -> TensorNode:
    """``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata=None)``"""
    name = "_rebuild_tensor_v2"
    if len(args) == 6 and type(args[0]) is StorageNode and type(args[5]) is OrderedNode and not args[5]:
        storage, offset, size, stride, grad, _ = args
        sane = type(offset) is int and offset >= 0 and type(grad) is bool
        sane = sane and type(size) is tuple and type(stride) is tuple and len(size) == len(stride) <= MAX_DIMS
        sane = sane and storage.dtype not in QUANTISED
        if sane and _all_ints(size) and _all_ints(stride):
            return TensorNode(storage, offset, size, stride, storage.dtype, grad)  # the usual case, fast
    _arity(name, args, 6, 7)
    grad = _bool(name, "requires_grad", args[4])
    _hooks(name, args[5])
    return _strided(name, args, None, grad, args[6] if len(args) > 6 else None)


def rebuild_tensor_v3(args: Args) -> TensorNode:
    """``_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None)``"""
    name = "_rebuild_tensor_v3"
    _arity(name, args, 7, 8)
    grad = _bool(name, "requires_grad", args[4])
    _hooks(name, args[5])
    if type(args[6]) is not DtypeNode:
        raise Refused(f"{name}: {_brief(args[6])} is no dtype")
    return _strided(name, args, args[6].name, grad, args[7] if len(args) > 7 else None)


def rebuild_parameter(args: Args) -> TensorNode:
    """``_rebuild_parameter(data, requires_grad, hooks)``"""
    _arity("_rebuild_parameter", args, 3, 3)
    return _parameter("_rebuild_parameter", args, ())


def rebuild_parameter_with_state(args: Args) -> TensorNode:
    """``_rebuild_parameter_with_state(data, requires_grad, hooks, state)``"""
    name = "_rebuild_parameter_with_state"
    _arity(name, args, 4, 4)
    return _parameter(name, args, _attributes(name, args[3]))


def _parameter(name: str, args: Args, attributes: tuple[str, ...]) -> TensorNode:
    data = args[0]
    if type(data) is not TensorNode:
        raise Refused(f"{name}: {_brief(data)} is no tensor")
    grad = _bool(name, "requires_grad", args[1])
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
    _arity(name, args, 4, 4)
    func, kind, inner, state = args
    if type(func) is Opaque:
        return Opaque(func.module, func.name, (inner,))
    if type(func) is not Function or not func.builds_tensor or func.describe is rebuild_from_type:
        raise Refused(f"{name}: {_brief(func)} is no function that rebuilds a tensor")
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
        raise Refused(f"{name}: {_brief(kind)} is no tensor type")
    return tensor


def rebuild_meta(args: Args) -> TensorNode:
    """``_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)``"""
    name = "_rebuild_meta_tensor_no_storage"
    _arity(name, args, 4, 4)
    if type(args[0]) is not DtypeNode:
        raise Refused(f"{name}: {_brief(args[0])} is no dtype")
    size, stride = _ints(name, "size", args[1]), _ints(name, "stride", args[2])
    grad = _bool(name, "requires_grad", args[3])
    return TensorNode(None, 0, size, stride, args[0].name, grad, reason="meta")


def rebuild_sparse(args: Args) -> TensorNode:
    """``_rebuild_sparse_tensor(layout, data)``"""
    name = "_rebuild_sparse_tensor"
    _arity(name, args, 2, 2)
    layout, data = args
    if type(layout) is not LayoutNode or type(data) is not tuple or len(data) < 3:
        raise Refused(f"{name}: not the arguments of a sparse tensor")
    tensors = [part for part in data if type(part) is TensorNode]
    sizes = [part for part in data if isinstance(part, (tuple, list))]
    if not tensors or not sizes:
        raise Refused(f"{name}: not the arguments of a sparse tensor")
    size = _ints(name, "size", sizes[0])
    return TensorNode(None, 0, size, (), tensors[-1].dtype, reason=f"{layout.name} (sparse)", parts=data)


def rebuild_quantised(args: Args) -> TensorNode:
    """``_rebuild_qtensor(storage, offset, size, stride, quantizer_params, requires_grad, hooks)``"""
    name = "_rebuild_qtensor"
    _arity(name, args, 7, 7)
    tensor = _strided(name, args, None, _bool(name, "requires_grad", args[5]))
    _hooks(name, args[6])
    tensor.reason = "quantised"
    tensor.parts = args[4] if type(args[4]) is tuple else ()
    return tensor


def rebuild_nested(args: Args) -> TensorNode:
    """``_rebuild_nested_tensor(buffer, sizes, strides, offsets)``"""
    name = "_rebuild_nested_tensor"
    _arity(name, args, 4, 4)
    if any(type(arg) is not TensorNode for arg in args):
        raise Refused(f"{name}: not the arguments of a nested tensor")
    return TensorNode(None, 0, (), (), args[0].dtype, reason="nested", parts=args)


def rebuild_wrapper(args: Args) -> TensorNode:
    """``_rebuild_wrapper_subclass(cls, dtype, size, stride, offset, layout, device, requires_grad)``"""
    name = "_rebuild_wrapper_subclass"
    _arity(name, args, 8, 8)
    if type(args[1]) is not DtypeNode:
        raise Refused(f"{name}: {_brief(args[1])} is no dtype")
    size = _ints(name, "size", args[2])
    return TensorNode(None, 0, size, (), args[1].name, reason="a wrapper subclass without data of its own")


def ordered_dict(args: Args) -> OrderedNode:
    """``OrderedDict()`` and Python 2's ``OrderedDict([[key, value], ...])``"""
    _arity("OrderedDict", args, 0, 1)
    node = OrderedNode()
    for pair in _sequence("OrderedDict", args):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refused("OrderedDict: not a list of pairs")
        check_key(pair[0])
        node[pair[0]] = pair[1]
    return node


def _sequence(name: str, args: Args) -> list[Any] | tuple[Any, ...]:
    if not args:
        return ()
    if type(args[0]) is not list and type(args[0]) is not tuple:
        raise Refused(f"{name}: {_brief(args[0])} is no list")
    sequence: list[Any] | tuple[Any, ...] = args[0]
    return sequence


def size(args: Args) -> SizeNode:
    """``torch.Size([...])``"""
    _arity("torch.Size", args, 0, 1)
    sizes = _ints("torch.Size", "the size", args[0] if args else ())
    if max(sizes, default=0) > MAX_SIZE:
        raise Refused(f"torch.Size: the size holds an integer of {max(sizes).bit_length()} bits")
    return SizeNode(sizes)


def device(args: Args) -> DeviceNode:
    """``torch.device(type[, index])``"""
    _arity("torch.device", args, 1, 2)
    if type(args[0]) is not str or (len(args) > 1 and type(args[1]) is not int):
        raise Refused("torch.device: not a device name")
    name = args[0] if len(args) == 1 else f"{args[0]}:{args[1]}"
    if not _DEVICE.fullmatch(name) or int(name.partition(":")[2] or 0) > MAX_DEVICE:
        raise Refused(f"torch.device: {ascii(name)[:60]} is no device")
    return DeviceNode(name)


def layout(args: Args) -> LayoutNode:
    """``torch.serialization._get_layout(name)``"""
    _arity("_get_layout", args, 1, 1)
    name = args[0].removeprefix("torch.") if type(args[0]) is str else ""
    if name not in _LAYOUTS:
        raise Refused("_get_layout: unknown layout")
    return LayoutNode(name)


def encode(args: Args) -> bytes:
    """``_codecs.encode(text, 'latin1')``, the form of bytes in protocol 2; no other codec is looked up."""
    _arity("_codecs.encode", args, 2, 2)
    if type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        raise Refused("_codecs.encode with anything but latin1")
    try:
        return args[0].encode("latin1")
    except UnicodeEncodeError:
        raise Refused("_codecs.encode: text outside latin1") from None


def empty_bytes(args: Args) -> bytes:
    """``bytes()``, the form of empty bytes in protocol 2."""
    _arity("bytes", args, 0, 0)
    return b""


def byte_array(args: Args) -> bytearray:
    """``bytearray(bytes)``; a length is refused, since it would only allocate."""
    _arity("bytearray", args, 0, 2)
    if not args:
        return bytearray()
    if type(args[0]) is bytes and len(args) == 1:
        return bytearray(args[0])
    if len(args) == 2:
        return bytearray(encode(args))
    raise Refused("bytearray called with anything but bytes")


def plain_set(args: Args) -> set[Any]:
    """``set([...])``"""
    _arity("set", args, 0, 1)
    return set(_members("set", args))


def frozen_set(args: Args) -> frozenset[Any]:
    """``frozenset([...])``"""
    _arity("frozenset", args, 0, 1)
    return frozenset(_members("frozenset", args))


def _members(name: str, args: Args) -> list[Any] | tuple[Any, ...]:
    members = _sequence(name, args)
    for member in members:
        check_key(member)
    return members


def complex_number(args: Args) -> complex:
    """``complex(real, imag)``"""
    _arity("complex", args, 1, 2)
    if any(type(arg) not in (int, float) for arg in args):
        raise Refused("complex called with anything but numbers")
    try:
        return complex(*args)
    except OverflowError:
        raise Refused("complex called with an integer beyond a float's range") from None
