"""Whether a name says which module is meant, or only its place among siblings that look the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .groups import Group
from .match import Match

Prefix = tuple[str, ...]
_NUMBER = re.compile(r"[0-9]+")


def note_positions(mine: Iterable[Group], theirs: Iterable[Group], matches: Iterable[Match]) -> None:
    """Mark the matches whose names only count, in modules that are not the same on both sides.

    ``norm2`` beside ``norm1`` and ``norm3`` of the same shape is the second of three. Where the module around it is
    built in another way on the other side, the second may be another one there, also under the same name.
    """
    one, other = _Tree(mine), _Tree(theirs)
    for match in matches:
        source, target = match.candidate.source, match.candidate.target
        for tree, group in ((one, source), (other, target)):
            place = tree.counted(group)
            if place is not None:
                above = len(group.template) - place
                if one.below(source.template[:-above]) != other.below(target.template[:-above]):
                    match.positional = True


def note_halves(mine: Iterable[Group], theirs: Iterable[Group], matches: Iterable[Match]) -> None:
    """Mark matches of two projections in one: twice as many rows as the module after it has columns.

    Which half is the gate, and whether the rows of both alternate, differs between libraries.
    """
    groups: dict[Prefix, list[Group]] = {}
    for group in (*mine, *theirs):
        for n in (len(group.template) - 1, len(group.template) - 2):
            if n > 0:
                groups.setdefault(group.template[:n], []).append(group)
    for match in matches:
        for group in (match.candidate.source, match.candidate.target):
            shape = group.shapes[0] or ()
            if len(shape) < 2 or shape[-2] % 2:
                continue
            back = (*shape[:-2], shape[-1], shape[-2] // 2)
            near = [*groups.get(group.template[:-1], ()), *groups.get(group.template[:-2], ())]
            if any(back in (o.shapes[0], (o.shapes[0] or ())[::-1]) for o in near if o is not group):
                match.halves = True


class _Tree:
    def __init__(self, groups: Iterable[Group]) -> None:
        self._below: dict[Prefix, set[Prefix]] = {}
        self._shapes: dict[Prefix, object] = {}
        for group in groups:
            self._shapes[group.template] = group.shapes
            for n in range(len(group.template)):
                self._below.setdefault(group.template[:n], set()).add(group.template[n:])

    def below(self, prefix: Prefix) -> set[Prefix]:
        """The templates below a prefix, relative to it."""
        return self._below.get(prefix, set())

    def counted(self, group: Group) -> int | None:
        """Which token of a group's template holds a number that alone tells it from a sibling of its shape."""
        template = group.template
        for n in range(len(template) - 1, -1, -1):
            token = template[n]
            if "{}" in token or not _NUMBER.search(token):
                continue
            stem, rest = _NUMBER.sub("#", token), template[n + 1 :]
            for below in self._below.get(template[:n], ()):
                if below[0] != token and below[1:] == rest and _NUMBER.sub("#", below[0]) == stem:
                    if self._shapes.get((*template[:n], *below)) == group.shapes:
                        return n
        return None
