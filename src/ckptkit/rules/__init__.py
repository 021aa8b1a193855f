"""The rules of a remap, one small validated class each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Entry, Rule, State, untouched
from .keys import AddPrefix, Drop, Keep, Rename, Renumber, StripPrefix
from .tensors import Cast, Copy

AnyRule = Annotated[
    StripPrefix | AddPrefix | Rename | Renumber | Keep | Drop | Cast | Copy,
    Field(discriminator="op"),
]

__all__ = [
    "AddPrefix",
    "AnyRule",
    "Cast",
    "Copy",
    "Drop",
    "Entry",
    "Keep",
    "Rename",
    "Renumber",
    "Rule",
    "State",
    "StripPrefix",
    "untouched",
]
