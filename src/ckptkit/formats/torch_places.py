"""What lies where in the tree of a torch file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .described import Described
from .pickled import Opaque, OrderedNode, TensorNode, parts
from .root_candidates import Path, dotted

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


def placed(tree: Any, root: dict[Any, Any], *, deep: bool = False) -> Iterator[tuple[str, Any]]:
    """Every tensor and object outside the root's entries with its dotted place; shared parts are met once.

    Of what an object holds only the tensors are given, at the object's place.

    Args:
        tree: what a torch file's pickle describes.
        root: the dictionary whose entries are left out.
        deep: whether the objects that objects hold are given, too.
    """
    stack: list[tuple[Any, Any, bool]] = [((), tree, False)]
    seen: set[int] = set()
    while stack:
        path, node, inside = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        kind = type(node)
        if kind is TensorNode or ((deep or not inside) and (kind is Opaque or kind is Described)):
            yield place(path) or "the top level", node
        if kind is TensorNode:
            continue
        if kind is Opaque or kind is Described:
            # What is not shown of an object is in the file all the same; it is met after what is shown.
            held = (node.origin,) if kind is Described else parts(node)
            stack.extend((path, part, True) for part in held if type(part) not in _ATOMS)
            inside = True
        stack.extend(
            (p, v, inside) for p, v in reversed(_inner(path, node, root, inside)) if type(v) not in _ATOMS
        )


def _inner(path: Path, node: Any, root: dict[Any, Any], inside: bool) -> list[tuple[Path, Any]]:
    """The parts of a container with their paths."""
    if type(node) is Opaque:
        return []
    if isinstance(node, dict):
        inner = [
            (path if inside else (*path, ATTRIBUTES, name), value)
            for name, value in attributes_of(node).items()
        ]
        if node is not root:
            inner += [(path if inside else (*path, key), value) for key, value in node.items()]
            inner += [((*path, key), key) for key in node if type(key) in (Opaque, TensorNode, tuple)]
        return inner
    if isinstance(node, (list, tuple)) and not inside:
        return [((*path, i), value) for i, value in enumerate(node)]
    return [(path, part) for part in parts(node)]


def inside_object(tree: Any, path: tuple[Any, ...]) -> bool:
    """Whether the way to a root leads through an object that is shown as a dictionary."""
    for step in path:
        if type(tree) is Described:
            return True
        tree = tree[step]
    return False


def beside(tree: Any, path: tuple[Any, ...]) -> Iterator[str]:
    """The dotted names of what lies beside the way to a root."""
    for depth, step in enumerate(path):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            if key is not step and key != step:
                yield place((*path[:depth], key))
        tree = tree[step]
