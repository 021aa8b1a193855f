"""Key patterns for modules that only one side has: as wide as what was seen, and never wider.

One list of a text does not show the keys that fit. A pattern such as ``layers.*`` for some keys inside the layers would
drop the layers, or let them be missing in silence; so it is widened to a whole module only where that clearly stands
apart: by its name, or since the keys are those of a whole subtree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from .names import HEADS, aside, common_wrapper

_SHOWN = 24  # patterns of a group; more of them are folded with numbers as *


def modules(keys: Iterable[str], others: Iterable[str] = ()) -> list[str]:
    """Patterns that match all keys, and none of the others.

    Args:
        keys: what one side has.
        others: what the other side has, or what fits.
    """
    every, theirs = list(dict.fromkeys(keys)), list(others)
    wrapper = common_wrapper(every)
    groups: dict[str, list[list[str]]] = {}
    for key in every:
        parts = key.removeprefix(wrapper).split(".")
        groups.setdefault(parts[0], []).append(parts)
    found: dict[str, None] = {}
    for top, group in groups.items():
        for pattern in _patterns(top, group):
            found |= dict.fromkeys(_narrow(wrapper + pattern, wrapper, group, theirs))
    return list(found)


def _patterns(top: str, group: Sequence[list[str]]) -> list[str]:
    if len(group) == 1 and len(group[0]) == 1:
        return [top]
    inner = [parts[1:] for parts in group if len(parts) > 1]
    own = [top] if len(inner) < len(group) else []
    if aside([top]) or HEADS.search(top) or _whole(inner):
        return [*own, f"{top}.*"]
    numbers = {parts[0] for parts in inner}
    if all(number.isdigit() for number in numbers) and min(map(int, numbers)) > 0 and _blocks(inner):
        return [*own, *(f"{top}.{number}.*" for number in sorted(numbers, key=int))]
    modules: dict[str, set[str]] = {}
    for parts in inner:
        path = ".".join(["*" if part.isdigit() else part for part in parts[:-1]])
        modules.setdefault(path, set()).add(parts[-1])
    found = []
    for path, leaves in modules.items():
        module = f"{top}.{path}" if path else top
        whole = path and ("weight" in leaves or len(leaves) > 1) and not path.endswith("*")
        found += [f"{module}.*"] if whole else [f"{module}.{leaf}" for leaf in sorted(leaves)]
    return [*own, *found]


def _whole(inner: Sequence[list[str]]) -> bool:
    """Whether the keys below a module look like all of it: one layer, or several parts with whole blocks."""
    if all(len(parts) == 1 for parts in inner):
        return len(inner) > 1 or inner[0][0] == "weight"
    children = {parts[0] for parts in inner}
    if all(child.isdigit() for child in children):
        return min(map(int, children)) == 0 and _blocks(inner)
    return len(children) >= 3 and all(
        _blocks([parts[i:] for parts in inner if len(parts) > i + 1 and parts[:i] == path])
        for path, i in _numbered(inner)
    )


def _numbered(inner: Sequence[list[str]]) -> list[tuple[list[str], int]]:
    """The places where block numbers stand."""
    found: dict[tuple[str, ...], int] = {}
    for parts in inner:
        at = next((i for i, part in enumerate(parts[:-1]) if part.isdigit()), None)
        if at is not None:
            found[tuple(parts[:at])] = at
    return [(list(path), at) for path, at in found.items()]


def _blocks(numbered: Sequence[list[str]]) -> bool:
    """Whether numbered blocks are here with all their parts, not with one layer of each."""
    below = {parts[1] for parts in numbered if len(parts) > 2}
    return not below or len(below) >= 3 or all(len(parts) == 2 for parts in numbered)


def _narrow(pattern: str, wrapper: str, group: Sequence[list[str]], others: Sequence[str]) -> list[str]:
    """The pattern, or narrower ones where it would match what the other side has too."""
    if not _meets(pattern, others):
        return [pattern]
    fits = re.compile(translate(pattern))
    keys = [wrapper + ".".join(parts) for parts in group]
    keys = [key for key in keys if fits.match(key)]
    stems = dict.fromkeys(key.rpartition(".")[0] + ".*" for key in keys if "." in key)
    if stems and not any(_meets(stem, others) for stem in stems):
        return list(stems)
    return keys


def _meets(pattern: str, keys: Sequence[str]) -> bool:
    fits = re.compile(translate(pattern)).match
    return any(fits(key) for key in keys)
