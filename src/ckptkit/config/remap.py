"""RemapConfig: a list of rules, read from Python, YAML, JSON or TOML."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ..rules import AnyRule
from .base import Config


class RemapConfig(Config):
    """Rules that turn one state_dict into another.

    Args:
        root: where the weights lie in a nested checkpoint: ``auto``, ``none``, or a dotted path.
        rules: run in order, each on the result of the one before.
    """

    _name: ClassVar[str] = "remap"

    root: Annotated[str, Field(min_length=1)] = "auto"
    rules: list[AnyRule] = Field(default=[])
