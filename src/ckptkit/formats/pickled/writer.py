"""A small deterministic pickle writer, protocol 2, for the trees that the reader describes.

Equal trees give equal bytes: strings and globals are memoised by value, containers by identity, nothing
depends on hashing order (sets are written sorted by their own pickles). The result uses only opcodes and
globals that ``torch.load(weights_only=True)`` knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack
from typing import Any, Protocol

from .tree import DeviceNode, DtypeNode, LayoutNode, OrderedNode, SizeNode

_BATCH = 1000


class Emits(Protocol):
    """What knows how to write itself, e.g. a tensor with its place in the new file."""

    def emit(self, out: PickleWriter) -> None:
        """Write exactly one value."""


class PickleWriter:
    """Collects one pickle; `emit` a value, then `finish`."""

    def __init__(self) -> None:
        self._out = bytearray(b"\x80\x02")
        self._texts: dict[str, int] = {}
        self._globals: dict[tuple[str, str], int] = {}
        self._objects: dict[int, int] = {}
        self._kept: list[Any] = []  # memoised by id, so they must live as long as the writer
        self._count = 0

    def finish(self) -> bytes:
        """The pickle."""
        return bytes(self._out) + b"."

    def raw(self, opcodes: bytes) -> None:
        """Opcodes as they are."""
        self._out += opcodes

    def text(self, value: str) -> None:
        """A string."""
        if not self._get(self._texts.get(value)):
            data = value.encode("utf-8", "surrogatepass")
            self._out += b"X" + pack("<I", len(data)) + data
            self._texts[value] = self._put()

    def name(self, module: str, name: str) -> None:
        """A global."""
        if not self._get(self._globals.get((module, name))):
            self._out += b"c" + f"{module}\n{name}\n".encode()
            self._globals[module, name] = self._put()

    def integer(self, value: int) -> None:
        """An int of up to 2040 bits, as many as the reader takes."""
        if 0 <= value < 256:
            self._out += b"K" + bytes((value,))
        elif 0 <= value < 65536:
            self._out += b"M" + pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self._out += b"J" + pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) > 255:
                raise TypeError(f"an integer of {value.bit_length()} bits cannot be written")
            self._out += b"\x8a" + bytes((len(data),)) + data

    def ints(self, values: Iterable[int]) -> None:
        """A tuple of ints."""
        self.tuple_of(values)

    def tuple_of(self, values: Iterable[Any]) -> None:
        """A tuple, not memoised."""
        items = tuple(values)
        if len(items) > 3:
            self._out += b"("
        for item in items:
            self.emit(item)
        self._out += (b")", b"\x85", b"\x86", b"\x87")[len(items)] if len(items) <= 3 else b"t"

    def emit(self, value: Any) -> None:
        """Write one value.

        Raises:
            TypeError: it is no tree that the reader could have described.
        """
        kind = type(value)
        if kind is str:
            self.text(value)
        elif kind is int:
            self.integer(value)
        elif value is None or kind is bool:
            self._out += b"N" if value is None else b"\x88" if value else b"\x89"
        elif kind is float:
            self._out += b"G" + pack(">d", value)
        elif kind is tuple:
            self.tuple_of(value)
        elif kind is dict or kind is OrderedNode:
            self._mapping(value)
        elif kind is list:
            self._list(value)
        elif hasattr(value, "emit"):
            value.emit(self)
        else:
            self._rare(value)

    def call(self, module: str, name: str, *args: Any) -> None:
        """The result of calling a global."""
        self.name(module, name)
        self.tuple_of(args)
        self._out += b"R"

    def _rare(self, value: Any) -> None:
        kind = type(value)
        if kind is bytes:
            self.call("_codecs", "encode", value.decode("latin1"), "latin1")
        elif kind is bytearray:
            self.call("__builtin__", "bytearray", bytes(value))
        elif kind is complex:
            self.call("__builtin__", "complex", value.real, value.imag)
        elif kind is SizeNode:
            self.call("torch", "Size", tuple(value))
        elif kind is DeviceNode:
            device, _, index = value.name.partition(":")
            self.call("torch", "device", device, *((int(index),) if index else ()))
        elif kind is DtypeNode:
            self.name("torch", value.name)
        elif kind is LayoutNode:
            self.call("torch.serialization", "_get_layout", f"torch.{value.name}")
        elif kind is set:
            self.call("__builtin__", "set", sorted(value, key=_pickled))
        else:
            raise TypeError(f"a value of type {kind.__name__} cannot be written")

    def _mapping(self, value: dict[Any, Any]) -> None:
        if self._known(value):
            return
        if type(value) is OrderedNode:
            self.name("collections", "OrderedDict")
            self._out += b")R"
        else:
            self._out += b"}"
        self._remember(value)
        pairs = list(value.items())
        for start in range(0, len(pairs), _BATCH):
            self._out += b"("
            for key, item in pairs[start : start + _BATCH]:
                self.emit(key)
                self.emit(item)
            self._out += b"u"
        attributes = value.attributes if type(value) is OrderedNode else {}
        if attributes:
            self.emit(dict(attributes))
            self._out += b"b"

    def _list(self, value: list[Any]) -> None:
        if self._known(value):
            return
        self._out += b"]"
        self._remember(value)
        for start in range(0, len(value), _BATCH):
            self._out += b"("
            for item in value[start : start + _BATCH]:
                self.emit(item)
            self._out += b"e"

    def _known(self, value: Any) -> bool:
        return self._get(self._objects.get(id(value)))

    def _remember(self, value: Any) -> None:
        self._kept.append(value)
        self._objects[id(value)] = self._put()

    def _get(self, index: int | None) -> bool:
        if index is None:
            return False
        self._out += b"h" + bytes((index,)) if index < 256 else b"j" + pack("<I", index)
        return True

    def _put(self) -> int:
        index = self._count
        self._count += 1
        self._out += b"q" + bytes((index,)) if index < 256 else b"r" + pack("<I", index)
        return index


def _pickled(value: Any) -> bytes:
    writer = PickleWriter()
    writer.emit(value)
    return writer.finish()
