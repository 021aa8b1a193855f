"""Key patterns for modules that only one side has: as wide as what was seen, and never wider.

One list of a text does not show the keys that fit. A pattern such as ``layers.*`` for some keys inside the layers would
drop the layers, or let them be missing in silence; so it is widened to a whole module only where that clearly stands
apart: by its name, or since the keys are those of a whole subtree.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from ..patterns import compile_pattern
from .names import HEADS, aside, common_wrapper

_MOST = 200  # patterns of one module; where there would be more, its keys stand for themselves


def modules(keys: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Patterns that match all keys, and none of the others.

    Args:
        keys: what one side has.
        others: what the other side has, or what fits.
    """
    every, theirs = list(dict.fromkeys(keys)), _Names(others)
    wrapper = common_wrapper(every)
    groups: dict[str, list[list[str]]] = {}
    for key in every:
        parts = key.removeprefix(wrapper).split(".")
        groups.setdefault(parts[0], []).append(parts)
    found: dict[str, None] = {}
    for top, group in groups.items():
        ours = _Names(wrapper + ".".join(parts) for parts in group)
        for pattern in _patterns(top, group):
            found |= dict.fromkeys(_narrow(wrapper + pattern, ours, theirs))
    return list(found)


def _patterns(top: str, group: Sequence[list[str]]) -> list[str]:
    if len(group) == 1 and len(group[0]) == 1:
        return [top]
    inner = [parts[1:] for parts in group if len(parts) > 1]
    own = [top] if len(inner) < len(group) else []
    if aside([top]) or HEADS.search(top) or _whole(inner):
        return [*own, f"{top}.*"]
    numbers = {parts[0] for parts in inner}
    if all(number.isdecimal() for number in numbers) and min(map(int, numbers)) > 0 and _blocks(inner):
        return [*own, *(f"{top}.{number}.*" for number in sorted(numbers, key=int))]
    modules: dict[str, set[str]] = {}
    for parts in inner:
        path = ".".join(["*" if part.isdecimal() else part for part in parts[:-1]])
        modules.setdefault(path, set()).add(parts[-1])
    found = []
    for path, leaves in modules.items():
        module = f"{top}.{path}" if path else top
        whole = path and ("weight" in leaves or len(leaves) > 1) and not path.endswith("*")
        found += [f"{module}.*"] if whole else [f"{module}.{leaf}" for leaf in sorted(leaves)]
    return [*own, *found] if len(found) <= _MOST else [".".join(parts) for parts in group]


def _whole(inner: Sequence[list[str]]) -> bool:
    """Whether the keys below a module look like all of it: one layer, or several parts with whole blocks."""
    if all(len(parts) == 1 for parts in inner):
        return len(inner) > 1 or inner[0][0] == "weight"
    children = {parts[0] for parts in inner}
    if all(child.isdecimal() for child in children):
        return min(map(int, children)) == 0 and _blocks(inner)
    return len(children) >= 3 and all(
        _blocks([parts[i:] for parts in inner if len(parts) > i + 1 and parts[:i] == path])
        for path, i in _numbered(inner)
    )


def _numbered(inner: Sequence[list[str]]) -> list[tuple[list[str], int]]:
    """The places where block numbers stand."""
    found: dict[tuple[str, ...], int] = {}
    for parts in inner:
        at = next((i for i, part in enumerate(parts[:-1]) if part.isdecimal()), None)
        if at is not None:
            found[tuple(parts[:at])] = at
    return [(list(path), at) for path, at in found.items()]


def _blocks(numbered: Sequence[list[str]]) -> bool:
    """Whether numbered blocks are here with all their parts, not with one layer of each."""
    below = {parts[1] for parts in numbered if len(parts) > 2}
    return not below or len(below) >= 3 or all(len(parts) == 2 for parts in numbered)


class _Names:
    """Keys in which those that fit a pattern are found by the text that it begins with."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.place = {key: n for n, key in enumerate(keys)}
        self.by_name = sorted(self.place)

    def matching(self, pattern: str) -> list[str]:
        """Those that fit, in their order."""
        start, star, rest = pattern.partition("*")
        if not star:
            return [pattern] if pattern in self.place else []
        first = bisect_left(self.by_name, start)
        last = bisect_right(self.by_name, start, lo=first, key=lambda key: key[: len(start)])
        found = self.by_name[first:last]
        if rest and found:
            found = compile_pattern(pattern).select(found)
        return sorted(found, key=self.place.__getitem__)


def _narrow(pattern: str, ours: _Names, theirs: _Names) -> list[str]:
    """The pattern, or narrower ones where it would match what the other side has too."""
    if not theirs.matching(pattern):
        return [pattern]
    keys = ours.matching(pattern)
    stems = dict.fromkeys(key.rpartition(".")[0] + ".*" for key in keys if "." in key)
    if stems and not any(map(theirs.matching, stems)):
        return list(stems)
    return keys
