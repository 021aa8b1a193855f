"""Candidates by what they are made of, and the best that competes with a given one."""

from __future__ import annotations

from collections.abc import Iterable

from .candidate import Candidate
from .groups import Group

Index = dict[Group, list[Candidate]]


def by_member(candidates: Iterable[Candidate]) -> tuple[Index, Index]:
    """Candidates by the real groups of their source, and of their target."""
    by_source: Index = {}
    by_target: Index = {}
    for c in candidates:
        for m in c.source.members:
            by_source.setdefault(m, []).append(c)
        for m in c.target.members:
            by_target.setdefault(m, []).append(c)
    return by_source, by_target


class Rivals:
    """The best candidate that competes with a given one.

    Args:
        candidates: scored.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._by_source, self._by_target = by_member(sorted(candidates, key=lambda c: -c.score))

    def lead(self, c: Candidate, margin: float) -> float | None:
        """By how much a candidate leads every rival; None where it is by less than a margin."""
        last = c.beaten_by
        if last is not None and not last.dead and c.score - last.score < margin and c.competes(last):
            return None  # as in the round before: most candidates lose to the same one all along
        lead = c.score - self.best(c)
        return lead if lead >= margin else None

    def best(self, c: Candidate) -> float:
        """The score of the best rival; 0 without one."""
        best = 0.0
        for index, group in ((self._by_source, c.source), (self._by_target, c.target)):
            for m in group.members:
                for o in index[m]:
                    if o.score <= best:
                        break
                    if o is not c and c.competes(o):
                        best, c.beaten_by = o.score, o
                        break
        return best
