"""What the objects of a pickle hold, told from their state alone: modules, arrays, containers. No class is looked up."""

from __future__ import annotations

from .node import Described
from .objects import describe

__all__ = ["Described", "describe"]
