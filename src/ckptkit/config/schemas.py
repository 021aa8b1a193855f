"""Every config by name, and their JSON Schemas."""

from __future__ import annotations

from typing import Any

from .base import Config
from .freeze import FreezeConfig
from .groups import GroupsConfig
from .load import LoadConfig
from .remap import RemapConfig

CONFIGS: dict[str, type[Config]] = {
    "remap": RemapConfig,
    "load": LoadConfig,
    "freeze": FreezeConfig,
    "groups": GroupsConfig,
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a config.

    Args:
        name: one of `CONFIGS`.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CONFIGS[name].model_json_schema(),
    }
