"""One way to give a config, wherever one is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from ..rules import Rule
from .base import Config
from .documents import SUFFIXES

if TYPE_CHECKING:
    from .freeze import FreezeConfig
    from .groups import GroupEntry, GroupsConfig
    from .load import LoadConfig
    from .remap import RemapConfig

    _Plain = Mapping[str, Any] | str | os.PathLike[str]
    AnyRules = Sequence[Rule | Mapping[str, Any]]
    AnyRemap = RemapConfig | LoadConfig | AnyRules | _Plain
    AnyLoad = LoadConfig | RemapConfig | AnyRules | _Plain
    AnyFreeze = FreezeConfig | Sequence[str] | _Plain
    AnyGroups = GroupsConfig | Sequence[GroupEntry | Mapping[str, Any]] | _Plain

C = TypeVar("C", bound=Config)


def as_config(kind: type[C], config: Any, keywords: Mapping[str, Any], *, required: bool = False) -> C:
    """A config from what a caller may give.

    Args:
        kind: the config that is asked.
        config: one; a mapping of its fields; a list of what it is mostly made of (rules, patterns to freeze,
            exceptions of groups), objects as they are; a path to a YAML, JSON or TOML file; or None. A RemapConfig
            stands for a LoadConfig, and the other way round where it sets nothing more.
        keywords: its fields, which count before those of `config`.
        required: whether giving nothing at all is an error.

    Raises:
        ConfigError: with one `Problem` for everything that is wrong.
        UsageError: nothing, one rule alone, a field twice, a config that does not suit, or another type.
    """
    if config is None:
        if required and not keywords:
            raise UsageError(f"no {kind.__name__} was given; {_ways(kind)}")
        return kind(**keywords)
    given = _given(kind, config, keywords)
    return kind(**{**_set(given), **keywords}) if keywords else given


def _given(kind: type[C], config: Any, keywords: Mapping[str, Any]) -> C:
    if isinstance(config, kind):
        return config
    if isinstance(config, Config):
        return _converted(kind, config)
    if isinstance(config, str) and kind.listed == "freeze" and Path(config).suffix.lower() not in SUFFIXES:
        config = [config]  # a pattern
    if isinstance(config, str | os.PathLike):
        return kind.from_file(config)
    if isinstance(config, Rule) or (isinstance(config, Mapping) and "op" in config):
        raise UsageError("this is one rule; give a list of rules, [...] around it")
    if isinstance(config, Mapping):
        return kind.parse(config)
    if isinstance(config, list | tuple):
        if kind.listed in keywords:
            raise UsageError(f"{kind.listed} was given twice, as a list and by its name; give it once")
        return kind(**{kind.listed: list(config)})
    raise UsageError(f"a value of type {type(config).__name__} is no {kind.__name__}; {_ways(kind)}")


def _converted(kind: type[C], config: Config) -> C:
    if not {"root", "rules"} <= {*kind.model_fields} & {*type(config).model_fields}:
        raise UsageError(f"a {kind.__name__} is asked, not a {type(config).__name__}; {_ways(kind)}")
    fields = _set(config)
    more = [
        name
        for name, value in fields.items()
        if name not in kind.model_fields and value != _default(config, name)
    ]
    if more:
        raise UsageError(
            f"rules and a root are asked, and this {type(config).__name__} also sets {', '.join(more)}; give its rules "
            "here, and the rest to ckptkit.load"
        )
    return kind(**{name: value for name, value in fields.items() if name in kind.model_fields})


def _set(config: Config) -> dict[str, Any]:
    """The fields that were given, not dumped: rules stay the objects that they are."""
    return {
        name: getattr(config, name) for name in type(config).model_fields if name in config.model_fields_set
    }


def _default(config: Config, name: str) -> Any:
    return type(config).model_fields[name].default


def _ways(kind: type[Config]) -> str:
    return (
        f"give a {kind.__name__}, its fields ({', '.join(f for f in kind.model_fields if f != 'version')}) as a mapping "
        f"or as keywords, a list for {kind.listed}, or the path of a {', '.join(SUFFIXES)} file"
    )
