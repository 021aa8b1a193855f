"""The objects of a tree, each replaced by what it amounts to: a module's state_dict, an array's tensor, a container's
entries. Only what holds tensors is; the rest stays opaque.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..pickled import Opaque, TensorNode
from .modules import NoStateDict, attributes, is_module, state_dict
from .node import Described, described
from .numpy_values import Arrays

MAX_LEVELS = 32  # objects inside each other, between a root and the top


def describe(tree: Any) -> tuple[Any, dict[str, bytes]]:
    """Show the objects of a tree as dictionaries and tensors, in place.

    Args:
        tree: as `load_pickle` gives it; its dictionaries and lists are changed.

    Returns:
        The tree, and the bytes of the arrays, by the key of their storage.
    """
    walk = _Walk()
    return walk.run(tree), walk.arrays.inline


class _Visit:
    """A value whose parts are visited before it is asked what it became."""

    __slots__ = ("levels", "node", "parts")

    def __init__(self, node: Any, parts: list[Any], levels: int) -> None:
        self.node = node
        self.parts = parts
        self.levels = levels


class _Walk:
    def __init__(self) -> None:
        self.arrays = Arrays()
        self.became: dict[int, Any] = {}  # id of what was visited -> what stands for it
        self.holding: set[int] = set()  # ids of what holds tensors
        self.kept: list[Any] = []  # what the ids above are of
        self.entries: dict[int, dict[Any, Any]] = {}

    def run(self, tree: Any) -> Any:
        stack: list[tuple[Any, int]] = [(tree, 0)]
        opened: set[int] = set()
        while stack:
            node, levels = stack.pop()
            if type(node) is _Visit:
                self._leave(node)
                continue
            if not _has_parts(node) or id(node) in opened:
                continue
            opened.add(id(node))
            self.kept.append(node)
            parts, deeper = self._enter(node, levels)
            if parts is not None:
                visit = _Visit(node, parts, levels)
                stack.append((visit, 0))
                stack.extend((part, levels + deeper) for part in reversed(parts) if _has_parts(part))
        return self._now(tree)

    def _now(self, node: Any) -> Any:
        return self.became.get(id(node), node) if _has_parts(node) else node

    def _enter(self, node: Any, levels: int) -> tuple[list[Any] | None, int]:
        """The parts to visit; None for what is settled at once."""
        if isinstance(node, dict):
            return list(node.values()), 0
        if type(node) is list or type(node) is tuple:
            return list(node), 0
        tensor = self.arrays.tensor(node)
        if tensor is not None:
            self._become(node, tensor)
            return None, 0
        if self.arrays.is_array(node):
            self._become(node, replace(node, module="", name="(a numpy array of texts, objects or records)"))
            return None, 0
        if is_module(node):
            self._module(node)
            return None, 0
        entries = _entries(node) if levels < MAX_LEVELS else None
        if entries is None:
            return None, 0
        self.entries[id(node)] = entries
        return list(entries.values()), 1

    def _module(self, node: Opaque) -> None:
        try:
            state = state_dict(node)
        except NoStateDict as reason:
            self._become(node, replace(node, name=f"{node.name} ({reason})"))
            return
        for key, value in state.items():
            tensor = self.arrays.tensor(value) if type(value) is Opaque else None
            if tensor is not None:
                state[key] = tensor
        self._become(node, state)
        if any(type(value) is TensorNode for value in state.values()):
            self.holding.add(id(node))

    def _become(self, node: Any, other: Any) -> None:
        self.became[id(node)] = other
        if type(other) is TensorNode:
            self.holding.add(id(node))

    def _leave(self, visit: _Visit) -> None:
        node = visit.node
        if any(type(part) is TensorNode or id(part) in self.holding for part in visit.parts):
            self.holding.add(id(node))
        if isinstance(node, dict):
            for key, value in node.items():
                now = self._now(value)
                if now is not value:
                    node[key] = now
        elif type(node) is list:
            for at, value in enumerate(node):
                node[at] = self._now(value)
        elif type(node) is tuple:
            now = tuple(map(self._now, node))
            if any(a is not b for a, b in zip(now, node, strict=True)):
                self.became[id(node)] = now
        elif id(node) in self.holding:
            self.became[id(node)] = self._shown(node)

    def _shown(self, node: Opaque) -> Described:
        shown = described(node.label, node)
        for key, value in self.entries[id(node)].items():
            shown[key] = self._now(value)
        return shown


def _has_parts(node: Any) -> bool:
    kind = type(node)
    return kind is Opaque or kind is list or kind is tuple or isinstance(node, dict)


def _entries(node: Opaque) -> dict[Any, Any] | None:
    """What an object holds by name: the items of a mapping, else its attributes."""
    if node.pairs and node.items:
        if any(type(key) not in (str, int) for key in node.items[::2]):
            return None  # a part of a mapping would pass as the whole
        return dict(zip(node.items[::2], node.items[1::2], strict=True))
    held = attributes(node)
    if held is None or any(type(key) is not str for key in held):
        return None
    if (
        len(held) == 1
        and isinstance(held.get("data"), dict)
        and node.name in ("UserDict", "IterableUserDict")
    ):
        return dict(held["data"])
    return held
