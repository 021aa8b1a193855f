"""What no field can hold, found before the fields are looked at: numbers that nothing counts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Problem
from ..text import clipped, quoted

_LIMIT = 1 << 63


def strange_values(fields: dict[str, Any]) -> list[Problem]:
    """Integers that do not fit in 64 bits, which torch cannot count with and Python refuses to write.

    Args:
        fields: plain data, each list and mapping in it looked at once.

    Returns:
        A problem for each, at its place.
    """
    problems = []
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [(name, value) for name, value in reversed(fields.items())]
    while stack:
        place, value = stack.pop()
        if isinstance(value, int):
            if not -_LIMIT <= value < _LIMIT:
                problems.append(Problem(place, f"{quoted(value)} does not fit in 64 bits"))
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, Mapping) else enumerate(value)
            for name, child in inner:
                within = f"{place}.{clipped(name) if isinstance(name, str) else quoted(name)}"
                if isinstance(name, int) and not -_LIMIT <= name < _LIMIT:
                    problems.append(Problem(within, "the number does not fit in 64 bits"))
                if isinstance(child, int | Mapping | list | tuple):
                    stack.append((within, child))
    return problems
