"""Nested dictionaries and lists as one dictionary with dotted names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import RootError

MAX_NAMES = 1 << 24  # characters of all names together


def is_nested(node: dict[Any, Any], is_tensor: Callable[[Any], bool]) -> bool:
    """Whether the tensors of a dictionary lie deeper: fewer than half of its values are tensors, and others hold some."""
    own = sum(map(is_tensor, node.values()))
    return 2 * own < len(node) and any(_holds(value, is_tensor) for value in node.values())


def flatten(node: dict[Any, Any], is_tensor: Callable[[Any], bool], file: str) -> dict[Any, Any]:
    """Every tensor of a tree under its dotted path; what holds no tensors stays one value.

    Args:
        node: acyclic.
        is_tensor: what counts as a tensor.
        file: for messages.

    Raises:
        RootError: two values have one path, or the paths are too long.
    """
    flat: dict[Any, Any] = {}
    stack: list[tuple[Any, Any]] = list(reversed(node.items()))
    spent = 0
    while stack:
        name, value = stack.pop()
        if not _holds(value, is_tensor) or is_tensor(value):
            if name in flat:
                raise RootError(f"{file}: two values have the path {name!r}; name a root inside", file=file)
            flat[name] = value
            continue
        items = value.items() if isinstance(value, dict) else enumerate(value)
        inner = [(f"{name}.{key}", part) for key, part in items if type(key) in (str, int)]
        spent += sum(len(text) for text, _ in inner)
        if spent > MAX_NAMES:
            raise RootError(
                f"{file}: its dotted paths take more than {MAX_NAMES} characters; name a root inside",
                file=file,
            )
        stack.extend(reversed(inner))
    return flat


def _holds(value: Any, is_tensor: Callable[[Any], bool]) -> bool:
    stack, seen = [value], set()
    while stack:
        node = stack.pop()
        if is_tensor(node):
            return True
        if isinstance(node, dict) or type(node) in (list, tuple):
            if id(node) not in seen:
                seen.add(id(node))
                stack.extend(node.values() if isinstance(node, dict) else node)
    return False
