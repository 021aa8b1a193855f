"""Open modules of one block whose rows add up to an open one of the other side."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, permutations

from .align import outermost
from .candidate import Candidate
from .fusing import fill, parts_of
from .groups import Group
from .match import Match, used_leaves
from .virtual import Fused
from .words import stage

MOST_ADDED = 6
SCORE = 0.1  # the sum of sizes alone speaks for it


def size_joins(mine: list[Group], theirs: list[Group], matches: list[Match]) -> list[Match]:
    """Open modules of one block whose rows add up to an open one of the other side, in an order that names give."""
    used, filled = used_leaves(matches)
    spare = [g for g in mine if not any((g, i, g.leaf) in used for i in g.instances)]
    need = [g for g in theirs if not any((g, i, g.leaf) in filled for i in g.instances)]
    found: list[Match] = []
    for parts, wholes, cut in ((spare, need, False), (need, spare, True)):
        for fused in _sums(parts):
            fitting = [w for w in wholes if w.shapes == fused.shapes]
            if len(fitting) == 1:
                one, other = (fitting[0], fused) if cut else (fused, fitting[0])
                found.append(Match(Candidate(one, other, "same"), 0.0, SCORE))
    return found


def _sums(groups: list[Group]) -> Iterable[Fused]:
    """Siblings, or all modules of a block, put together if their shapes allow it and their names order them."""
    families: dict[tuple[tuple[str, ...], object], list[Group]] = {}
    for group in groups:
        if len(parts_of(group)) > 1:
            continue  # several in one already
        width = tuple(s[1:] if s and len(s) > 1 else None for s in group.shapes)
        if None not in width:
            block = outermost(group.template)
            for place in {group.template[:-1], block or group.template[:-1]}:
                families.setdefault((place, (width, tuple(group.indices), group.leaves)), []).append(group)
    for (place, _), parts in families.items():
        if 2 <= len(parts) <= MOST_ADDED:
            ordered = _by_names(parts) or _by_stage(parts)
            if ordered is not None:
                fused = Fused((*place, "+".join(p.template[-1] for p in ordered)))
                if fill(fused, list(ordered), ()):
                    yield fused


def _by_stage(parts: list[Group]) -> list[Group] | None:
    """The parts in the order of the stages that their names stand for."""
    placed = [
        (next((s for _, found in reversed(p.tokens) if (s := stage(found)) is not None), None), p)
        for p in parts
    ]
    stages = [s for s, _ in placed]
    if None in stages or len(set(stages)) < len(stages):
        return None
    return [p for _, p in sorted(placed, key=lambda x: x[0] or 0)]


def _by_names(parts: list[Group]) -> list[Group] | None:
    """An order that names give: by number, or the one whose words all others extend first."""
    words = [list(p.tokens[-1][1]) for p in parts]
    if all(w == words[0] for w in words) and len({p.numbers for p in parts}) == len(parts):
        return sorted(parts, key=lambda p: p.numbers)
    for order in permutations(range(len(parts))):
        if all(set(words[a]) < set(words[b]) for a, b in pairwise(order)):
            return [parts[n] for n in order]
    return None
