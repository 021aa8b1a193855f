r"""Rows of keys generalised to patterns: numbers that run become ``(\d+)``, those that stay are written out."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<![0-9])[0-9]+(?![0-9])")


@dataclass(frozen=True, slots=True)
class Line:
    r"""One pattern per source, one template per target, for some rows.

    Args:
        patterns: regular expressions for a whole key, a group for each number that runs.
        templates: with ``\1`` in the place of the runs.
        rows: the numbers of the rows it covers.
    """

    patterns: tuple[str, ...]
    templates: tuple[str, ...]
    rows: tuple[int, ...]


def lines(
    rows: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    marks: Sequence[Hashable],
    *,
    index: int | None = None,
) -> list[Line]:
    """Generalise rows of (source keys, target keys); rows of one line have equal marks.

    Args:
        rows: for each output the source keys it takes and the keys it gives.
        marks: one per row; rows with different ones are kept apart.
        index: name the group of this slot of the source ``index``, counted over the numbers of the key.
    """
    classes: dict[Hashable, list[int]] = {}
    for n, (sources, targets) in enumerate(rows):
        shape = tuple(_mask(k) for k in (*sources, *targets))
        classes.setdefault((len(sources), shape, marks[n]), []).append(n)
    return [line for members in classes.values() for line in _line(rows, members, index)]


def numbers(key: str) -> list[str]:
    """The numbers of a key that stand by themselves, in order."""
    return _NUMBER.findall(key)


def _mask(key: str) -> str:
    return _NUMBER.sub("#", _LEAF.sub(".@", key))


_LEAF = re.compile(r"\.(weight|bias)\Z")


def _slots(key: str) -> tuple[str, ...]:
    leaf = _LEAF.search(key)
    head = key[: leaf.start()] if leaf else key
    return (*_NUMBER.findall(head), *((leaf[1],) if leaf else ()))


def _line(
    rows: Sequence[tuple[tuple[str, ...], tuple[str, ...]]], members: list[int], index: int | None
) -> list[Line]:
    first = rows[members[0]]
    sources = [
        list(zip(*(_slots(rows[n][0][k]) for n in members), strict=True)) for k in range(len(first[0]))
    ]
    targets = [
        list(zip(*(_slots(rows[n][1][k]) for n in members), strict=True)) for k in range(len(first[1]))
    ]
    running = [[s for s, v in enumerate(slots) if len(set(v)) > 1 or s == index] for slots in sources]
    wanted = [v for slots in targets for v in slots if len(set(v)) > 1]
    for slots, run in zip(sources, running, strict=True):
        if any(v not in [slots[s] for s in run] for v in wanted):
            return _singles(rows, members, index)
    templates = []
    for k, slots in enumerate(targets):
        names = []
        for v in slots:
            if len(set(v)) == 1:
                names.append(v[0])
                continue
            numbers = [
                [number for number, s in enumerate(run, 1) if src[s] == v and s != index]
                for src, run in zip(sources, running, strict=True)
            ]
            common = set(numbers[0]).intersection(*numbers[1:])
            if not common:
                return _singles(rows, members, index)
            names.append(f"\\g<{min(common)}>")
        templates.append(_fill(first[1][k], names, escape=False))
    patterns = []
    for k, (slots, run) in enumerate(zip(sources, running, strict=True)):
        names = []
        for s, v in enumerate(slots):
            if s == index:
                names.append(r"(?P<index>\d+)")
            elif s not in run:
                names.append(re.escape(v[0]))
            elif not v[0].isdigit():
                names.append("(" + "|".join(sorted(set(v), reverse=True)) + ")")
            else:
                names.append(r"(\d+)")
        patterns.append(_fill(first[0][k], names, escape=True))
    return [Line(tuple(patterns), tuple(_short(t) for t in templates), tuple(members))]


def _singles(
    rows: Sequence[tuple[tuple[str, ...], tuple[str, ...]]], members: list[int], index: int | None
) -> list[Line]:
    """A line for every row, all its numbers written out."""
    if len(members) > 1:
        return [line for n in members for line in _line(rows, [n], index)]
    raise AssertionError("one row has no numbers that run")


def _fill(key: str, names: list[str], *, escape: bool) -> str:
    leaf = _LEAF.search(key)
    head = key[: leaf.start() + 1] if leaf else key
    parts = [re.escape(p) if escape else p.replace("\\", "\\\\") for p in _NUMBER.split(head)]
    text = parts[0]
    for name, part in zip(names, parts[1:], strict=False):
        text += name + part
    return text + names[-1] if leaf else text


def _short(template: str) -> str:
    r"""``\g<1>`` as ``\1`` where no digit follows."""
    return re.sub(r"\\g<([0-9])>(?![0-9])", r"\\\1", template)
