"""What lies where in the tree of a torch file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .pickled import Opaque, OrderedNode, TensorNode, parts
from .roots import Path, dotted

ATTRIBUTES = "(attributes)"  # how the attributes of an ordered dictionary stand in a dotted place
LONG = 240  # characters of one name
_ATOMS = frozenset((str, int, float, bool, type(None), bytes, complex))


def attributes_of(node: dict[Any, Any]) -> dict[str, Any]:
    """What is set on an ordered dictionary beside its entries."""
    return node.attributes if isinstance(node, OrderedNode) else {}


def place(path: Path) -> str:
    """A path as it is shown: a long one is cut, so that ten thousand below a name of a megabyte cost nothing."""
    shown = dotted(tuple(part[:LONG] if type(part) is str else part for part in path))
    return shown if len(shown) <= 2 * LONG else shown[: 2 * LONG]


def walk(value: Any) -> Iterator[Any]:
    """A value and all its parts; trees are acyclic and bounded."""
    stack, seen = [value], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if type(node) is not Opaque:
            stack.extend(parts(node))


def placed(tree: Any, root: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Every part outside the root's entries with its dotted place; shared parts are met once."""
    stack: list[tuple[Any, Any]] = [((), tree)]
    seen: set[int] = set()
    while stack:
        path, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) in (TensorNode, Opaque):
            yield place(path) or "the top level", node
        if type(node) is TensorNode:
            continue
        if isinstance(node, dict):
            inner = [((*path, ATTRIBUTES, name), value) for name, value in attributes_of(node).items()]
            if node is not root:
                inner += [((*path, key), value) for key, value in node.items()]
                inner += [((*path, key), key) for key in node if type(key) in (Opaque, tuple)]
        elif isinstance(node, (list, tuple)):
            inner = [((*path, i), value) for i, value in enumerate(node)]
        else:
            inner = [(path, part) for part in parts(node)]
        stack.extend((p, v) for p, v in reversed(inner) if type(v) not in _ATOMS)


def beside(tree: Any, path: tuple[Any, ...]) -> Iterator[str]:
    """The dotted names of what lies beside the way to a root."""
    for depth, step in enumerate(path):
        for key in tree:
            if key is not step and key != step:
                yield place((*path[:depth], key))
        tree = tree[step]
