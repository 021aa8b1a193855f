"""Parts of the target that repeat what the source holds once: siamese towers, ensembles, experts made of one module.

Which of several equal parts a source fills cannot be decided by comparing names, since it fills them all. So one of them
is matched, and the others are copies of it. Whether they are copies is a matter of counting: the source has as many
tensors of their shapes as the target wants without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from .align import containers
from .fusing import fixed
from .groups import Group, Index, Shape

Prefix = tuple[str, ...]
LEAST_GROUPS = 4
MOST_PREFIXES = 400
SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Copy:
    """One module that repeats another one of the same side."""

    group: Group
    index: Index
    main: Group
    main_index: Index


def repeats(mine: Sequence[Group], theirs: Sequence[Group]) -> tuple[list[Group], list[Copy]]:
    """The target without what repeats.

    Args:
        mine: the groups of the source.
        theirs: those of the target.

    Returns:
        The groups to match, one instance in the place of those that repeat over an index, and the copies.
    """
    count = _Count(mine, theirs)
    if not count.short():
        return list(theirs), []
    kept = list(theirs)
    copies: list[Copy] = []
    templates = {group.template for group in mine}
    barred: set[Group] = set()
    for find, enough in ((_indexed, count.explains), (_towers, count.explains), (_grown, count.fills)):
        for main, others in find(kept, templates, count):
            gone = [copy for pair in others for copy in pair if copy.group not in barred]
            if gone and enough(gone):
                count.remove(gone)
                copies += gone
                barred |= {copy.group for copy in gone}
                kept = [g for g in kept if g not in barred] + [g for g in main if g not in kept]
    return sorted(kept, key=lambda g: g.template), copies


class _Count:
    """How many modules of each shape the source has, and how many the target wants."""

    def __init__(self, mine: Iterable[Group], theirs: Iterable[Group]) -> None:
        mine, theirs = list(mine), list(theirs)
        self._size = _size(mine)
        self._surplus = _size(theirs) - self._size
        self._supply: Counter[Shape | None] = Counter(s for g in mine for s in g.shapes)
        self._demand: Counter[Shape | None] = Counter(s for g in theirs for s in g.shapes)

    def short(self) -> bool:
        """Whether the target wants more of some shapes than there is, and of those there is one at least."""
        return any(0 < self._supply[s] < n for s, n in self._demand.items() if s is not None and len(s) > 1)

    def explains(self, copies: Sequence[Copy]) -> bool:
        """Whether the source has what is wanted without the copies, and not what is wanted with them."""
        less = self._shapes(copies)
        if self._surplus < 0.5 * _elements(less):
            return False  # fused or cut rather than repeated
        fitting = sum(
            n for s, n in less.items() if 0 < self._demand[s] - n <= self._supply[s] < self._demand[s]
        )
        return fitting >= SHARE * sum(less.values())

    def fills(self, copies: Sequence[Copy]) -> bool:
        """Whether the copies are what the source is, which is then one such part and no more."""
        less = self._shapes(copies)
        if _elements(less) < SHARE * self._size:
            return False
        once = sum(n for s, n in less.items() if n <= self._supply[s] < 2 * n <= self._demand[s])
        return once >= SHARE * sum(less.values())

    def remove(self, copies: Sequence[Copy]) -> None:
        """Count these no longer."""
        less = self._shapes(copies)
        self._demand.subtract(less)
        self._surplus -= _elements(less)

    @staticmethod
    def _shapes(copies: Sequence[Copy]) -> Counter[Shape | None]:
        return Counter(
            c.group.instances[c.index][c.group.leaf][1]
            for c in copies
            if c.group.leaf in c.group.instances[c.index]
        )


def _elements(shapes: Counter[Shape | None]) -> int:
    return sum(prod(shape or ()) * n for shape, n in shapes.items())


def _size(groups: Iterable[Group]) -> int:
    return sum(prod(shape) for g in groups for leaves in g.instances.values() for _, shape in leaves.values())


Found = Iterable[tuple[list[Group], list[list[Copy]]]]


def _indexed(groups: Sequence[Group], templates: set[Prefix], count: _Count) -> Found:
    """Blocks whose instances are all alike, of which the source may have one: models.{}, experts.{}."""
    below: dict[Prefix, list[Group]] = {}
    for group in groups:
        for prefix in containers(group.template):
            if "{}" in prefix[-1]:
                below.setdefault(prefix, []).append(group)
    for prefix, inside in sorted(below.items(), key=lambda item: len(item[0])):
        place = sum("{}" in token for token in prefix) - 1
        if any(template[: len(prefix)] == prefix for template in templates):
            continue  # the source has such blocks itself
        values = sorted({index[place] for group in inside for index in group.indices})
        if len(values) < 2 or any(len(g.indices) % len(values) for g in inside):
            continue
        main: list[Group] = []
        copies: list[Copy] = []
        for group in inside:
            part = fixed(group, values[0], place)
            first = Group(part.template, part.instances)
            main.append(first)
            for index in group.indices:
                rest = (*index[:place], *index[place + 1 :])
                if index[place] != values[0] and rest in first.instances:
                    copies.append(Copy(group, index, first, rest))
        if all(_alike(group, place) for group in inside):
            yield main, [copies]


def _alike(group: Group, place: int) -> bool:
    """Whether the shapes are the same for all values of one index."""
    shapes: dict[Index, Shape | None] = {}
    return all(
        shapes.setdefault((*index[:place], *index[place + 1 :]), shape) == shape
        for index, shape in zip(group.indices, group.shapes, strict=True)
    )


def _towers(groups: Sequence[Group], templates: set[Prefix], count: _Count) -> Found:
    """Prefixes below which most of the same lies, the largest first."""
    below: dict[Prefix, dict[tuple[Prefix, object], Group]] = {}
    for group in groups:
        for depth in range(1, len(group.template)):
            if "{}" in group.template[depth - 1]:
                break
            below.setdefault(group.template[:depth], {})[group.template[depth:], group.shapes] = group
    large = sorted(
        (p for p, found in below.items() if len(found) >= LEAST_GROUPS), key=lambda p: (-len(below[p]), p)
    )
    done: list[Prefix] = []
    for n, one in enumerate(large[:MOST_PREFIXES]):
        others: list[list[Copy]] = []
        for other in large[n + 1 : MOST_PREFIXES]:
            if _nested(one, other) or any(_within(p, d) for p in (one, other) for d in done):
                continue
            common = below[one].keys() & below[other].keys()
            if len(common) >= max(LEAST_GROUPS, SHARE * len(below[other])):
                done.append(other)
                others.append(
                    [
                        Copy(below[other][key], index, below[one][key], index)
                        for key in sorted(common, key=lambda k: k[0])
                        for index in below[other][key].indices
                        if index in below[one][key].instances
                    ]
                )
        if len(others) > 1:
            yield [], others  # all of them, where the source has one; else those that it is short of
        for copied in others:
            yield [], [copied]


def _grown(groups: Sequence[Group], templates: set[Prefix], count: _Count) -> Found:
    """Towers that hold another one and more: a decoder with attention to an encoder of the same make.

    Not where the source calls itself as the smaller of them is called: then it is that one alone.
    """
    suffixes = {template[n:] for template in templates for n in range(len(template))}
    for _, (pair, *more) in _towers(groups, templates, count):
        if not more and not any(copy.group.template in suffixes for copy in pair):
            yield [], [[Copy(copy.main, copy.main_index, copy.group, copy.index) for copy in pair]]


def _within(prefix: Prefix, other: Prefix) -> bool:
    return prefix[: len(other)] == other


def _nested(one: Prefix, other: Prefix) -> bool:
    return _within(one, other) or _within(other, one)
