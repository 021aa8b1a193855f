"""Counts that files state, which are believed only where they can be counts."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> int | None:
    """The value when it is a count of at most two milliards, else None."""
    return value if type(value) is int and 0 <= value < 1 << 31 else None
