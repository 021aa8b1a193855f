"""GroupsConfig: learning rates and weight decay by key patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, Unpack

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..errors import ConfigError
from ..regexes import compile_regex
from ..rules.base import Keys, Patterns
from .base import Config
from .fields import GroupsFields

Rate = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
if TYPE_CHECKING:
    NoDecay = Patterns
else:
    NoDecay = Annotated[
        Annotated[Literal["auto"], Tag("auto")] | Annotated[Patterns, Tag("patterns")],
        Discriminator(lambda value: "auto" if value == "auto" else "patterns"),
        WithJsonSchema({"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "string"}]}),
    ]


class GroupEntry(BaseModel):
    """What some parameters get instead.

    Args:
        keys: patterns of their keys.
        lr: their learning rate as it is, without layer decay.
        weight_decay: theirs, whatever `no_decay` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: Keys
    lr: Rate | None = None
    weight_decay: Rate | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lr is None and self.weight_decay is None:
            raise ValueError("an entry gives lr, weight_decay, or both")
        return self


class GroupsConfig(Config):
    r"""Parameter groups for an optimizer.

    Args:
        lr: the learning rate.
        weight_decay: the weight decay.
        no_decay: what has none: ``auto`` (norms, biases, one-dimensional parameters), or patterns of keys.
        layer_decay: a block's learning rate as a share of the next one's; null for the same everywhere.
        blocks: a regular expression with ``(?P<index>\d+)`` that finds the block number in a key; found
            from the keys when null.
        groups: exceptions; the first entry that matches a key counts.
    """

    listed: ClassVar[str] = "groups"

    lr: Rate = 1.0e-3
    weight_decay: Rate = 0.05
    no_decay: NoDecay = "auto"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    blocks: str | None = None
    groups: list[GroupEntry] = Field(default=[])

    if TYPE_CHECKING:

        def __init__(self, /, **fields: Unpack[GroupsFields]) -> None: ...

    @field_validator("blocks")
    @classmethod
    def _indexed(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            regex = compile_regex(pattern)
        except ConfigError as error:
            raise ValueError(error.message) from None
        if "index" not in regex.groupindex:
            raise ValueError(r"blocks needs a group named index, e.g. ^blocks\.(?P<index>\d+)\.")
        return pattern
