"""Copies of keys as few rules: whole prefixes where all that lies below them is copied."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .moving import RuleData
from .rows import Line, lines, numbers

Pair = tuple[str, str]


def copy_rules(copies: Sequence[Pair], keys: Iterable[str]) -> list[RuleData]:
    """Rules for (key, key of its copy).

    Args:
        copies: what to copy.
        keys: all keys there are before the first copy is made.
    """
    below: dict[str, set[str]] = {}
    for key in keys:
        for n, letter in enumerate(key):
            if letter == ".":
                below.setdefault(key[:n], set()).add(key)
    places: dict[Pair, list[Pair]] = {}
    for key, twin in copies:
        places.setdefault(_differing(key, twin), []).append((key, twin))
    single: list[Pair] = []
    whole: list[Pair] = []
    for place, pairs in places.items():
        if place[0] and {key for key, _ in pairs} == below.get(place[0]) and len(pairs) > 1:
            whole.append(place)
        else:
            single += pairs
    rules: list[RuleData] = []
    for line in _lines(whole):
        groups = re.compile(line.patterns[0]).groups + 1
        rules.append(
            {"op": "copy", "pattern": line.patterns[0] + r"\.(.+)", "into": f"{line.templates[0]}.\\{groups}"}
        )
    for line in _lines(single):
        if len(line.rows) == 1:
            key, twin = single[line.rows[0]]
            rules.append({"op": "copy", "key": key, "into": twin})
        else:
            rules.append({"op": "copy", "pattern": line.patterns[0], "into": line.templates[0]})
    return rules


def _lines(pairs: Sequence[Pair]) -> list[Line]:
    marks = [
        tuple(b for a, b in zip(numbers(key), numbers(twin), strict=False) if a != b) for key, twin in pairs
    ]
    return lines([((key,), (twin,)) for key, twin in pairs], marks)


def _differing(key: str, twin: str) -> Pair:
    """Both keys without what they end on alike, whole tokens of it."""
    mine, theirs = key.split("."), twin.split(".")
    while len(mine) > 1 and len(theirs) > 1 and mine[-1] == theirs[-1]:
        mine.pop()
        theirs.pop()
    if len(mine) == len(key.split(".")):
        return "", ""
    return ".".join(mine), ".".join(theirs)
