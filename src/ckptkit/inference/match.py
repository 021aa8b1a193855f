"""A decided candidate, with what later says how far it can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from .candidate import Candidate
from .groups import Group, Index, leaf_pairs
from .virtual import real_leaves

Leaves = set[tuple[Group, Index, str]]
TELLING_SIZE = 64


@dataclass(slots=True)
class Match:
    """A decided candidate.

    Args:
        candidate: what was decided.
        margin: how much better than the best rival.
        score: when it was decided.
        ordered: whether numbers or stages decided between equals.
        late: found among what whole groups had left open.
        alone: whether neither side fits anything else.
        telling: whether its shapes are too many or too large to agree by chance.
        support: of its surroundings.
        carried: how many tokens of either template go along with many other matches.
        copy_of: the group that takes the same source, where this is a copy.
        also: what its source fills besides, where the target repeats it.
        rival_copy: a group of the source with the same names and shapes.
        turn: whether a square matrix is transposed.
        silent: whether it is square beside transposed ones.
        positional: whether the name only counts siblings that look the same, in modules that differ.
        norms: the norms of a block on either side, where they are not the same and its name only says its place.
        halves: whether it holds two projections in one.
        absorbing: whether a token may hold its position on one side.
    """

    candidate: Candidate
    margin: float
    score: float
    ordered: bool = False
    late: bool = False
    alone: bool = False
    telling: bool = False
    support: float = 0.0
    carried: tuple[int, int] = (0, 0)
    copy_of: Group | None = None
    also: str | None = None
    rival_copy: Group | None = None
    turn: bool = False
    silent: bool = False
    positional: bool = False
    norms: tuple[str, str] | None = None
    halves: bool = False
    absorbing: bool = False

    def leaves(self, used: Leaves, filled: Leaves) -> None:
        """Add the (group, index, leaf) that the match uses and fills; those of the real groups."""
        c = self.candidate
        for theirs, mine in c.instance_pairs.items():
            for leaf, origin in leaf_pairs(c.source.instances[mine], c.target.instances[theirs]):
                used.update(real_leaves(c.source, mine, origin))
                filled.update(real_leaves(c.target, theirs, leaf))


def used_leaves(matches: Iterable[Match]) -> tuple[Leaves, Leaves]:
    """The (group, index, leaf) of source and target that matches use and fill."""
    used: Leaves = set()
    filled: Leaves = set()
    for match in matches:
        match.leaves(used, filled)
    return used, filled


def telling(group: Group) -> bool:
    """Whether a group's shapes are too many or too large to agree by chance."""
    first = group.shapes[0] or ()
    return len(first) >= 2 and prod(first) >= TELLING_SIZE
