"""The configs users write. A remap needs only its own, so the others are imported from their modules."""

from __future__ import annotations

from .base import Config
from .remap import RemapConfig

__all__ = ["Config", "RemapConfig"]
