"""Few candidates where very many groups have one shape: those that share rare words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .groups import Group
from .words import subwords

# How many candidates a group has at the most and, where very many have one shape, how many all have together.
MANY, FEW, MOST = 64, 4, 16384


class Rare:
    """Keeps the candidates of a group few where very many have its shape: those that share rare words.

    Args:
        groups: of the source.
        targets: how many groups are to find candidates.
    """

    def __init__(self, groups: Iterable[Group], targets: int) -> None:
        self._most = max(FEW, min(MANY, MOST // max(1, targets)))
        self._having: dict[str, list[Group]] = {}
        self._order: dict[int, tuple[list[Group], set[Group], list[Group], list[Group]]] = {}
        for group in groups:
            for word in _words(group):
                self._having.setdefault(word, []).append(group)

    def first(self, groups: list[Group], target: Group) -> list[Group]:
        """The groups if they are few, else those that share the most rare words with the target.

        Args:
            groups: always the same list for the same groups.
        """
        if len(groups) <= self._most:
            return groups
        if id(groups) not in self._order:
            ordered = sorted(groups, key=lambda g: g.template)
            trained = [g for g in ordered if not g.shadow] or ordered
            self._order[id(groups)] = groups, set(groups), ordered, trained
        _, inside, ordered, trained = self._order[id(groups)]
        wanted = ordered if target.shadow else trained
        shared: Counter[Group] = Counter()
        for word in _words(target):
            having = self._having.get(word, [])
            if len(having) <= MANY:
                shared.update(g for g in having if g in inside)
        named = sorted(shared, key=lambda g: (-shared[g], g.template))
        if wanted is trained is not ordered:
            named = [g for g in named if not g.shadow]
        return list(dict.fromkeys((*named[: self._most], *wanted[: self._most])))[: self._most]


def _words(group: Group) -> set[str]:
    return {w for token, _ in group.tokens for w in (token, *subwords(token))}
