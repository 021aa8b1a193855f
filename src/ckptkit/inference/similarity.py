"""How alike two module paths are named: concepts weighted by rarity and by nearness to the tensor."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import log

from .groups import INDEX, Group, written
from .lexicon import FAINT
from .related import acronyms, initials, related, short_words

Weights = dict[str, float]

LEAST_RELATED = 0.05
LEARNED = 0.85  # what a translation is worth that the matches taught


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
        self._sides = sides
        mine, theirs = (acronyms(side) for side in sides)
        self._acronyms = (mine[0] & theirs[1]) | (theirs[0] & mine[1])
        self._single: dict[int, Families] = {}
        self._kin: dict[int, dict[Kin, frozenset[int]]] = {}
        self._places: dict[tuple[int, Prefix], tuple[int, int] | None] = {}
        self._families = (families(sides[0]), families(sides[1]))
        self._numbers: dict[Group, tuple[tuple[str, int, float, frozenset[int]], ...]] = {}
        self._path: dict[Group, Weights] = {}
        self._local: dict[Group, Weights] = {}
        self._tokens: dict[Group, Weights] = {}
        self._cache: dict[tuple[Group, Group], tuple[float, float]] = {}
        self._compared: dict[tuple[Group, Group], _Compared] = {}
        self._learned: dict[str, dict[str, float]] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    @property
    def groups(self) -> int:
        """How many groups both sides have."""
        return sum(map(len, self._sides))

    def both(self, source: Group, target: Group) -> tuple[float, float]:
        """Similarity of the whole paths, and of the paths' ends, in [0, 1]."""
        found = self._cache.get((source, target))
        if found is None:
            compared = self._compared.get((source, target))
            if compared is None:
                compared = self._compared[source, target] = self._compare(source, target)
            found = self._cache[source, target] = self._alike(compared)
        return found

    def literal(self, source: Group, target: Group) -> float:
        """The share of tokens that are letter by letter the same, the last ones weighing most.

        A number is the same only where one side's siblings have all the numbers that the other side's have: in a
        sequence of other length the same number means another place.
        """
        a, b = self._weights(source)[2], self._weights(target)[2]
        shared = sum(min(w, b[t]) for t, w in a.items() if t in b)
        whole = max(sum(a.values()), sum(b.values()))
        theirs = {(stem, n): (w, family) for stem, n, w, family in self._numbered(target, 1)}
        for stem, n, w, family in self._numbered(source, 0):
            other = theirs.get((stem, n))
            if other is not None and (family <= other[1] or other[1] <= family):
                shared += min(w, other[0])
        return shared / whole if whole else 0.0

    def numbered(self, source: Group, target: Group) -> float:
        """1 where both names hold the same place among as many siblings of their kind, -1 where they differ, else 0."""
        a, b = self._place(source, 0), self._place(target, 1)
        if a is None or b is None or a[1] != b[1] or a[1] < 2:
            return 0.0
        return 1.0 if a[0] == b[0] else -1.0

    def _place(self, group: Group, side: int) -> tuple[int, int] | None:
        """The rank of the last number in a name among siblings that differ in it alone, and how many these are."""
        key = (side, group.template)
        if key not in self._places:
            if side not in self._kin:
                self._kin[side] = kin(self._sides[side])
            found = None
            for value, family in numbers_of(group):
                among = self._kin[side].get(family, frozenset())
                if value in among:
                    found = sorted(among).index(value), len(among)
                break
            self._places[key] = found
        return self._places[key]

    def _numbered(self, group: Group, side: int) -> tuple[tuple[str, int, float, frozenset[int]], ...]:
        """(what is numbered, number, weight, the numbers of its siblings), the last one first."""
        found = self._numbers.get(group)
        if found is None:
            result = []
            decay = 1.0
            template = group.template
            for n in range(len(template) - 1, -1, -1):
                token = template[n]
                number = NUMBER.search(token) if "{}" not in token else None
                if number is not None:
                    stem = NUMBER.sub("#", token, count=1)
                    value = int(number[0])
                    family = self._family(side, template[:n], stem) or frozenset((value,))
                    if stem == "#" and n:
                        stem = template[n - 1] + ".#"
                    result.append((stem, value, decay, family))
                if token != INDEX:
                    decay *= 0.45
            found = self._numbers[group] = tuple(result)
        return found

    def _family(self, side: int, above: Prefix, stem: str) -> frozenset[int] | None:
        found = self._families[side].get((above, stem))
        if found is None and not any("{}" in token for token in above):
            if side not in self._single:
                self._single[side] = families(self._sides[side], single=True)
            found = self._single[side].get((above, stem))
        return found

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
        self._learned = {}
        for (x, y), n in self._pairs.items():
            self._learned.setdefault(x, {})[y] = n / max(self._seen[0][x], self._seen[1][y])
        self._cache.clear()

    def _weights(self, group: Group) -> tuple[Weights, Weights, Weights]:
        key = group
        if key not in self._path:
            path: defaultdict[str, float] = defaultdict(float)
            local: defaultdict[str, float] = defaultdict(float)
            tokens: defaultdict[str, float] = defaultdict(float)
            decay = 1.0
            for token, found in reversed(group.tokens):
                for c in found:
                    rarity = self._rarity.get(c, 0.5)
                    path[c] = max(path[c], rarity)
                    local[c] = max(local[c], rarity * decay)
                if self._acronyms:
                    for letters in self._acronyms & (short_words(token) | initials(token)):
                        path[letters] = local[letters] = 1.0
                if not NUMBER.search(token):
                    tokens[token] += decay
                elif not token.isdigit():
                    tokens[NUMBER.sub("#", token, count=1)] += decay / 2
                decay *= 0.45
            self._path[key], self._local[key], self._tokens[key] = dict(path), dict(local), dict(tokens)
        return self._path[key], self._local[key], self._tokens[key]

    def _compare(self, source: Group, target: Group) -> _Compared:
        (path, local, _), (their_path, their_local, _) = self._weights(source), self._weights(target)
        both = [c for c in path if c in their_path]
        mine = [c for c in path if c not in their_path]
        theirs = [c for c in their_path if c not in path]
        known = {(x, y): worth for x in mine for y in theirs if (worth := related(x, y)) > LEAST_RELATED}
        views = tuple(
            (a, b, sum(a[c] + b[c] for c in both), sum(a.values()) + sum(b.values()))
            for a, b in ((path, their_path), (local, their_local))
        )
        return _Compared(views, mine, theirs, known)

    def _alike(self, compared: _Compared) -> tuple[float, float]:
        worths = compared.known
        if compared.theirs:
            for x in compared.mine:
                row = self._learned.get(x)
                if row:
                    for y in compared.theirs:
                        worth = LEARNED * row.get(y, 0.0)
                        if worth > max(LEAST_RELATED, worths.get((x, y), 0.0)):
                            worths = {**worths, (x, y): worth}
        pairs = []
        mine, theirs = set(compared.mine), set(compared.theirs)
        for (x, y), worth in sorted(worths.items(), key=lambda p: (-p[1], p[0])):
            if x in mine and y in theirs:
                mine.remove(x)
                theirs.remove(y)
                pairs.append((x, y, worth))
        path, local = (
            (shared + sum(worth * (a[x] + b[y]) for x, y, worth in pairs)) / whole if whole else 0.0
            for a, b, shared, whole in compared.views
        )
        return path, local


