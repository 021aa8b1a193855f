"""``ckptkit.infer``: from two signatures to rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .align import Alignment, Containers, ranked
from .candidates import Candidate, candidates
from .groups import Group, Index, Shape, grouped
from .leftovers import copies, leaf_matches, size_joins
from .match import Match, Matcher
from .similarity import Names
from .virtual import Fused, Stacked, expression, fusions, note_gates, stacks, wanted_shapes

Expr = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """Where one target key comes from."""

    expr: Expr
    confidence: str
    why: str


def matched(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> dict[str, Answer]:
    """Target key to its answer, by names and shapes."""
    mine, theirs = grouped(source), grouped(target)
    note_gates(mine)
    note_gates(theirs)
    wanted, offered = wanted_shapes(theirs), wanted_shapes(mine)
    all_mine = _with_virtual(mine, wanted)
    all_theirs = _with_virtual(theirs, offered)
    names = Names(mine, theirs)
    options = candidates(all_mine, all_theirs, Alignment(Containers(mine), Containers(theirs)))
    matcher = Matcher(options, names)
    matches = matcher.run()
    matches = [*matches, *leaf_matches(mine, theirs, matches, names, matcher.context)]
    matches = [*matches, *size_joins(mine, theirs, matches)]
    matches = [*matches, *copies(theirs, matches)]
    answers: dict[str, Answer] = {}
    for match in matches:
        _answer(match, answers)
    return answers


def _with_virtual(groups: list[Group], wanted: Mapping[Any, int]) -> list[Group]:
    fused = fusions(groups, wanted)
    stacked = stacks([*groups, *fused], wanted)
    useful = [f for f in fused if f.shapes[0] in wanted or _reversed(f.shapes[0]) in wanted]
    return [*groups, *useful, *stacked]


def _reversed(shape: Shape | None) -> Any:
    return (*shape[:-2], *shape[-2:][::-1]) if shape else None


def _answer(match: Match, answers: dict[str, Answer]) -> None:
    c = match.candidate
    pairs = c.pairs if c.pairs is not None else ranked(c.source, c.target)
    confidence = "likely"
    for theirs, mine in pairs.items():
        leaves = c.source.instances[mine]
        for leaf, (key, shape) in c.target.instances[theirs].items():
            if leaf not in leaves:
                continue
            made, have = leaves[leaf]
            expr = _shaped(expression(made), have, shape, c)
            if expr is None:
                continue
            for k, e in _unfold(c.target, theirs, leaf, key, expr):
                answers[k] = Answer(e, confidence, f"score {match.score:.2f} margin {match.margin:.2f}")


def _shaped(expr: Expr, have: Shape, want: Shape, c: Candidate) -> Expr | None:
    if c.how == "transpose" and len(have) >= 2 and have[:-2] + have[-2:][::-1] == want:
        n = len(have)
        return {"op": "transpose", "dims": [n - 2, n - 1], "of": [expr]}
    if have == want:
        return expr
    if c.how == "reshape":
        return {"op": "reshape", "shape": list(want), "of": [expr]}
    return None


def _unfold(group: Group, index: Index, leaf: str, key: Any, expr: Expr) -> list[tuple[str, Expr]]:
    """The real target keys under a fused or stacked target."""
    if isinstance(group, Fused):
        start = 0
        result = []
        for part in group.parts:
            name, shape = part.instances[index][leaf]
            piece = {"op": "slice", "dim": 0, "start": start, "stop": start + shape[0], "of": [expr]}
            start += shape[0]
            result.extend(_unfold(part, index, leaf, name, piece))
        return result
    if isinstance(group, Stacked):
        result = []
        inner = group.inner
        found = [i for i in inner.indices if i[:-1] == index]
        for n, i in enumerate(found):
            piece = {"op": "select", "dim": 0, "index": n, "of": [expr]}
            result.extend(_unfold(inner, i, leaf, inner.instances[i][leaf][0], piece))
        return result
    return [(str(key), expr)]
