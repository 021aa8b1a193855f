"""FreezeConfig: which parts of a model do not train."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Unpack

from pydantic import Field

from ..rules.base import Patterns
from .base import Config
from .fields import FreezeFields


class FreezeConfig(Config):
    """Which parameters stay as they are during training; the order of the patterns means nothing.

    Args:
        freeze: patterns of state_dict keys to freeze.
        unfreeze: patterns of keys that are taken out of `freeze` again; never more than that.
        batch_norm: ``eval``: a norm layer whose parameters and buffers are all frozen keeps its
            statistics through ``model.train()``; ``leave``: norm layers are untouched.
    """

    listed: ClassVar[str] = "freeze"

    freeze: Patterns = Field(default=[])
    unfreeze: Patterns = Field(default=[])
    batch_norm: Literal["eval", "leave"] = "eval"

    if TYPE_CHECKING:

        def __init__(self, /, **fields: Unpack[FreezeFields]) -> None: ...
