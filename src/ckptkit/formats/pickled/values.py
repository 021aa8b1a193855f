"""What the allow-listed functions for plain values would build: sizes, devices, bytes, sets, dictionaries."""

from __future__ import annotations

import re
from typing import Any

from .arguments import Args, arity, brief, ints
from .errors import Refused
from .keys import check_key
from .tree import DeviceNode, LayoutNode, OrderedNode, SizeNode

MAX_SIZE = (1 << 63) - 1  # torch counts in signed 64-bit integers, and devices in seven bits
MAX_DEVICE = 127
_DEVICE = re.compile(r"[a-z][a-z0-9_]{0,60}(:(0|[1-9][0-9]{0,2}))?", re.ASCII)
_LAYOUTS = frozenset(
    ["strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged", "_mkldnn"]
)


def ordered_dict(args: Args) -> OrderedNode:
    """``OrderedDict()`` and Python 2's ``OrderedDict([[key, value], ...])``"""
    arity("OrderedDict", args, 0, 1)
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
        raise Refused(f"{name}: {brief(args[0])} is no list")
    sequence: list[Any] | tuple[Any, ...] = args[0]
    return sequence


def size(args: Args) -> SizeNode:
    """``torch.Size([...])``"""
    arity("torch.Size", args, 0, 1)
    sizes = ints("torch.Size", "the size", args[0] if args else ())
    if max(sizes, default=0) > MAX_SIZE:
        raise Refused(f"torch.Size: the size holds an integer of {max(sizes).bit_length()} bits")
    return SizeNode(sizes)


def device(args: Args) -> DeviceNode:
    """``torch.device(type[, index])``"""
    arity("torch.device", args, 1, 2)
    if type(args[0]) is not str or (len(args) > 1 and type(args[1]) is not int):
        raise Refused("torch.device: not a device name")
    name = args[0] if len(args) == 1 else f"{args[0]}:{args[1]}"
    if not _DEVICE.fullmatch(name) or int(name.partition(":")[2] or 0) > MAX_DEVICE:
        raise Refused(f"torch.device: {ascii(name)[:60]} is no device")
    return DeviceNode(name)


def layout(args: Args) -> LayoutNode:
    """``torch.serialization._get_layout(name)``"""
    arity("_get_layout", args, 1, 1)
    name = args[0].removeprefix("torch.") if type(args[0]) is str else ""
    if name not in _LAYOUTS:
        raise Refused("_get_layout: unknown layout")
    return LayoutNode(name)


def encode(args: Args) -> bytes:
    """``_codecs.encode(text, 'latin1')``, the form of bytes in protocol 2; no other codec is looked up."""
    arity("_codecs.encode", args, 2, 2)
    if type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        raise Refused("_codecs.encode with anything but latin1")
    try:
        return args[0].encode("latin1")
    except UnicodeEncodeError:
        raise Refused("_codecs.encode: text outside latin1") from None


def empty_bytes(args: Args) -> bytes:
    """``bytes()``, the form of empty bytes in protocol 2."""
    arity("bytes", args, 0, 0)
    return b""


def byte_array(args: Args) -> bytearray:
    """``bytearray(bytes)``; a length is refused, since it would only allocate."""
    arity("bytearray", args, 0, 2)
    if not args:
        return bytearray()
    if type(args[0]) is bytes and len(args) == 1:
        return bytearray(args[0])
    if len(args) == 2:
        return bytearray(encode(args))
    raise Refused("bytearray called with anything but bytes")


def plain_set(args: Args) -> set[Any]:
    """``set([...])``"""
    arity("set", args, 0, 1)
    return set(_members("set", args))


def frozen_set(args: Args) -> frozenset[Any]:
    """``frozenset([...])``"""
    arity("frozenset", args, 0, 1)
    return frozenset(_members("frozenset", args))


def _members(name: str, args: Args) -> list[Any] | tuple[Any, ...]:
    members = _sequence(name, args)
    for member in members:
        check_key(member)
    return members


def complex_number(args: Args) -> complex:
    """``complex(real, imag)``"""
    arity("complex", args, 1, 2)
    if any(type(arg) not in (int, float) for arg in args):
        raise Refused("complex called with anything but numbers")
    try:
        return complex(*args)
    except OverflowError:
        raise Refused("complex called with an integer beyond a float's range") from None
