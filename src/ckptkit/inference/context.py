"""How well two places in the trees agree: the matches already made below their ancestors."""

from __future__ import annotations

from collections import Counter

Prefix = tuple[str, ...]
FADING = 0.85  # what an ancestor of the source counts, for each step that it is farther away
ALIKE, MANY = 0.8, 6  # of what lies below two paths, and how many matches, make one of them the other


class Context:
    """Support for matching below a pair of module paths, from the matches made so far.

    Paths are templates, or those of single modules where it matters which of several blocks a module lies in.
    """

    def __init__(self) -> None:
        self._together: Counter[tuple[Prefix, Prefix]] = Counter()
        self._source: Counter[Prefix] = Counter()
        self._target: Counter[Prefix] = Counter()
        self._cache: dict[tuple[Prefix, Prefix], float] = {}

    def note(self, source: Prefix, target: Prefix, times: int = 1) -> None:
        """Count a match of two modules for all pairs of ancestors."""
        mine, theirs = _ancestors(source), _ancestors(target)
        for p in mine:
            self._source[p] += times
        for p in theirs:
            self._target[p] += times
        for p in mine:
            for q in theirs:
                self._together[p, q] += times
        self._cache.clear()

    def others(self, source: Prefix, target: Prefix) -> float:
        """The support of a match that is noted, by all the others."""
        self.note(source, target, -1)
        support = self._support(source, target)
        self.note(source, target)
        return support

    def support(self, source: Prefix, target: Prefix) -> float:
        """In [0, 1]; 0 where nothing around has been matched."""
        key = (source[:-1], target[:-1])
        value = self._cache.get(key)
        if value is None:
            value = self._cache[key] = self._support(source, target)
        return value

    def carried(self, source: Prefix, target: Prefix) -> tuple[int, int]:
        """How much of two paths goes along with many other matches, as a wrapper or a tower does: tokens of either."""
        total = self._together.get(((), ()), 0)
        best = (0, 0)
        for p in _ancestors(source):
            for q in _ancestors(target):
                both = self._together.get((p, q), 0)
                alike = both >= ALIKE * (self._source[p] + self._target[q] - both)
                if alike and both >= min(MANY, max(2, total)) and len(p) + len(q) > sum(best):
                    best = len(p), len(q)
        return best

    def _support(self, source: Prefix, target: Prefix) -> float:
        total = weight = 0.0
        step = 1.0
        mine = [(p, FADING**n) for n, p in enumerate(_ancestors(source)) if self._source[p]]
        for q in _ancestors(target):
            if self._target[q]:
                best = 0.0
                for p, near in mine:
                    both = self._together.get((p, q), 0)
                    if both:
                        best = max(best, near * both / (self._source[p] + self._target[q] - both))
                total += step * best
                weight += step
            step *= 0.6
        return total / weight if weight else 0.0


def _ancestors(path: Prefix) -> list[Prefix]:
    """The proper prefixes of a path, the nearest first, the root last."""
    return [path[:n] for n in range(len(path) - 1, -1, -1)]
