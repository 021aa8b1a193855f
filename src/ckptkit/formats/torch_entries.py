"""The entries of a root: under which names they stand, and which of them ckptkit can only name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import FormatError
from ..text import quote_list
from .described import Described
from .pickled import DeviceNode, Opaque, TensorNode
from .root_candidates import dotted
from .torch_places import walk
from .torch_values import VALUE_TYPES, known_device
from .torch_views import readable


def named_entries(node: Mapping[Any, Any], path: str, root: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The entries of a dictionary under names that are strings; integers become their digits.

    Args:
        node: the root.
        path: the file, for messages.
        root: the root's dotted path, for messages.

    Returns:
        The entries, and what a person should be told.

    Raises:
        FormatError: a name that is neither string nor integer, that is no valid text, or that stands twice.
    """
    entries: dict[str, Any] = {}
    numbers: list[str] = []
    for key, value in node.items():
        name = key
        if type(key) is int:
            name = str(key)
            numbers.append(name)
        elif type(key) is not str:
            shown = dotted((key,)) if type(key) is Opaque else ascii(key)[:60]
            raise FormatError(
                f"{path}: the root {readable(root)} has the key {shown}, which is no string; give the path of a "
                "dictionary with string keys as root",
                file=path,
            )
        if name in entries:
            raise FormatError(
                f"{path}: the root {readable(root)} has the key {name!r} as a number and as a string; rename one of "
                "them where the file was made",
                file=path,
                key=name,
            )
        if not name.isascii():
            _check_text(name, path)
        entries[name] = value
    if not numbers:
        return entries, ()
    return entries, (
        f"{len(numbers)} keys are numbers in the file and strings here: {quote_list(numbers, 4)}",
    )


def strange(value: Any) -> str | None:
    """Why an entry that is no plain tensor has no value here, in words; None for plain data.

    Args:
        value: the entry; tensors in it were proved.
    """
    if type(value) is TensorNode:
        return None if value.reason in (None, "meta") else f"{value.reason}, of dtype {value.dtype}"
    for part in walk(value):
        if type(part) is Described:
            return f"an object of {part.label}"
        if type(part) is Opaque:
            return f"an object of {part.label}" if part.module else part.label.strip("()")
        if type(part) is TensorNode:
            if part.reason is not None:
                return f"a value that contains {part.label}"
            if part.origin:
                return f"a value that contains {part.origin}"
        elif type(part) is DeviceNode and not known_device(part):
            return f"a value that contains the device {part.name!r}, which torch does not have"
        elif not isinstance(part, VALUE_TYPES):
            return f"a value that contains a {type(part).__name__.removesuffix('Node').lower()}"
    return None


def unheld(path: str, key: str, what: str) -> FormatError:
    """The refusal to read or write an entry that can only be named."""
    return FormatError(
        f"{path}: {readable(key)} is {what}, which ckptkit can name and neither read nor write; drop it, or save it as "
        "plain tensors where it was made",
        file=path,
        key=key,
    )


def _check_text(key: str, path: str) -> None:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(
            f"{path}: the key {ascii(key)[:120]} holds a lone surrogate and is no valid text",
            file=path,
            key=ascii(key),
        ) from None
