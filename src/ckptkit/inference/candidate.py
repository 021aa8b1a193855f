"""A source group that fits a target group, and what it competes with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .align import ranked
from .groups import Group, Index
from .virtual import Atom, Fused, Part, Stacked, atom, atoms

Links = tuple[frozenset[Atom], frozenset[Atom], frozenset[object]]
How = Literal["same", "transpose", "reshape", "partial"]


@dataclass(eq=False, slots=True)
class Candidate:
    """A source group that fits a target group.

    Args:
        how: what the shapes need.
        pairs: target index to source index; by rank when None.
        cover: the share of the target's instances that find a partner.
        spread: whether blocks were spread evenly.
        leaves: whether it leaves the repeated blocks, or goes into them.
        fixed: the part of the name's score that no match changes; None until it is known.
        leafy: the part of the score for the same kinds of leaves.
        beaten_by: the last competitor found to score more, or nearly as much.
        paths: of some of the single modules that it pairs; None until they are wanted.
    """

    source: Group
    target: Group
    how: How
    pairs: dict[Index, Index] | None = None
    cover: float = 1.0
    name: float = 0.0
    score: float = 0.0
    spread: bool = False
    leaves: bool = False
    dead: bool = False
    fixed: float | None = None
    leafy: float = 0.0
    paths: list[tuple[tuple[str, ...], tuple[str, ...]]] | None = None
    beaten_by: Candidate | None = None
    _links: Links | None = None

    @property
    def instance_pairs(self) -> dict[Index, Index]:
        """Target index to source index."""
        return self.pairs if self.pairs is not None else ranked(self.source, self.target)

    @property
    def keeps(self) -> bool:
        """Whether all that it pairs has the same numbers on both sides, or is all that there is."""
        return self.how == "same" or (
            self.how == "partial" and all(t == s for t, s in self.instance_pairs.items())
        )

    @property
    def links(self) -> Links:
        """What it uses of the source, what it fills of the target, and which fills which where no rule is needed."""
        if self._links is None:
            pairs = self.instance_pairs
            used, filled = atoms(self.source, pairs.values()), atoms(self.target, pairs)
            plain: frozenset[object] = frozenset()
            if not isinstance(self.source, (Fused, Stacked)) and not isinstance(
                self.target, (Fused, Stacked)
            ):
                plain = frozenset(
                    (atom(self.target, theirs), atom(self.source, mine)) for theirs, mine in pairs.items()
                )
            self._links = used, filled, plain
        return self._links

    @property
    def whole(self) -> bool:
        """Whether it pairs all instances of real groups, so that it competes with all that touch one of these."""
        return self.pairs is None and not isinstance(self.source, Part) and not isinstance(self.target, Part)

    def touches(self, other: Candidate) -> bool:
        """Whether they use or fill the same thing."""
        if self.whole and other.whole:
            return not set(self.source.members).isdisjoint(other.source.members) or not set(
                self.target.members
            ).isdisjoint(other.target.members)
        (a, x, _), (b, y, _) = self.links, other.links
        return not (a.isdisjoint(b) and x.isdisjoint(y))

    def competes(self, other: Candidate) -> bool:
        """Whether both cannot be true: something would be used twice, or filled from two places."""
        if self.whole and other.whole:
            return self.touches(other)
        (a, x, links), (b, y, others) = self.links, other.links
        used, filled = len(a & b), len(x & y)
        agreed = len(links & others) if used or filled else 0
        return used > agreed or filled > agreed

    def shrink(self, match: Candidate) -> None:
        """Leave out what a match has taken; dead if nothing is left or it would need a tensor rule."""
        if self.pairs is None and self.competes(match):
            self.dead = True
            return
        used, filled, plain = match.links
        pairs = self.instance_pairs
        left = {
            theirs: mine
            for theirs, mine in pairs.items()
            if used.isdisjoint(atoms(self.source, (mine,)))
            and filled.isdisjoint(atoms(self.target, (theirs,)))
        }
        if not left or not plain:
            self.dead = True
            return
        self.pairs, self.how, self._links = left, "partial" if self.how == "same" else self.how, None
        self.paths = None
        self.cover = len(left) / len(self.target.instances)

    @property
    def virtual(self) -> int:
        """How many tensor rules the match takes, transposes and reshapes included."""
        return sum(isinstance(g, (Fused, Stacked)) for g in (self.source, self.target)) + (
            self.how in ("transpose", "reshape")
        )
