"""A LoadConfig from what a caller may give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.load import LoadConfig
from ..errors import UsageError


def as_load_config(config: LoadConfig | Mapping[str, Any] | None) -> LoadConfig:
    """A LoadConfig from a config, its fields, or nothing.

    Raises:
        ConfigError: with one `Problem` for everything that is wrong.
        UsageError: of another type.
    """
    if config is None:
        return LoadConfig()
    if isinstance(config, LoadConfig):
        return config
    if isinstance(config, Mapping):
        return LoadConfig.parse(config)
    raise UsageError(
        f"a load config is a LoadConfig or a mapping of its fields, not a {type(config).__name__}"
    )
