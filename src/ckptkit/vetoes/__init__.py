"""Tensors in parts, and what no finding may offer because of them."""

from __future__ import annotations

from .checking import Move, Sides, harmless, parted_findings
from .derived import BUFFERS, STATISTICS, is_buffer
from .parts import parts_of
from .table import ADAPTER, QUANTISED, named

__all__ = [
    "ADAPTER",
    "BUFFERS",
    "QUANTISED",
    "STATISTICS",
    "Move",
    "Sides",
    "harmless",
    "is_buffer",
    "named",
    "parted_findings",
    "parts_of",
]
