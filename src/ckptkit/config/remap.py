"""RemapConfig: a list of rules, read from Python, YAML, JSON or TOML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Unpack

from pydantic import Field

from ..rules import AnyRule
from .base import Config
from .fields import RemapFields


class RemapConfig(Config):
    """Rules that turn one state_dict into another.

    Args:
        root: where the weights lie in a nested checkpoint: ``auto``, ``none``, or a dotted path.
        rules: run in order, each on the result of the one before.
    """

    listed: ClassVar[str] = "rules"

    root: Annotated[str, Field(min_length=1)] = "auto"
    rules: list[AnyRule] = Field(default=[])

    if TYPE_CHECKING:

        def __init__(self, /, **fields: Unpack[RemapFields]) -> None: ...
