"""From the shapes of both sides to matches: the steps in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .align import Alignment, Containers, outermost
from .blocks import Blocks
from .calling import note_attention, note_gates
from .candidates import candidates
from .context import Context
from .evidence import Evidence
from .fusing import with_virtual
from .grouping import grouped
from .groups import Shape
from .heads import heads
from .leaves import leaf_matches
from .links import Links
from .match import Match
from .matcher import Matcher
from .parts import part_matches
from .positions import note_halves, note_positions, note_stages, note_tokens
from .repeats import Copy, repeats
from .similarity import Names
from .sums import size_joins
from .virtual import Fused, Stacked

if TYPE_CHECKING:
    from .contents import Contents


def matched(
    source: Mapping[str, Shape], target: Mapping[str, Shape], contents: Contents | None = None
) -> tuple[list[Match], list[Copy]]:
    """Which modules of the source fill which of the target.

    Args:
        source: key to shape.
        target: key to shape.
        contents: the data of both, where it may decide.

    Returns:
        The matches, and the modules of the target that repeat others.
    """
    mine, theirs = grouped(source), grouped(target)
    if not mine or not theirs:
        return [], []
    for side in (mine, theirs):
        note_gates(side)
        note_attention(side)
    theirs, repeated = repeats(mine, theirs)
    all_mine = with_virtual(mine, theirs)
    all_theirs = with_virtual(theirs, mine)
    alignment = Alignment(Containers(mine), Containers(theirs))
    blocks = Blocks(mine, theirs)
    options = candidates(all_mine, all_theirs, alignment, blocks, any_order=contents is not None)
    evidence = Evidence(Names(mine, theirs), Context(), Links(mine, theirs), contents)
    matches = Matcher(options, evidence).run()
    matches += part_matches(mine, theirs, matches, evidence, blocks)
    matches += leaf_matches(mine, theirs, matches, evidence)
    matches += size_joins(mine, theirs, matches)
    _turn_squares(matches, contents)
    note_positions(mine, theirs, matches)
    note_stages(mine, theirs, matches)
    note_halves(mine, theirs, matches)
    note_tokens(mine, theirs, matches)
    matches += heads(theirs, matches)
    return matches, repeated


def _turn_squares(matches: Iterable[Match], contents: Contents | None) -> None:
    """A square matrix beside transposed ones is transposed too; beside both kinds its shape is silent."""
    beside: dict[object, set[bool]] = {}
    squares: list[tuple[object, Match]] = []
    for match in matches:
        c = match.candidate
        shape = c.target.shapes[0] or ()
        if len(shape) < 2 or len(shape) > 3 or isinstance(c.target, (Fused, Stacked)) or c.how == "reshape":
            continue
        place: object = outermost(c.target.template)
        if shape[-1] == shape[-2]:
            squares.append((place, match))
        else:
            beside.setdefault(place, set()).add(c.how == "transpose")
    for where, match in squares:
        kinds = beside.get(where, set())
        if contents is not None:
            c = match.candidate
            match.turn = contents.agreement(c, turned=True) > contents.agreement(c)
        elif kinds == {True}:
            match.turn = True
        elif True in kinds:
            match.silent = True
