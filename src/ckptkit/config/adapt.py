"""Entries of LoadConfig.adapt: what brings a tensor to the model's shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..rules.base import Pattern


class AdaptEntry(BaseModel):
    """One entry.

    Args:
        keys: patterns of the target keys it is for.
        method: ``reinit`` keeps the model's own values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: Annotated[list[Pattern], Field(min_length=1)]
    method: Literal["reinit"]
