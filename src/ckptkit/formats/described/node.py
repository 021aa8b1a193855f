"""The node of an object that is shown as a dictionary."""

from __future__ import annotations

from ..pickled import Opaque, OrderedNode


class Described(OrderedNode):
    """An object as the dictionary that its state amounts to: a module's state_dict, a container's entries.

    It can be a root, or hold one. Beside the root it stays what it is, an object: reported, and never written.

    Attributes:
        label: the class as the pickle names it.
        module: whether it is a module, whose entries are those of its state_dict.
        notes: what a person should be told about it.
        origin: the object itself, which holds more than is shown.
    """

    __slots__ = ("label", "module", "notes", "origin")

    label: str
    origin: Opaque | None
    module: bool
    notes: tuple[str, ...]


def described(label: str, origin: Opaque | None, *, module: bool = False) -> Described:
    """An empty one."""
    node = Described()
    node.label, node.origin, node.module, node.notes = label, origin, module, ()
    return node
