"""The configs' fields as type checkers and editors know them: of the constructors, and of calls that take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import torch

    from .adapt import AdaptEntry
    from .groups import GroupEntry


class CommonFields(TypedDict, total=False):
    """Of every config."""

    version: Literal[1]
    description: str | None


class RemapFields(CommonFields, total=False):
    """Of a `RemapConfig`; a rule is an object of `ckptkit.rules` or its fields.

    Checkers take a variable that holds rules of two kinds for a list of objects.
    """

    root: str
    rules: Sequence[object]


class LoadFields(RemapFields, total=False):
    """Of a `LoadConfig`; a list of patterns may be one pattern."""

    strict: bool
    allow_missing: Sequence[str]
    allow_unexpected: Sequence[str]
    on_mismatch: Literal["error", "skip"]
    adapt: Sequence[AdaptEntry | Mapping[str, Any]]
    min_loaded: float
    assign: bool
    dtype: str | torch.dtype


class FreezeFields(CommonFields, total=False):
    """Of a `FreezeConfig`; a list of patterns may be one pattern."""

    freeze: Sequence[str]
    unfreeze: Sequence[str]
    batch_norm: Literal["eval", "leave"]


class GroupsFields(CommonFields, total=False):
    """Of a `GroupsConfig`; a list of patterns may be one pattern."""

    lr: float
    weight_decay: float
    no_decay: Sequence[str]
    layer_decay: float | None
    blocks: str | None
    groups: Sequence[GroupEntry | Mapping[str, Any]]
