"""One way to give a config, wherever one is asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from ..rules import Rule
from .base import Config
from .documents import SUFFIXES, read_with_lines
from .load import LoadConfig
from .remap import RemapConfig

if TYPE_CHECKING:
    from .freeze import FreezeConfig
    from .groups import GroupEntry, GroupsConfig

    _Plain = Mapping[str, Any] | str | os.PathLike[str]
    AnyRules = Sequence[object]  # rules or their fields: what checkers take a list of both for
    AnyRemap = RemapConfig | LoadConfig | AnyRules | _Plain
    AnyLoad = LoadConfig | RemapConfig | AnyRules | _Plain
    AnyFreeze = FreezeConfig | Sequence[str] | _Plain
    AnyGroups = GroupsConfig | Sequence[GroupEntry | Mapping[str, Any]] | _Plain

C = TypeVar("C", bound=Config)


def as_config(
    kind: type[C], config: Any, keywords: Mapping[str, Any], *, required: bool = False, partly: bool = False
) -> C:
    """A config from what a caller may give.

    Args:
        kind: the config that is asked.
        config: one; a mapping of its fields; a list of what it is mostly made of (rules, patterns to freeze,
            exceptions of groups), objects as they are; a path to a YAML, JSON or TOML file; or None. A RemapConfig
            stands for a LoadConfig, and the other way round where it sets nothing more, or where `partly` says so.
        keywords: its fields, which count before those of `config`.
        required: whether giving nothing at all is an error.
        partly: whether of a LoadConfig that sets more, root and rules are used, with a warning that names the rest.

    Raises:
        ConfigError: with one `Problem` for everything that is wrong.
        UsageError: nothing, one rule alone, a field twice, a config that does not suit, or another type.
    """
    if config is None:
        if required and not keywords:
            raise UsageError(f"no {kind.__name__} was given; {_ways(kind)}")
        return kind(**keywords)
    given, aside = _given(kind, config, keywords)
    if aside and not partly:
        raise UsageError(
            f"rules and a root are asked, and this LoadConfig also sets {', '.join(aside)}; give its rules here, and the "
            "rest to ckptkit.load"
        )
    if aside:
        warnings.warn(
            f"root and rules of this LoadConfig are used, and {', '.join(aside)} left aside; "
            "ckptkit.load uses all of it",
            stacklevel=4,
        )
    return kind(**{**_set(given), **keywords}) if keywords else given


def rules_in(path: str | os.PathLike[str]) -> tuple[RemapConfig, list[str]]:
    """A RemapConfig from its file, or root and rules from a LoadConfig's; and the fields of that which are left aside.

    Raises:
        ConfigError: with one `Problem` for everything that is wrong.
    """
    return _read(RemapConfig, path)


def _given(kind: type[C], config: Any, keywords: Mapping[str, Any]) -> tuple[C, list[str]]:
    if isinstance(config, kind):
        return config, []
    if isinstance(config, Config):
        return _converted(kind, config)
    if isinstance(config, str) and kind.listed == "freeze" and Path(config).suffix.lower() not in SUFFIXES:
        config = [config]  # a pattern
    if isinstance(config, str | os.PathLike):
        return _read(kind, config)
    if isinstance(config, Rule) or (isinstance(config, Mapping) and "op" in config):
        raise UsageError("this is one rule; give a list of rules, [...] around it")
    if isinstance(config, Mapping):
        return _parsed(kind, config)
    if isinstance(config, list | tuple):
        if kind.listed in keywords:
            raise UsageError(f"{kind.listed} was given twice, as a list and by its name; give it once")
        return kind(**{kind.listed: list(config)}), []
    raise UsageError(f"a value of type {type(config).__name__} is no {kind.__name__}; {_ways(kind)}")


def _read(kind: type[C], path: str | os.PathLike[str]) -> tuple[C, list[str]]:
    document, line_of = read_with_lines(path)
    return _parsed(kind, document, file=os.fspath(path), line_of=line_of)


def _parsed(kind: type[C], document: Mapping[str, Any], **place: Any) -> tuple[C, list[str]]:
    own = {*LoadConfig.model_fields} - {*RemapConfig.model_fields}
    if kind is RemapConfig and own & {*document}:
        return _converted(kind, LoadConfig.parse(document, **place))
    return kind.parse(document, **place), []


def _converted(kind: type[C], config: Config) -> tuple[C, list[str]]:
    """A RemapConfig as a LoadConfig or the other way round, and the fields of it that the other kind has not."""
    if not {"root", "rules"} <= {*kind.model_fields} & {*type(config).model_fields}:
        raise UsageError(f"a {kind.__name__} is asked, not a {type(config).__name__}; {_ways(kind)}")
    fields = _set(config)
    aside = [
        name
        for name, value in fields.items()
        if name not in kind.model_fields and value != _default(config, name)
    ]
    return kind(**{name: value for name, value in fields.items() if name in kind.model_fields}), aside


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
