"""One pairing for a whole set of groups, where no pair of them is decided by itself."""

from __future__ import annotations

from collections.abc import Iterable

from .candidate import Candidate
from .groups import Group
from .virtual import Fused, Stacked

MOST = 12


def components(candidates: Iterable[Candidate], near: float) -> list[list[Candidate]]:
    """Candidates in sets that share no group, without those that lie far below the best of either side.

    Args:
        candidates: scored.
        near: how far below the best one of its source or its target a candidate may score.

    Returns:
        Sets of at most `MOST` sources and targets each; none with groups that a tensor rule would make.
    """
    every = [c for c in candidates if c.score > 0.0]
    top: dict[Group, float] = {}
    for c in every:
        top[c.source] = max(top.get(c.source, 0.0), c.score)
        top[c.target] = max(top.get(c.target, 0.0), c.score)
    parent: dict[Group, Group] = {}

    def root(group: Group) -> Group:
        while parent.setdefault(group, group) is not group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    kept = [c for c in every if c.score >= max(top[c.source], top[c.target]) - near]
    for c in kept:
        parent[root(c.source)] = root(c.target)
    found: dict[Group, list[Candidate]] = {}
    for c in kept:
        found.setdefault(root(c.source), []).append(c)
    return [block for block in found.values() if _plain(block)]


def _plain(block: list[Candidate]) -> bool:
    sources, targets = {c.source for c in block}, {c.target for c in block}
    return (
        2 <= len(sources) <= MOST
        and 2 <= len(targets) <= MOST
        and not any(isinstance(g, (Fused, Stacked)) for g in sources | targets)
    )


def assignment(block: list[Candidate]) -> list[tuple[Candidate, float]]:
    """The pairing of highest total score, with each pair's regret: what the best pairing without it loses.

    Args:
        block: candidates of one component.

    Returns:
        (candidate, regret).
    """
    total, chosen = _best(block)
    result = []
    for c in chosen:
        other, _ = _best([o for o in block if o is not c])
        result.append((c, total - other))
    return result


def _best(block: list[Candidate]) -> tuple[float, list[Candidate]]:
    """The maximum-weight matching, by the Hungarian method (J. Munkres, 1957) with potentials."""
    sources = sorted({c.source for c in block}, key=lambda g: g.template)
    targets = sorted({c.target for c in block}, key=lambda g: g.template)
    size = max(len(sources), len(targets))
    place_s = {g: n for n, g in enumerate(sources)}
    place_t = {g: n for n, g in enumerate(targets)}
    weight = [[0.0] * size for _ in range(size)]
    at: dict[tuple[int, int], Candidate] = {}
    for c in block:
        where = place_s[c.source], place_t[c.target]
        if c.score > weight[where[0]][where[1]]:
            weight[where[0]][where[1]] = c.score
            at[where] = c
    columns = _hungarian([[-w for w in row] for row in weight])
    chosen = [at[s, t] for s, t in enumerate(columns) if (s, t) in at]
    return sum(c.score for c in chosen), chosen


def _hungarian(cost: list[list[float]]) -> list[int]:
    """The column of each row in the assignment of least cost."""
    n = len(cost)
    u, v = [0.0] * (n + 1), [0.0] * (n + 1)
    row_of, way = [0] * (n + 1), [0] * (n + 1)
    for i in range(1, n + 1):
        row_of[0] = i
        j = 0
        least = [float("inf")] * (n + 1)
        used = [False] * (n + 1)
        while row_of[j]:
            used[j] = True
            i0, delta, j1 = row_of[j], float("inf"), 0
            for k in range(1, n + 1):
                if not used[k]:
                    now = cost[i0 - 1][k - 1] - u[i0] - v[k]
                    if now < least[k]:
                        least[k], way[k] = now, j
                    if least[k] < delta:
                        delta, j1 = least[k], k
            for k in range(n + 1):
                if used[k]:
                    u[row_of[k]] += delta
                    v[k] -= delta
                else:
                    least[k] -= delta
            j = j1
        while j:
            row_of[j] = row_of[way[j]]
            j = way[j]
    columns = [0] * n
    for k in range(1, n + 1):
        columns[row_of[k] - 1] = k - 1
    return columns
