"""What whole groups leave open, in parts: one side may number what the other side names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .align import Alignment, Containers
from .blocks import Blocks
from .calling import note_attention
from .candidates import candidates, flat
from .context import Context
from .evidence import Evidence, note_places
from .fusing import with_virtual
from .groups import Group, written
from .match import Leaves, Match, used_leaves
from .matcher import Matcher
from .virtual import Part

MOST_PARTS = 600
Split = Callable[[int], set[tuple[int, ...]]]


def part_matches(
    mine: list[Group], theirs: list[Group], matches: list[Match], evidence: Evidence, blocks: Blocks
) -> list[Match]:
    """Match what is open, in parts.

    The open instances of each group are offered together, and with the innermost, the outermost or every index written
    out as a name.

    Args:
        mine, theirs: the groups of both sides.
        matches: those of whole groups.
        evidence: that these have taught.
        blocks: places of both sides that hold the same.
    """
    found: list[Match] = []
    places = Context()
    for match in matches:
        note_places(places, match.candidate)
    close = evidence.beside(places)
    for split in (_blocks, _singles):
        if evidence.work.over:
            break
        used, filled = used_leaves([*matches, *found])
        sources, targets = _parts(mine, used, split), _parts(theirs, filled, split)
        open_here, open_there = _fitting(sources, targets), _fitting(targets, sources)
        if open_here and open_there:
            if split is _blocks:
                note_attention(open_here)
                note_attention(open_there)
                open_here, open_there = (
                    with_virtual(open_here, open_there),
                    with_virtual(open_there, open_here),
                )
            alignment = Alignment(Containers([*mine, *open_here]), Containers([*theirs, *open_there]))
            found += Matcher(candidates(open_here, open_there, alignment, blocks), close, late=True).run()
    return found


def _blocks(depth: int) -> set[tuple[int, ...]]:
    return {(), (depth - 1,), (0,)} if depth else {()}


def _singles(depth: int) -> set[tuple[int, ...]]:
    return {(), tuple(range(depth))}


def _parts(groups: list[Group], taken: Leaves, split: Split) -> list[Part]:
    """Open modules, as they are and with indices written into their templates."""
    parts: dict[tuple[Group, tuple[str, ...]], Part] = {}
    for group in groups:
        free = [i for i in group.indices if not any((group, i, leaf) in taken for leaf in group.instances[i])]
        for literal in sorted(split(group.depth)):
            if literal and len(parts) + len(free) > MOST_PARTS:
                continue
            for index in free:
                template = written(group.template, index, literal)
                part = parts.get((group, template))
                if part is None:
                    part = parts[group, template] = Part(template)
                    part.origin, part.places = group, {}
                rest = tuple(n for place, n in enumerate(index) if place not in literal)
                part.instances[rest] = group.instances[index]
                part.places[rest] = index
    return list(parts.values())


def _fitting(parts: Iterable[Group], others: Iterable[Group]) -> list[Group]:
    """Open groups, and parts with the shapes of another side's; none of groups that fit as they are."""
    same = {flat(g.shapes) for g in others}
    fits = {
        p.origin
        for p in parts
        if isinstance(p, Part) and p.template == p.origin.template and flat(p.shapes) in same
    }
    return [
        p
        for p in parts
        if isinstance(p, Part)
        and (p.template == p.origin.template or (flat(p.shapes) in same and p.origin not in fits))
    ]
