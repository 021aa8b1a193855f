"""How alike two module paths are named: concepts weighted by rarity and by nearness to the tensor."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from math import log

from .groups import Group
from .lexicon import FAINT, RELATED

Weights = dict[str, float]


class Names:
    """Name similarity of groups, with what the matches so far taught about words.

    Args:
        groups: all groups of both sides, to know how rare a concept is.
    """

    def __init__(self, source: Iterable[Group], target: Iterable[Group]) -> None:
        sides = [list(source), list(target)]
        counts: Counter[str] = Counter()
        for side in sides:
            for group in side:
                counts.update({c for _, found in group.tokens for c in found})
        total = sum(len(side) for side in sides) + 2
        self._rarity = {
            c: max(0.08, log(total / (n + 1)) / log(total)) * (0.35 if c in FAINT else 1.0)
            for c, n in counts.items()
        }
        self._ranks = (ranks(sides[0]), ranks(sides[1]))
        self._path: dict[Group, Weights] = {}
        self._local: dict[Group, Weights] = {}
        self._tokens: dict[Group, Weights] = {}
        self._cache: dict[tuple[Group, Group], tuple[float, float]] = {}
        self._learned: dict[tuple[str, str], float] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def path(self, source: Group, target: Group) -> float:
        """Similarity of the whole paths, in [0, 1]."""
        return self._both(source, target)[0]

    def local(self, source: Group, target: Group) -> float:
        """Similarity of the paths' ends, in [0, 1]."""
        return self._both(source, target)[1]

    def _both(self, source: Group, target: Group) -> tuple[float, float]:
        found = self._cache.get((source, target))
        if found is None:
            a, b = self._weights(source), self._weights(target)
            found = self._cache[source, target] = self._dice(a[0], b[0]), self._dice(a[1], b[1])
        return found

    def literal(self, source: Group, target: Group) -> float:
        """The share of tokens that are letter by letter the same, the last ones weighing most."""
        a, b = self._weights(source)[2], self._weights(target)[2]
        shared = sum(min(w, b[t]) for t, w in a.items() if t in b)
        whole = max(sum(a.values()), sum(b.values()))
        return shared / whole if whole else 0.0

    def numbered(self, source: Group, target: Group) -> float:
        """1 where both names hold the same place among their numbered siblings, -1 where they differ, else 0."""
        a, b = self._ranks[0].get(source.template), self._ranks[1].get(target.template)
        if a is None or b is None or a[1] != b[1]:
            return 0.0
        return 1.0 if a[0] == b[0] else -1.0

    def learn(self, source: Group, target: Group) -> None:
        """Note a match: concepts that only one side has may mean what only the other side has."""
        a, b = self._weights(source)[0], self._weights(target)[0]
        only_a = [c for c in a if c not in b]
        only_b = [c for c in b if c not in a]
        for c in a:
            self._seen[0][c] += 1
        for c in b:
            self._seen[1][c] += 1
        for x in only_a:
            for y in only_b:
                self._pairs[x, y] += 1

    def settle(self) -> None:
        """Turn what was noted into translations."""
        self._learned = {
            (x, y): n / max(self._seen[0][x], self._seen[1][y]) for (x, y), n in self._pairs.items()
        }
        self._cache.clear()

    def _weights(self, group: Group) -> tuple[Weights, Weights, Weights]:
        key = group
        if key not in self._path:
            path: defaultdict[str, float] = defaultdict(float)
            local: defaultdict[str, float] = defaultdict(float)
            tokens: defaultdict[str, float] = defaultdict(float)
            decay = 1.0
            bare = [token for token, _ in group.tokens]
            for n, (token, found) in reversed(list(enumerate(group.tokens))):
                if token.isdigit() and n:
                    token = f"{bare[n - 1]}.{token}"  # a number says something only beside its name
                for c in found:
                    rarity = self._rarity.get(c, 0.5)
                    path[c] = max(path[c], rarity)
                    local[c] = max(local[c], rarity * decay)
                tokens[token] += decay
                decay *= 0.45
            self._path[key], self._local[key], self._tokens[key] = dict(path), dict(local), dict(tokens)
        return self._path[key], self._local[key], self._tokens[key]

    def _dice(self, a: Weights, b: Weights) -> float:
        shared = 0.0
        rest_a, rest_b = [], dict(b)
        for c, w in a.items():
            if c in b:
                shared += w + b[c]
                del rest_b[c]
            else:
                rest_a.append((c, w))
        whole = sum(a.values()) + sum(b.values())
        if rest_a and rest_b:
            pairs = sorted(
                ((worth, x, y) for x, _ in rest_a for y in rest_b if (worth := self._related(x, y)) > 0.05),
                key=lambda p: (-p[0], p[1], p[2]),
            )
            left = dict(rest_a)
            for worth, x, y in pairs:
                if x in left and y in rest_b:
                    shared += worth * (left.pop(x) + rest_b.pop(y))
        return shared / whole if whole else 0.0

    def _related(self, x: str, y: str) -> float:
        return max(_known(x, y), 0.85 * self._learned.get((x, y), 0.0))


@lru_cache(maxsize=1 << 16)
def _known(x: str, y: str) -> float:
    """How related two concepts are before anything was matched."""
    return max(RELATED.get(frozenset((x, y)), 0.0), _abbreviates(x, y))


def _abbreviates(x: str, y: str) -> float:
    """Whether one word begins the other, or both have one stem."""
    short, long = sorted((x, y), key=len)
    stem = next((n for n, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), len(short))
    if stem >= 5 and stem >= 0.7 * len(long):
        return 0.8
    if not long.startswith(short) or short == long:
        return 0.0
    if len(short) >= 3:
        return 0.7
    return 0.3 if len(short) == 1 and short not in "qkvgh" else 0.2


def ranks(groups: Iterable[Group]) -> dict[Prefix, tuple[int, int]]:
    """The place of each name that holds a number among its siblings, which differ in that number alone.

    Returns:
        Template to (rank, how many there are), for the last numbered token below the last index.
    """
    families: dict[tuple[Prefix, str], dict[int, list[Prefix]]] = {}
    for group in groups:
        for n in range(len(group.template) - 1, -1, -1):
            token = group.template[n]
            if "{}" in token:
                break
            found = NUMBER.search(token)
            if found is not None:
                stem = (group.template[:n], NUMBER.sub("#", token, count=1))
                families.setdefault(stem, {}).setdefault(int(found[0]), []).append(group.template)
                break
    return {
        template: (rank, len(family))
        for family in families.values()
        if len(family) > 1
        for rank, number in enumerate(sorted(family))
        for template in family[number]
    }


Prefix = tuple[str, ...]
NUMBER = re.compile(r"[0-9]{1,9}")
