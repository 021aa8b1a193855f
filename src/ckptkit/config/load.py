"""LoadConfig: how a checkpoint goes into a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Unpack

from pydantic import AfterValidator, BeforeValidator, Field

from ..dtype_names import as_name, named_dtype
from ..rules import AnyRule
from ..rules.base import Patterns
from .adapt import AdaptEntry
from .base import Config
from .fields import LoadFields


def _policy(name: str) -> str:
    return name if name in ("auto", "model", "checkpoint") else named_dtype(name)


class LoadConfig(Config):
    """How a checkpoint is loaded into a model.

    Args:
        root: where the weights lie in a nested checkpoint: ``auto``, ``none``, or a dotted path.
        rules: a RemapConfig's rules, applied first.
        strict: torch's meaning: missing and unexpected keys are errors.
        allow_missing: patterns of target keys that may stay as they are.
        allow_unexpected: patterns of source keys (after the rules) that may be left over.
        on_mismatch: what to do where shapes differ and no adapt entry covers: ``error`` or ``skip``.
        adapt: entries that bring tensors to the model's shape.
        min_loaded: share of the model's parameters that must be filled; filling none is always an error.
        assign: torch's meaning; what a meta-device model needs.
        dtype: ``auto`` (the model's; with assign the checkpoint's), ``model``, ``checkpoint``, or a dtype's name.
    """

    listed: ClassVar[str] = "rules"

    root: Annotated[str, Field(min_length=1)] = "auto"
    rules: list[AnyRule] = Field(default=[])
    strict: bool = True
    allow_missing: Patterns = Field(default=[])
    allow_unexpected: Patterns = Field(default=[])
    on_mismatch: Literal["error", "skip"] = "error"
    adapt: list[AdaptEntry] = Field(default=[])
    min_loaded: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    assign: bool = False
    dtype: Annotated[str, BeforeValidator(as_name), AfterValidator(_policy)] = "auto"

    if TYPE_CHECKING:

        def __init__(self, /, **fields: Unpack[LoadFields]) -> None: ...
