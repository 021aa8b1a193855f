"""What a person should be told about an opened torch file, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..text import quote_list
from .pickled import TensorNode
from .torch_views import readable

SHOWN = 20


def of_surroundings(opaque: Mapping[str, str]) -> Iterator[str]:
    """What lies beside the root and is no plain data, by place."""
    for place, label in list(opaque.items())[:SHOWN]:
        if label.startswith("("):
            yield f"opaque value at {readable(place)}: {label.strip('()')}, and was not followed"
        elif label.startswith(("a ", "an ")):
            yield f"{readable(place)} is {label}, which is not kept beside the weights"
        else:
            yield f"opaque value at {readable(place)}: {label} is not on the allow-list and was not looked up"
    if len(opaque) > SHOWN:
        yield f"and {len(opaque) - SHOWN} more opaque values"


def of_entries(entries: Mapping[str, Any], foreign: Mapping[str, str]) -> Iterator[str]:
    """What some entries of the root are."""
    for key, what in list(foreign.items())[:SHOWN]:
        yield f"{readable(key)} is {what}, and has only a name here: drop it to read or write the rest"
    if len(foreign) > SHOWN:
        yield f"and {len(foreign) - SHOWN} more such entries"
    arrays = [key for key, value in entries.items() if type(value) is TensorNode and value.origin]
    if arrays:
        which = (
            readable(arrays[0])
            if len(arrays) == 1
            else f"{len(arrays)} keys, {readable(arrays[0])} the first"
        )
        yield f"arrays or scalars of numpy, which become tensors: {which}"
    meta = [key for key, value in entries.items() if type(value) is TensorNode and value.reason == "meta"]
    if meta:
        yield f"{len(meta)} meta tensors have a shape but no data, the first is {readable(meta[0])}"


def of_decorations(decorated: list[tuple[str, TensorNode]]) -> Iterator[str]:
    """Python attributes of tensors."""
    if decorated:
        first, node = decorated[0]
        names = ", ".join(sorted(ascii(name)[1:-1][:60] for name in decorations(node)))
        yield (
            f"{len(decorated)} tensors carry Python attributes, which are not kept; the first is "
            f"{readable(first)} with {names}"
        )


def of_attributes(extra: set[str]) -> Iterator[str]:
    """Attributes of the root's dictionary."""
    if extra:
        yield f"attributes of the root that are not kept: {quote_list(sorted(extra))}"


def decorations(node: TensorNode) -> set[str]:
    """The attributes of a tensor that somebody set."""
    return set(node.attributes) - {"_is_buffer", "persistent"}  # what nn.Buffer is made of
