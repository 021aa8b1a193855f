"""Whether a name says which module is meant, or only its place among siblings that look the same."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from .groups import Group, counts
from .lexicon import NORM_PLACES
from .match import Match
from .words import subwords

Prefix = tuple[str, ...]


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


def note_stages(mine: Iterable[Group], theirs: Iterable[Group], matches: Iterable[Match]) -> None:
    """Mark norms named after their place in a block, where a block of the other side has other ones.

    The norm after attention is the one before the MLP where a block has two, and another one where it has four, or
    where none stands before attention.
    """
    one, other = _norms(mine), _norms(theirs)
    for match in matches:
        source, target = match.candidate.source, match.candidate.target
        if _staged(source) and _staged(target):
            beside = one.get(_beside(source), set()), other.get(_beside(target), set())
            if all(beside) and beside[0] != beside[1]:
                match.norms = ", ".join(sorted(beside[0])), ", ".join(sorted(beside[1]))


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


def note_tokens(mine: Iterable[Group], theirs: Iterable[Group], matches: Iterable[Match]) -> None:
    """Mark class tokens where both sides have position embeddings that do not fit: one may hold the token's position."""
    matches = list(matches)
    done = {g for m in matches for g in (*m.candidate.source.members, *m.candidate.target.members)}
    left = [{_width(g) for g in side if g not in done and _speaks(g, "pos")} for side in (mine, theirs)]
    for match in matches:
        target = match.candidate.target
        if _speaks(target, "token") and prod(target.shapes[0] or ()) == _width(target) in left[0] & left[1]:
            match.absorbing = True


def _norms(groups: Iterable[Group]) -> dict[object, set[str]]:
    found: dict[object, set[str]] = {}
    for g in groups:
        if _speaks(g, "norm"):
            found.setdefault(_beside(g), set()).add(g.template[-1])
    return found


def _staged(group: Group) -> bool:
    return _speaks(group, "norm") and any(c in NORM_PLACES for c in group.tokens[-1][1])


def _beside(group: Group) -> object:
    return group.template[:-1], group.shapes[0]


def _speaks(group: Group, concept: str) -> bool:
    return bool(group.tokens) and concept in group.tokens[-1][1]


def _width(group: Group) -> int:
    return (group.shapes[0] or (0,))[-1]


class _Tree:
    def __init__(self, groups: Iterable[Group]) -> None:
        self._below: dict[Prefix, set[Prefix]] = {}
        self._alike: dict[object, set[str]] = {}
        for group in groups:
            for n in range(len(group.template)):
                self._below.setdefault(group.template[:n], set()).add(group.template[n:])
            for n, kind in _counting(group):
                self._alike.setdefault(kind, set()).add(group.template[n])

    def below(self, prefix: Prefix) -> set[Prefix]:
        """The templates below a prefix, relative to it."""
        return self._below.get(prefix, set())

    def counted(self, group: Group) -> int | None:
        """Which token of a group's template holds a number that alone tells it from a sibling of its shape."""
        for n, kind in _counting(group):
            if self._alike.get(kind, set()) - {group.template[n]}:
                return n
        return None


def _counting(group: Group) -> Iterable[tuple[int, object]]:
    """Each token with a number, the last one first, and what siblings share that differ in that number."""
    template = group.template
    for n in range(len(template) - 1, -1, -1):
        token = template[n]
        if "{}" not in token:
            stem = tuple("#" if counts(word) else word for word in subwords(token))
            if "#" in stem:
                yield n, (template[:n], stem, template[n + 1 :], group.shapes)
