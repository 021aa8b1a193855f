"""The tree of a new torch file: the root's entries, and around them what the source held beside its root."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ..errors import WriteError
from ..text import safe
from .base import Buffer, Item, WriteRequest
from .described import Described
from .pickled import (
    DeviceNode,
    DtypeNode,
    LayoutNode,
    Opaque,
    OrderedNode,
    SizeNode,
    TensorNode,
)
from .pickled.errors import Refused
from .pickled.keys import check_key
from .tensor_bytes import tensor_bytes
from .torch_layout import OutTensor, contiguous_stride
from .torch_places import ATTRIBUTES, attributes_of, inside_object, place
from .torch_source import TorchSource
from .torch_views import too_large

MAX_DEPTH = 100
_ATOMS = frozenset((str, int, float, complex, bool, type(None), bytes, bytearray))
_NODES = frozenset((SizeNode, DtypeNode, DeviceNode, LayoutNode))


class _Dropped(Exception):
    """A part that cannot be written, with place and reason; the dictionary entry around it is left out."""


def _unwritable(key: Any) -> str:
    """What of a dictionary's key or a set's member cannot be written; empty when all can."""
    for part in key if type(key) is tuple else (key,):
        if type(part) is Opaque:
            return part.label
        if type(part) not in _ATOMS and type(part) not in _NODES:
            return type(part).__name__
    return ""


class TreeBuilder:
    """Builds the tree of one output.

    Args:
        request: what to write.

    Attributes:
        tensors: every tensor of the tree, in the order in which it is pickled.
        left_out: what could not be written, by dotted place.
    """

    def __init__(self, request: WriteRequest) -> None:
        self.request = request
        self.tensors: list[OutTensor] = []
        self.left_out: list[str] = []
        self._shared: dict[int, Any] = {}
        around = request.around
        self.around = around if isinstance(around, TorchSource) else None
        if self.around is not None and inside_object(self.around.tree, self.around.root_path):
            # What is around the weights is an object, which is not written.
            self.left_out += map(safe, self.around.surroundings)
            self.around = None

    @property
    def plain(self) -> bool:
        """Whether the tree is one dictionary of tensors and nothing else."""
        objects = any(item.info.kind == "object" for item in self.request.items)
        return self.around is None and self.request.state_metadata is None and not objects

    @property
    def root_path(self) -> tuple[Any, ...]:
        """The keys that lead to the weights."""
        return () if self.around is None else self.around.root_path

    def build(self) -> Any:
        """The tree.

        Raises:
            WriteError: an entry of the root cannot be written; names it.
        """
        if self.around is None:
            return self._root(ordered=True)
        return self._keep(self.around.tree, ())

    def _root(self, ordered: bool) -> dict[str, Any]:
        metadata = self.request.state_metadata
        root: dict[str, Any] = OrderedNode() if ordered or metadata is not None else {}
        for item in self.request.items:
            if item.info.kind == "tensor":
                root[item.key] = self._item(item)
            else:
                root[item.key] = self._value(item.value, item.key, 0)
        if metadata is not None:
            vars(root)["_metadata"] = OrderedNode(self._value(metadata, "_metadata", 0))
        return root

    def _item(self, item: Item) -> OutTensor:
        view, shape = item.view, item.info.shape
        if too_large(shape):
            raise WriteError(
                f"{self.request.target}: torch cannot hold the shape {list(shape)} of {item.key!r}; drop it, or write "
                "a safetensors file",
                file=self.request.target,
                key=item.key,
            )
        tensor = OutTensor(
            item.key, shape, view.stride if view else contiguous_stride(shape), item.info.dtype,
            item.source, view, item.make, item.tie, item.flags.requires_grad, item.flags.parameter,
        )  # fmt: skip
        self.tensors.append(tensor)
        return tensor

    # -- what surrounds the root: a tree of the reader

    def _keep(self, node: Any, path: tuple[Any, ...]) -> Any:
        source = self.around
        assert source is not None
        kind = type(node)
        if kind in _ATOMS or kind in _NODES:
            return node
        if id(node) in self._shared:
            return self._shared[id(node)]
        if node is source.root_node:
            self._shared[id(node)] = self._root(ordered=kind is OrderedNode)
            return self._shared[id(node)]
        if kind is TensorNode:
            kept: Any = self._tensor(node, path)
        elif kind is dict or kind is OrderedNode:
            kept = self._mapping(node, path)
        elif kind is list:
            kept = [self._keep(value, (*path, i)) for i, value in enumerate(node)]
        elif kind is tuple:
            kept = tuple(self._keep(value, (*path, i)) for i, value in enumerate(node))
        elif kind is set and not any(map(_unwritable, node)):
            kept = node
        elif kind is Opaque or kind is Described:
            raise _Dropped(path, node.label)
        else:
            raise _Dropped(path, kind.__name__)
        self._shared[id(node)] = kept
        return kept

    def _mapping(self, node: dict[Any, Any], path: tuple[Any, ...]) -> dict[Any, Any]:
        kept: dict[Any, Any] = OrderedNode() if type(node) is OrderedNode else {}
        kept.update(self._entries(node, path))
        if attributes_of(node):
            vars(kept).update(self._entries(attributes_of(node), (*path, ATTRIBUTES)))
        return kept

    def _entries(self, node: dict[Any, Any], path: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
        for key, value in node.items():
            tensors, shared = len(self.tensors), len(self._shared)
            try:
                if reason := _unwritable(key):
                    raise _Dropped((*path, key), reason)
                yield key, self._keep(value, (*path, key))
            except _Dropped as dropped:
                # What was built below is not written here, and must not be found again as if it were.
                del self.tensors[tensors:]
                for mark in list(self._shared)[shared:]:
                    del self._shared[mark]
                dropped_path, reason = dropped.args
                self.left_out.append(f"{safe(place(dropped_path))} ({reason})")

    def _tensor(self, node: TensorNode, path: tuple[Any, ...]) -> OutTensor:
        source = self.around
        assert source is not None
        view = source.node_view(node)
        if view is None or node.origin:
            raise _Dropped(path, node.origin or node.label)
        tensor = OutTensor(
            place(path), view.shape, view.stride, view.dtype, source, view, None, None,
            node.requires_grad, node.parameter, node.conj, node.neg,
        )  # fmt: skip
        self.tensors.append(tensor)
        return tensor

    # -- entries of the root that are no tensors: plain Python data

    def _value(self, value: Any, key: str, depth: int) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if depth > MAX_DEPTH:
            raise WriteError(f"{self.request.target}: {key!r} is nested more than {MAX_DEPTH} deep", key=key)
        if kind in (dict, OrderedDict):
            self._check_keys(value, key)
            pairs = ((self._key(k), self._value(v, key, depth + 1)) for k, v in value.items())
            if kind is dict:
                return dict(pairs)
            ordered = OrderedNode(pairs)
            ordered.attributes.update(
                {name: self._value(v, key, depth + 1) for name, v in vars(value).items()}
            )
            return ordered
        if kind is list:
            return [self._value(v, key, depth + 1) for v in value]
        if kind is tuple:
            return tuple(self._value(v, key, depth + 1) for v in value)
        if kind is set:
            self._check_keys(value, key)
            return {self._key(member) for member in value}
        return self._torch_value(value, key)

    def _torch_value(self, value: Any, key: str) -> Any:
        constant = self._constant(value)
        if constant is not value:
            return constant
        if any(base.__module__ == "torch" and base.__name__ == "Tensor" for base in type(value).__mro__):
            return self._loose_tensor(value, key)
        raise WriteError(
            f"{self.request.target}: {key!r} holds a value of type "
            f"{type(value).__module__}.{type(value).__qualname__}, "
            "which torch.load(weights_only=True) does not read; drop it",
            file=self.request.target,
            key=key,
        )

    def _check_keys(self, values: Any, key: str) -> None:
        try:
            for value in values:
                check_key(self._key(value))
        except Refused as refused:
            raise WriteError(
                f"{self.request.target}: {key!r} holds {refused}", file=self.request.target, key=key
            ) from None

    def _key(self, value: Any) -> Any:
        """A key of a dictionary or member of a set."""
        return tuple(map(self._constant, value)) if type(value) is tuple else self._constant(value)

    @staticmethod
    def _constant(value: Any) -> Any:
        kind = type(value)
        if kind.__module__ == "torch":
            if kind.__name__ == "Size":
                return SizeNode(value)
            node = {"dtype": DtypeNode, "device": DeviceNode, "layout": LayoutNode}.get(kind.__name__)
            if node is not None:
                return node(str(value).removeprefix("torch."))
        return value

    def _loose_tensor(self, value: Any, key: str) -> OutTensor:
        import torch

        if value.layout is not torch.strided or value.device.type == "meta" or value.is_quantized:
            raise WriteError(f"{self.request.target}: {key!r} holds a tensor without plain data", key=key)
        shape = tuple(value.shape)

        def make() -> Iterator[Buffer]:
            return tensor_bytes(value.detach().cpu().resolve_conj().resolve_neg())

        dtype = str(value.dtype).removeprefix("torch.")
        tensor = OutTensor(key, shape, contiguous_stride(shape), dtype, make=make)
        self.tensors.append(tensor)
        return tensor
