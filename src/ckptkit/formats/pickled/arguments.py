"""What the arguments of allow-listed functions may be, and how they are named when they may not."""

from __future__ import annotations

from typing import Any

from .errors import Refused
from .tree import Shape, SizeNode

Args = tuple[Any, ...]
MAX_DIMS = (
    1024  # far beyond real ones; it bounds the work that one short call on memoised arguments can cause
)


def arity(name: str, args: Args, low: int, high: int) -> None:
    if not low <= len(args) <= high:
        raise Refused(f"{name} called with {len(args)} arguments")


def ints(name: str, what: str, value: Any) -> Shape:
    if type(value) is not tuple and type(value) is not SizeNode and type(value) is not list:
        raise Refused(f"{name}: {what} is not a tuple of integers")
    if len(value) > MAX_DIMS:
        raise Refused(f"{name}: {what} has {len(value)} dimensions")
    for item in value:
        if type(item) is not int or item < 0:
            raise Refused(f"{name}: {what} holds {brief(item)}, not a non-negative integer")
    return tuple(value)


def all_ints(values: tuple[Any, ...]) -> bool:
    return {int}.issuperset(map(type, values)) and min(values, default=0) >= 0


def brief(value: Any) -> str:
    return str(value)[:40] if type(value) in (int, float, bool) else f"a value of type {type(value).__name__}"


def boolean(name: str, what: str, value: Any) -> bool:
    if type(value) is not bool:
        raise Refused(f"{name}: {what} is {brief(value)}, not a bool")
    return value
