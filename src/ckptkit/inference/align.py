"""Which instance of a repeated block is which: index tuples of one side mapped to those of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod

from .groups import Group, Index, Shape

AS_MANY = 0.9  # the likeness of two blocks of equal size whose tensors have other shapes

Prefix = tuple[str, ...]
Blocks = dict[Index, Counter[Shape]]


class Containers:
    """The repeated blocks of a signature, and what each instance holds.

    A block is named by a template that holds at least one index, such as ``stages.{}``, ``stages.{}.blocks.{}`` or
    ``stages.{}.downsample``; its instances by the values of these indices.

    Args:
        groups: the groups of a signature; parts of groups only add blocks that the whole groups do not have.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self._below: dict[Prefix, list[Group]] = {}
        self._blocks: dict[Prefix, list[tuple[Index, Counter[Shape]]]] = {}
        for group in groups:
            for prefix in containers(group.template):
                self._below.setdefault(prefix, []).append(group)

    def sequence(self, prefix: Prefix) -> list[tuple[Index, Counter[Shape]]]:
        """The instances of a block in order, each with the shapes it holds."""
        if prefix not in self._blocks:
            depth = sum("{}" in token for token in prefix)
            found: Blocks = {}
            for group in self._below[prefix]:
                for index, leaves in group.instances.items():
                    block = found.setdefault(index[:depth], Counter())
                    for _, shape in leaves.values():
                        block[shape] += 1
            self._blocks[prefix] = sorted(found.items())
        return self._blocks[prefix]

    def count(self, prefix: Prefix) -> int:
        """How many instances a block has; 0 if there is no such block."""
        return len(self.sequence(prefix)) if prefix in self._below else 0


def outermost(template: Prefix) -> Prefix | None:
    """The template up to its first index."""
    for n, token in enumerate(template):
        if "{}" in token:
            return template[: n + 1]
    return None


def containers(template: Prefix) -> list[Prefix]:
    """The blocks that hold a module: up to each index, and the part of a block below it; the outermost first."""
    places = [n for n, token in enumerate(template) if "{}" in token]
    found = [template[: n + 1] for n in places]
    found += [template[: n + 2] for n in places if n + 2 < len(template) and "{}" not in template[n + 1]]
    return found


class Alignment:
    """Maps the blocks of a target to those of a source, cached.

    Args:
        source: containers of the source.
        target: containers of the target.
    """

    def __init__(self, source: Containers, target: Containers) -> None:
        self._source, self._target = source, target
        self._maps: dict[tuple[Prefix, Prefix], dict[Index, Index]] = {}
        self.spread: set[tuple[Prefix, Prefix]] = set()
        self.reversed: set[tuple[Prefix, Prefix]] = set()

    def repeated(self, group: Group, *, source: bool) -> bool:
        """Whether a group lies in blocks of which there are several more than two."""
        prefix = outermost(group.template)
        side = self._source if source else self._target
        return prefix is not None and side.count(prefix) > 2

    def knows(self, source: Prefix, target: Prefix) -> bool:
        """Whether both are blocks."""
        return self._source.count(source) > 0 and self._target.count(target) > 0

    def blocks(self, source: Prefix, target: Prefix) -> dict[Index, Index]:
        """Target index to source index, only where one alignment is best; the blocks keep their order."""
        key = (source, target)
        if key not in self._maps:
            mine, theirs = self._source.sequence(source), self._target.sequence(target)
            self._maps[key] = _align(mine, theirs, same=source == target)
            if len(mine) == len(theirs) > 1 and self._maps[key] == {
                t[0]: s[0] for s, t in zip(mine[::-1], theirs, strict=True)
            }:
                self.reversed.add(key)
            if not self._maps[key] and len(mine) > len(theirs) > 1:
                self._maps[key] = _spread(mine, theirs)
                self.spread.add(key)
        return self._maps[key]

    def pairs(self, source: Group, target: Group) -> tuple[dict[Index, Index], tuple[Prefix, Prefix] | None]:
        """Instances paired through the blocks around them, where the shapes agree.

        Returns:
            Target index to source index, and the two blocks whose alignment pairs the most.
        """
        best: dict[Index, Index] = {}
        place = None
        first = True
        for theirs in filter(self._target.count, containers(target.template)):
            for mine in filter(self._source.count, containers(source.template)):
                if not first and (theirs == target.template or mine == source.template):
                    continue  # a module is no block
                found = through(self.blocks(mine, theirs), source, target)
                if len(found) > len(best):
                    best, place = found, (mine, theirs)
                if first and len(best) == len(target.instances):
                    return best, place
                first = False
        return best, place


