"""What a pickle describes, as inert data: small node classes beside plain Python values.

Plain values stand for themselves (`None`, `bool`, `int`, `float`, `complex`, `str`, `bytes`, `bytearray`,
`list`, `tuple`, `dict`, `set`, `frozenset`). Everything else is one of the nodes below; none of them can do
anything but be looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


class OrderedNode(dict[Any, Any]):
    """A `collections.OrderedDict`; attributes that were set on it are in `attributes`."""

    # One is born per tensor (its empty hooks), so there is no constructor in Python.
    @property
    def attributes(self) -> dict[str, Any]:
        """What BUILD set on it, e.g. ``_metadata``."""
        return self.__dict__


class SizeNode(tuple[int, ...]):
    """A `torch.Size`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class DtypeNode:
    """A `torch.dtype`, by name without ``torch.``."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A `torch.device`, as its string."""

    name: str


@dataclass(frozen=True, slots=True)
class LayoutNode:
    """A `torch.layout`, by name without ``torch.``."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageType:
    """A storage class, e.g. ``torch.FloatStorage``; `dtype` is ``uint8`` for untyped storages."""

    module: str
    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A tensor class or quantisation scheme, an argument of rebuild functions; it cannot be called."""

    module: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function on the allow-list, with our own description of what it would build.

    Args:
        module, name: the exact global.
        describe: takes the arguments and returns the node.
        builds_tensor: whether the result is a tensor, so that an opaque argument is an error.
        is_type: whether it is a class, of which NEWOBJ can make an instance.
    """

    module: str
    name: str
    describe: Callable[[tuple[Any, ...]], Any]
    builds_tensor: bool = False
    is_type: bool = False


@dataclass(slots=True, eq=False)
class Opaque:
    """A global outside the allow-list, or what was built from one: inert, named, never looked up.

    Args:
        module, name: the global as the pickle spells it; without a module, `name` says in brackets why it is not read.
        args: what it was called with; None for the bare global.
        state: what BUILD gave it.
        items: what APPENDS, SETITEMS or ADDITEMS gave it, flat, in order.
        pairs: whether all of these are keys with their values.
    """

    module: str
    name: str
    args: tuple[Any, ...] | None = None
    state: Any = None
    items: list[Any] | None = None
    pairs: bool = False

    def add(self, values: list[Any], pairs: bool = False) -> None:
        """Note what it was given."""
        if self.items is None:
            self.items = []
            self.pairs = pairs
        self.pairs &= pairs
        self.items.extend(values)

    @property
    def label(self) -> str:
        """The dotted name, escaped, for messages."""
        text = f"{self.module}.{self.name}" if self.module else self.name
        return text if text.isascii() and text.isprintable() and len(text) < 200 else ascii(text)[:200]


@dataclass(slots=True, eq=False)
class StorageNode:
    """A storage by reference: ``('storage', type, key, location, numel[, view])`` of a persistent id.

    Args:
        key: its key in the file.
        dtype: element type of the storage class.
        numel: declared number of elements.
        location: where it lived (``cpu``, ``cuda:0``); only informative.
        view: legacy files: a part of another storage, (its key, first element, number of elements).
    """

    key: str
    dtype: str
    numel: int
    location: str
    view: tuple[str, int, int] | None = None


@dataclass(slots=True, eq=False)
class TensorNode:
    """A tensor as the pickle describes it; nothing is proved yet.

    Args:
        storage: its bytes; None when it has none (meta) or when `reason` says why it is not plain.
        offset, size, stride: in elements.
        dtype: dtype name.
        requires_grad: as saved.
        parameter: whether it was an `nn.Parameter`.
        conj, neg: lazily conjugated or negated.
        attributes: names of Python attributes that were saved with it.
        reason: why it has no plain strided data (``meta``, ``sparse_coo``, ``quantised``, ...), or None.
        parts: the tensors and storages that an unsupported tensor is made of.
        origin: what it is when it is no tensor of torch, e.g. ``a numpy array``.
    """

    storage: StorageNode | None
    offset: int
    size: Shape
    stride: Shape
    dtype: str
    requires_grad: bool = False
    parameter: bool = False
    conj: bool = False
    neg: bool = False
    attributes: tuple[str, ...] = ()
    reason: str | None = None
    parts: tuple[Any, ...] = ()
    origin: str = ""

    @property
    def label(self) -> str:
        """What it is, with its article: ``a meta tensor``."""
        reason = self.reason or "plain"
        return reason if reason.startswith(("a ", "an ")) else f"a {reason} tensor"