@dataclass(slots=True)
class _Compared:
    """Two names side by side.

    Args:
        views: the weights of the concepts of both, of the path and of its end, with what they share and all of it.
        mine, theirs: concepts that only one of them has.
        known: pairs of these that are known to be related.
    """

    views: tuple[tuple[Weights, Weights, float, float], ...]
    mine: list[str]
    theirs: list[str]
    known: dict[tuple[str, str], float]


def families(groups: Iterable[Group], *, single: bool = False) -> Families:
    """The numbers that siblings differ in.

    Args:
        groups: of one side.
        single: look at every single module in the place of templates.

    Returns:
        (what lies above, the token with # for its first number) to the numbers.
    """
    found: dict[tuple[Prefix, str], set[int]] = {}
    for group in groups:
        paths = [group.template]
        if single:
            paths = [written(group.template, index, range(len(index))) for index in group.indices]
        for path in paths:
            for n, token in enumerate(path):
                number = NUMBER.search(token) if "{}" not in token else None
                if number is not None:
                    stem = NUMBER.sub("#", token, count=1)
                    found.setdefault((path[:n], stem), set()).add(int(number[0]))
    return {key: frozenset(numbers) for key, numbers in found.items()}


def numbers_of(group: Group) -> Iterable[tuple[int, Kin]]:
    """Each number below the last index, the last one first, with what a sibling shares that differs in it alone."""
    template = group.template
    dims = len(group.shapes[0] or ())
    for n in range(len(template) - 1, -1, -1):
        token = template[n]
        if "{}" in token:
            return
        number = NUMBER.search(token)
        if number is not None:
            yield int(number[0]), (template[:n], NUMBER.sub("#", token, count=1), template[n + 1 :], dims)


def kin(groups: Iterable[Group]) -> dict[Kin, frozenset[int]]:
    """The numbers of siblings that differ in one number alone."""
    found: dict[Kin, set[int]] = {}
    for group in groups:
        for value, family in numbers_of(group):
            found.setdefault(family, set()).add(value)
    return {family: frozenset(values) for family, values in found.items()}


Prefix = tuple[str, ...]
Kin = tuple[Prefix, str, Prefix, int]
Families = dict[tuple[Prefix, str], frozenset[int]]
NUMBER = re.compile(r"[0-9]{1,9}")
