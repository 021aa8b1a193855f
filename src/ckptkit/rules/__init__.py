"""The rules of a remap, one small validated class each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Entry, NamingRule, Rule, State, untouched
from .joins import Concat, Stack
from .keys import AddPrefix, Drop, Keep, Rename, Renumber, StripPrefix
from .layout import Permute, Reshape, Rotary, Transpose
from .parts import Slice, Split, Unstack
from .resizing import Resize
from .tensors import Cast, Copy

AnyRule = Annotated[
    StripPrefix
    | AddPrefix
    | Rename
    | Renumber
    | Keep
    | Drop
    | Cast
    | Copy
    | Transpose
    | Permute
    | Reshape
    | Rotary
    | Split
    | Unstack
    | Slice
    | Concat
    | Stack
    | Resize,
    Field(discriminator="op"),
]

NAMING = frozenset(str(each.model_fields["op"].default) for each in NamingRule.__subclasses__())  # ops

__all__ = [
    "NAMING",
    "AddPrefix",
    "AnyRule",
    "Cast",
    "Concat",
    "Copy",
    "Drop",
    "Entry",
    "Keep",
    "Permute",
    "Rename",
    "Renumber",
    "Reshape",
    "Resize",
    "Rotary",
    "Rule",
    "Slice",
    "Split",
    "Stack",
    "State",
    "StripPrefix",
    "Transpose",
    "Unstack",
    "untouched",
]
