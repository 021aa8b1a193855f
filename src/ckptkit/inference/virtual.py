"""Groups that a tensor rule could make: projections fused, blocks stacked.

Fused or stacked groups are matched like any other. One on the source's side that wins is a concat or stack; one on
the target's side means that the source holds what the target wants in parts: a split or unstack.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from .groups import Group, Index, Shape

Atom = tuple[Group, Index, str | None]
Value = tuple[Any, Shape]


class Part(Group):
    """Some instances of a group, or one leaf of them: what is still open.

    Attributes:
        origin: the real group.
        places: this group's indices to those of the origin.
        leaf_name: the leaf of the origin, where this is one leaf only.
    """

    origin: Group
    places: dict[Index, Index]
    leaf_name: str | None = None

    @cached_property
    def members(self) -> tuple[Group, ...]:
        """The real group."""
        return (self.origin,)


class Fused(Group):
    """Parts concatenated along dim 0.

    Attributes:
        parts: in the order in which they lie; None for one that nobody has, as large as the first.
        order: what the parts are, where their names say it.
        turned: whether the last two dims of every part are swapped first.
    """

    parts: tuple[Group | None, ...]
    order: tuple[str, ...] = ()
    turned: bool = False

    @cached_property
    def members(self) -> tuple[Group, ...]:
        """The real groups of all parts."""
        return tuple(dict.fromkeys(m for part in self.real_parts for m in part.members))

    @property
    def real_parts(self) -> list[Group]:
        """The parts that exist."""
        return [part for part in self.parts if part is not None]

    def pieces(self, index: Index, leaf: str) -> list[tuple[str | None, int]]:
        """The keys that are concatenated, with how many entries each takes; parts of parts one by one."""
        found: list[tuple[str | None, int]] = []
        sizes = [p.instances[index][leaf][1] for p in self.real_parts]
        for part in self.parts:
            if part is None:
                found.append((None, sizes[0][1 if self.turned else 0]))
            elif isinstance(part, Fused):
                found += part.pieces(index, leaf)
            else:
                key, shape = part.instances[index][leaf]
                found.append((str(key), shape[1 if self.turned else 0]))
        return found


class Stacked(Group):
    """The instances of one index stacked along a new dim 0."""

    inner: Group
    places: dict[Index, list[Index]]

    @cached_property
    def members(self) -> tuple[Group, ...]:
        """The real groups of what is stacked."""
        return self.inner.members


def atoms(group: Group, indices: Iterable[Index]) -> frozenset[Atom]:
    """What instances of a group are made of: the smallest things that only one match may use."""
    if isinstance(group, Fused):
        wanted = list(indices)
        return frozenset(a for part in group.real_parts for a in atoms(part, wanted))
    if isinstance(group, Stacked):
        return atoms(group.inner, (i for outer in indices for i in group.places[outer]))
    if isinstance(group, Part):
        return frozenset((group.origin, group.places[i], group.leaf_name) for i in indices)
    return frozenset((group, i, None) for i in indices)


def atom(group: Group, index: Index) -> Atom:
    """What one instance of a group that is no product of a rule is made of."""
    if isinstance(group, Part):
        return group.origin, group.places[index], group.leaf_name
    return group, index, None


def expression(value: Any) -> dict[str, Any]:
    """What an instance holds as an expression: a key is read."""
    return {"read": value} if isinstance(value, str) else value


def real_leaves(group: Group, index: Index, leaf: str) -> list[tuple[Group, Index, str]]:
    """The leaves of real groups that a leaf of a group is made of."""
    if isinstance(group, Fused):
        return [found for part in group.real_parts for found in real_leaves(part, index, leaf)]
    if isinstance(group, Stacked):
        return [found for i in group.places[index] for found in real_leaves(group.inner, i, leaf)]
    if isinstance(group, Part):
        return [(group.origin, group.places[index], group.leaf_name or leaf)]
    return [(group, index, leaf)]
