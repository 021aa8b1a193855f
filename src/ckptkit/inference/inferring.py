"""``ckptkit.infer``: from two signatures to rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .align import Alignment, Containers, outermost
from .candidates import candidates
from .groups import Group, Shape, grouped
from .leftovers import copies, leaf_matches, size_joins
from .match import Match, Matcher
from .similarity import Names
from .virtual import Fused, Stacked, fusions, note_gates, stacks, wanted_shapes


def matched(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> list[Match]:
    """Which modules of the source fill which of the target.

    Args:
        source: key to shape.
        target: key to shape.

    Returns:
        The matches; none uses what another uses, but for copies.
    """
    mine, theirs = grouped(source), grouped(target)
    if not mine or not theirs:
        return []
    note_gates(mine)
    note_gates(theirs)
    all_mine = _with_virtual(mine, wanted_shapes(theirs))
    all_theirs = _with_virtual(theirs, wanted_shapes(mine))
    names = Names(mine, theirs)
    options = candidates(all_mine, all_theirs, Alignment(Containers(mine), Containers(theirs)))
    matcher = Matcher(options, names)
    matches = list(matcher.run())
    matches += leaf_matches(mine, theirs, matches, names, matcher.context)
    matches += size_joins(mine, theirs, matches)
    _turn_squares(matches)
    matches += copies(theirs, matches)
    return matches


def _with_virtual(groups: list[Group], wanted: Mapping[Any, int]) -> list[Group]:
    fused = fusions(groups, wanted)
    stacked = stacks([*groups, *fused], wanted)
    useful = [f for f in fused if f.shapes[0] in wanted or _reversed(f.shapes[0]) in wanted]
    return [*groups, *useful, *stacked]


def _reversed(shape: Shape | None) -> Any:
    return (*shape[:-2], *shape[-2:][::-1]) if shape else None


def _turn_squares(matches: Iterable[Match]) -> None:
    """A square matrix beside transposed ones is transposed too; beside both kinds its shape is silent."""
    beside: dict[object, set[bool]] = {}
    squares: list[tuple[object, Match]] = []
    for match in matches:
        c = match.candidate
        shape = c.target.shapes[0] or ()
        if len(shape) < 2 or len(shape) > 3 or isinstance(c.target, (Fused, Stacked)) or c.how == "reshape":
            continue
        place = outermost(c.target.template)
        if shape[-1] == shape[-2]:
            squares.append((place, match))
        else:
            beside.setdefault(place, set()).add(c.how == "transpose")
    for place, match in squares:
        kinds = beside.get(place, set())
        if kinds == {True}:
            match.turn = True
        elif True in kinds:
            match.silent = True
