"""The arguments of the shape adapters as fields of a config; wrong ones are reported all at once."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import InitErrorDetails

from ..text import quoted
from .shapes import METHODS, MODES


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _fill(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if number or value in ("zero", "mean"):
        return value
    raise ValueError(f"fill is zero, mean or a finite number, not {quoted(value)}")


Side = Annotated[int, Field(ge=1)]
GridField = Annotated[list[Side], Field(min_length=1, max_length=3), BeforeValidator(_listed)]
Dims = Annotated[list[int], Field(min_length=1, max_length=64), BeforeValidator(_listed)]
Count = Annotated[int, Field(ge=0)]
Fill = Annotated[Literal["zero", "mean"] | float, BeforeValidator(_fill)]


class ResizeFields(BaseModel):
    """What the shape adapters take; each method takes some of it.

    Args:
        grid: sides of the grid before, [rows, columns]; a window for rel_pos_table.
        target_grid: sides of the grid after.
        prefix_tokens: tokens before those of the grid (class, distillation, registers).
        layout: where the channels are: tokens ([1, N, C]), channels_first or channels_last.
        extra_rows: rows at the end of a relative position table that are no positions.
        mode: of the interpolation (bicubic), the table (geometric), or the inflation (average).
        antialias: whether interpolation to a smaller grid averages over what it skips.
        dims: dimensions that crop, pad and repeat may change; rows only without.
        fill: what pad puts in: zero, mean (of the old entries), or a number.
        base_channels: channels of an image, where a stem folds pixels into its input channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
    _unsized: ClassVar[frozenset[str]] = frozenset()

    method: str
    grid: GridField | None = None
    target_grid: GridField | None = None
    prefix_tokens: Count | None = None
    layout: Literal["tokens", "channels_first", "channels_last"] | None = None
    extra_rows: Count | None = None
    mode: str | None = None
    antialias: bool | None = None
    dims: Dims | None = None
    fill: Fill | None = None
    base_channels: Side | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that are stated, as `resize.resolve` takes them."""
        names = dict.fromkeys(name for taken in METHODS.values() for name in taken)
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @model_validator(mode="wrap")
    @classmethod
    def _by_method(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        found = _misuse(data, cls._unsized) if isinstance(data, Mapping) else []
        problems = [
            InitErrorDetails(
                type="value_error",
                loc=(name,),
                input=data.get(name),
                ctx={"error": ValueError(message)},
            )
            for name, message in found
        ]
        try:
            entry = handler(data)
        except ValidationError as error:
            seen = {name for name, _ in found}
            problems += [
                InitErrorDetails(type=e["type"], loc=e["loc"], input=e["input"], ctx=e.get("ctx", {}))
                for e in error.errors(include_url=False)
                if not e["loc"] or e["loc"][0] not in seen
            ]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return entry


def _misuse(data: Mapping[str, Any], unsized: frozenset[str]) -> list[tuple[str, str]]:
    """(field, what is wrong) for the fields that the method does not take, or needs."""
    method = data.get("method")
    if not isinstance(method, str) or (method not in METHODS and method not in unsized):
        return []
    taken = METHODS.get(method, ())
    every = {name for names in METHODS.values() for name in names}
    found = [
        (name, f"{method} does not take it; it takes {', '.join(taken) or 'nothing but keys'}")
        for name, value in data.items()
        if name in every and name not in taken and value is not None
    ]
    if method == "pad" and data.get("fill") is None:
        found.append(("fill", "pad needs it: zero, mean or a number"))
    mode, modes = data.get("mode"), MODES.get(method, ())
    if isinstance(mode, str) and modes and mode not in modes:
        found.append(("mode", f"the mode of {method} is one of {', '.join(modes)}, not {quoted(mode)}"))
    if data.get("antialias") is True and mode in modes and mode not in ("bicubic", "bilinear"):
        found.append(("antialias", f"it is for the modes bicubic and bilinear, not for {mode}"))
    return found
