"""Proof that a tree is small enough to be walked naively: no cycles, not too deep, not too many paths.

What an opaque value holds is proved for itself: it may be linked to anything, its parents included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .errors import Refused
from .tree import Opaque, OrderedNode, StorageNode, StorageType, TensorNode

MAX_DEPTH = 100
# Tensors whose parts matter are rare; plain ones are leaves, like numbers and strings.
_LEAVES = frozenset((str, int, float, bool, type(None), bytes, bytearray, complex, StorageNode, StorageType))
_ATTRIBUTE = object()


def measure(value: Any, budget: int) -> None:
    """Refuse a tree that is too deep or has too many paths to walk, and cut its cycles.

    Shared parts are counted as often as they can be reached ("billion laughs"), but visited once. A link of a list or
    dictionary back to what contains it becomes an opaque value.

    Args:
        value: the tree.
        budget: bytes of the pickle; an honest one has few more nodes than bytes.

    Raises:
        Refused: too deep, or too many paths.
    """
    _Measure(max(1_000_000, 8 * budget)).whole(value)


class _Frame:
    """A container that is being walked."""

    __slots__ = ("at", "children", "depth", "node", "total")

    def __init__(self, node: Any, children: list[tuple[Any, Any]]) -> None:
        self.node = node
        self.children = children
        self.at = self.depth = 0
        self.total = 1 + _width(node)


class _Measure:
    def __init__(self, most: int) -> None:
        self.most = most
        self.done: dict[
            int, tuple[int, int] | None
        ] = {}  # id -> (nodes when walked, depth); None: never again
        # The same for those without children, of which there can be millions.
        self.leaves: dict[int, tuple[int, int]] = {}
        self.open: set[int] = set()
        self.opaque: list[Opaque] = []
        self.kept: list[Any] = []  # what was cut off must live as long as its id is known

    def whole(self, value: Any) -> None:
        self.run(value)
        seen: set[int] = set()
        while self.opaque:
            node = self.opaque.pop()
            if id(node) not in seen:
                seen.add(id(node))
                self._inside(node)

    def _inside(self, node: Opaque) -> None:
        node.state = self._bounded(node.state)
        if node.args is not None:
            bounded = tuple(self._bounded(part) for part in node.args)
            if any(new is not old for new, old in zip(bounded, node.args, strict=True)):
                node.args = bounded
        if node.items is not None:
            node.items[:] = [self._bounded(part) for part in node.items]

    def _bounded(self, value: Any) -> Any:
        try:
            self.run(value)
        except Refused as refused:
            return self._cut(value, f"({refused})")
        return value

    def run(self, value: Any) -> None:
        """Walk one tree, down to its opaque values."""
        if type(value) is Opaque:
            self.opaque.append(value)
        if _is_leaf(value) or self._known(value):
            return
        path = [_Frame(value, self._children(value))]
        self.open.add(id(value))
        try:
            while path:
                frame = path[-1]
                if frame.at == len(frame.children):
                    self._close(path)
                    continue
                _, child = frame.children[frame.at]
                if id(child) in self.open or self.done.get(id(child), frame) is None:
                    self._cut_off(path)
                    continue
                frame.at += 1
                found = self.done.get(id(child))
                if found is None:
                    inner = self._children(child)
                    if inner:
                        frame.at -= 1  # met again when it is done
                        self.open.add(id(child))
                        path.append(_Frame(child, inner))
                        if len(path) > MAX_DEPTH:
                            raise Refused(f"containers nested more than {MAX_DEPTH} deep")
                        continue
                    width = _width(child)
                    found = self.done[id(child)] = self.leaves.setdefault(width, (1 + width, 1))
                self._count(frame, found)
        except Refused:
            self._poison(path)
            raise

    def _known(self, value: Any) -> bool:
        if id(value) not in self.done:
            return False
        if self.done[id(value)] is None:
            raise Refused("a part of it was refused elsewhere")
        return True

    def _children(self, node: Any) -> list[tuple[Any, Any]]:
        children = []
        for slot, child in _slots(node):
            if type(child) is Opaque:
                self.opaque.append(child)
            elif not _is_leaf(child):
                children.append((slot, child))
        return children

    def _count(self, frame: _Frame, found: tuple[int, int]) -> None:
        frame.total += found[0]
        frame.depth = max(frame.depth, found[1])
        if frame.total > self.most:
            raise Refused(f"shared containers unfold to more than {self.most} values")
        if frame.depth >= MAX_DEPTH:  # a deep part that was met first on a shorter path
            raise Refused(f"containers nested more than {MAX_DEPTH} deep")

    def _close(self, path: list[_Frame]) -> None:
        frame = path.pop()
        self.open.discard(id(frame.node))
        self.done[id(frame.node)] = (frame.total, frame.depth + 1)

    def _cut_off(self, path: list[_Frame]) -> None:
        """Cut the newest link on the path that can be cut: tuples cannot, and what lies between is not gone into again."""
        while not _mutable(path[-1].node):
            self._poison([path.pop()])
        frame = path[-1]
        slot, child = frame.children[frame.at]
        put = self._cut(child, "(a container that contains itself)")
        if type(slot) is tuple and len(slot) == 2 and slot[0] is _ATTRIBUTE:
            frame.node.attributes[slot[1]] = put
        else:
            frame.node[slot] = put
        frame.at += 1

    def _cut(self, value: Any, why: str) -> Opaque:
        put = Opaque("", why, ())
        self.kept += (value, put)
        return put

    def _poison(self, frames: list[_Frame]) -> None:
        for frame in frames:
            self.open.discard(id(frame.node))
            self.done[id(frame.node)] = None
            self.kept.append(frame.node)


def _is_leaf(node: Any) -> bool:
    kind = node.__class__
    return kind in _LEAVES or kind is Opaque or (kind is TensorNode and not node.parts)


def _mutable(node: Any) -> bool:
    return isinstance(node, (dict, list))


def _width(node: Any) -> int:
    return len(node) if isinstance(node, (dict, list, tuple, set, frozenset)) else 0


def _slots(node: Any) -> Iterator[tuple[Any, Any]]:
    """The direct parts of a container with their places; keys are flat, and stand under their own."""
    if isinstance(node, dict):
        yield from node.items()
        for key in node:
            if key.__class__ is not str:
                yield key, key
        if isinstance(node, OrderedNode):
            for name, value in node.attributes.items():
                yield (_ATTRIBUTE, name), value
    elif isinstance(node, list):
        yield from enumerate(node)
    elif node.__class__ is not Opaque:
        for part in parts(node):
            yield None, part


def parts(node: Any) -> Iterator[Any]:
    """The direct parts of a container or node, keys of dictionaries included."""
    kind = node.__class__
    if isinstance(node, dict):
        yield from node.keys()
        yield from node.values()
        if isinstance(node, OrderedNode):
            yield from node.attributes.values()
    elif kind in (list, set, frozenset) or isinstance(node, tuple):
        yield from node
    elif kind is TensorNode:
        yield from node.parts
    elif kind is Opaque:
        yield from node.args or ()
        yield from node.items or ()
        if node.state is not None:
            yield node.state