def _align(
    source: list[tuple[Index, Counter[Shape]]], target: list[tuple[Index, Counter[Shape]]], *, same: bool
) -> dict[Index, Index]:
    if len(source) * len(target) > 250_000:
        return {}
    cache: dict[tuple[int, int], float] = {}
    ids: dict[frozenset[tuple[Shape, int]], int] = {}
    s_ids = [ids.setdefault(frozenset(c.items()), len(ids)) for _, c in source]
    t_ids = [ids.setdefault(frozenset(c.items()), len(ids)) for _, c in target]

    def likeness(s: int, t: int) -> float:
        pair = (s_ids[s], t_ids[t])
        if pair not in cache:
            cache[pair] = 1.0 if pair[0] == pair[1] else _likeness(source[s][1], target[t][1])
        return cache[pair]

    n, m = len(source), len(target)
    if n == m and all(likeness(k, k) >= 0.5 for k in range(n)):
        return {t[0]: s[0] for s, t in zip(source, target, strict=True)}
    if n == m and all(likeness(n - 1 - k, k) >= 0.75 for k in range(n)):
        return {t[0]: s[0] for s, t in zip(source[::-1], target, strict=True)}
    if same:
        numbers = {number: k for k, (number, _) in enumerate(source)}
        common = [(numbers[number], k) for k, (number, _) in enumerate(target) if number in numbers]
        if len(common) == min(n, m) and all(likeness(s, t) >= 0.5 for s, t in common):
            return {target[t][0]: source[s][0] for s, t in common}
    offsets = [d for d in range(n - m + 1) if all(s_ids[d + k] == t_ids[k] for k in range(m))]
    if len(offsets) == 1:
        return {target[k][0]: source[offsets[0] + k][0] for k in range(m)}
    first = _alignment(n, m, likeness, late=False)
    last = _alignment(n, m, likeness, late=True)
    return {target[t][0]: source[s][0] for t, s in first.items() if last.get(t) == s}


def _spread(
    source: list[tuple[Index, Counter[Shape]]], target: list[tuple[Index, Counter[Shape]]]
) -> dict[Index, Index]:
    """Fewer equal blocks than the source has: taken evenly from the first to the last."""
    blocks = [c for _, c in (*source, *target)]
    if any(_likeness(blocks[0], c) < 0.5 for c in blocks[1:]):
        return {}
    step = (len(source) - 1) / (len(target) - 1)
    return {number: source[round(k * step)][0] for k, (number, _) in enumerate(target)}


def _alignment(n: int, m: int, likeness, *, late: bool) -> dict[int, int]:  # type: ignore[no-untyped-def]
    """The monotone alignment of highest likeness; of several the earliest, or the latest, in the source."""
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    for s in range(1, n + 1):
        row, above = best[s], best[s - 1]
        for t in range(1, m + 1):
            value = likeness(s - 1, t - 1)
            together = above[t - 1] + value if value >= 0.5 else -1.0
            row[t] = max(above[t], row[t - 1], together)
    result: dict[int, int] = {}
    s, t = n, m
    while s and t:
        value = likeness(s - 1, t - 1)
        together = best[s - 1][t - 1] + value if value >= 0.5 else -1.0
        skip_s, skip_t, here = best[s - 1][t], best[s][t - 1], best[s][t]
        options = (
            ((together, 1), (skip_t, 2), (skip_s, 3)) if late else ((skip_s, 3), (skip_t, 2), (together, 1))
        )
        step = next(kind for value, kind in options if value >= here - 1e-9)
        if step == 1:
            result[t - 1] = s - 1
            s, t = s - 1, t - 1
        elif step == 2:
            t -= 1
        else:
            s -= 1
    return result


def _likeness(a: Counter[Shape], b: Counter[Shape]) -> float:
    """Shared elements over the larger block's elements; high where both hold as many, fused or stacked."""
    shared = sum(prod(s) * k for s, k in (a & b).items())
    one, other = sum(prod(s) * k for s, k in a.items()), sum(prod(s) * k for s, k in b.items())
    if not one or not other:
        return float(bool(a) == bool(b))
    return max(shared / max(one, other), AS_MANY if one == other else 0.0)


def ranked(source: Group, target: Group) -> dict[Index, Index]:
    """Instances paired by rank."""
    return dict(zip(target.indices, source.indices, strict=True))


def through(blocks: dict[Index, Index], source: Group, target: Group) -> dict[Index, Index]:
    """Instances paired through a map of the outer indices, where the shapes agree.

    Args:
        blocks: the target's outer indices to the source's.
        source, target: the groups; what follows the outer indices is paired by value, else by rank.
    """
    if not blocks:
        return {}
    theirs_first, mine_first = next(iter(blocks.items()))
    mine, theirs = _inner(source, len(mine_first)), _inner(target, len(theirs_first))
    pairs: dict[Index, Index] = {}
    for outer, wanted in theirs.items():
        have = mine.get(blocks[outer], []) if outer in blocks else []
        if set(wanted) <= set(have):
            inside = list(zip(wanted, wanted, strict=True))
        elif len(wanted) == len(have):
            inside = list(zip(wanted, have, strict=True))
        else:
            continue
        for t, s in inside:
            index, other = (*outer, *t), (*blocks[outer], *s)
            if fit(source, other, target, index):
                pairs[index] = other
    return pairs


def fit(source: Group, mine: Index, target: Group, theirs: Index) -> bool:
    """Whether the telling leaf of two instances has one shape."""
    one = source.instances[mine].get(source.leaf)
    other = target.instances[theirs].get(target.leaf)
    return one is not None and other is not None and one[1] == other[1]


def _inner(group: Group, depth: int) -> dict[Index, list[Index]]:
    """The outer indices to the rest of the indices."""
    found: dict[Index, list[Index]] = {}
    for index in group.indices:
        found.setdefault(index[:depth], []).append(index[depth:])
    return found


def subsequence(source: Group, target: Group) -> dict[Index, Index]:
    """Instances paired where the target's shapes are a run of the source's, in one place only."""
    mine, theirs = source.shapes, target.shapes
    if len(theirs) >= len(mine) or None in theirs:
        return {}
    runs = [
        d
        for d in range(len(mine) - len(theirs) + 1)
        if mine[d] == theirs[0] and mine[d : d + len(theirs)] == theirs
    ]
    if len(runs) != 1:
        return {}
    return dict(zip(target.indices, source.indices[runs[0] :], strict=False))
