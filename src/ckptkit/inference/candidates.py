"""Which source groups could fill a target group, judged by shapes alone."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from .align import Alignment, fit, outermost, ranked, subsequence
from .blocks import Blocks
from .candidate import Candidate, How
from .groups import Group, Index, Shape, unlike
from .rare import Rare
from .spelling import ordered_as
from .virtual import Fused, Stacked


def candidates(
    source: Iterable[Group],
    target: Iterable[Group],
    alignment: Alignment,
    blocks: Blocks,
    *,
    any_order: bool = False,
) -> dict[Group, list[Candidate]]:
    """Every pair of groups that shapes allow.

    Args:
        source: groups of the source, virtual ones included.
        target: groups of the target, virtual ones included.
        alignment: of the repeated blocks.
        blocks: places of both sides that hold the same.
        any_order: consider fused parts in every order, since something else will decide.

    Returns:
        Target group to its candidates.
    """
    wanted = list(target)
    makers = _Makers(list(source), len(wanted), alignment, blocks)
    result: dict[Group, list[Candidate]] = {}
    for group in wanted:
        found = makers.all_for(group)
        result[group] = [
            c
            for c in found.values()
            if not (isinstance(c.source, (Fused, Stacked)) and isinstance(c.target, (Fused, Stacked)))
            and (any_order or (ordered_as(c.source, c.target) and ordered_as(c.target, c.source)))
        ]
    return result


class _Makers:
    """Finds the source groups for a target group by their shapes.

    Args:
        source: groups of the source.
        targets: how many groups are to be filled.
        alignment, blocks: as of `candidates`.
    """

    def __init__(self, source: list[Group], targets: int, alignment: Alignment, blocks: Blocks) -> None:
        self._alignment, self._blocks = alignment, blocks
        self._exact: dict[object, list[Group]] = {}
        self._flat: dict[object, list[Group]] = {}
        self._single: dict[Shape, list[Group]] = {}
        self._others: dict[object, list[Group]] = {}
        self._named = {group.template: group for group in source}
        for group in source:
            self._exact.setdefault(group.shapes, []).append(group)
            self._flat.setdefault(flat(group.shapes), []).append(group)
            for shape in set(group.shapes):
                if shape is not None:
                    self._single.setdefault(shape, []).append(group)
        self._rare = Rare(source, targets)

    def all_for(self, group: Group) -> dict[Group, Candidate]:
        """Source group to candidate."""
        found: dict[Group, Candidate] = {}
        own = self._own(group)
        if own is not None:
            found[own.source] = own
        turned = _turned(group.shapes)
        kinds: list[tuple[How, list[Group]]] = [
            ("same", self._exact.get(group.shapes, [])),
            ("transpose", self._exact.get(turned, []) if turned is not None else []),
            ("reshape", self._reshaped(group)),
        ]
        for how, groups in kinds:
            for other in self._rare.first(groups, group):
                if other not in found and not _other_leaf(other, group):
                    candidate = self._whole(other, group, how)
                    if candidate is not None:
                        found[other] = candidate
        for other in self._sharing(group):
            if other not in found and (
                other.leaf == group.leaf
                or (len(other.leaves) == len(group.leaves) == 1 and not _other_leaf(other, group))
            ):
                candidate = self._partial(other, group)
                if candidate is not None:
                    found[other] = candidate
        for candidate in found.values():
            candidate.leaves = self._alignment.repeated(
                candidate.source, source=True
            ) != self._alignment.repeated(group, source=False)
        return found

    def _own(self, group: Group) -> Candidate | None:
        """The group of the same name, number by number, where most of the numbers are on both sides."""
        other = self._named.get(group.template)
        if other is None or isinstance(other, (Fused, Stacked)) or isinstance(group, (Fused, Stacked)):
            return None
        if _other_leaf(other, group):
            return None
        pairs = {i: i for i in group.indices if i in other.instances and fit(other, i, group, i)}
        if 2 * len(pairs) < min(len(group.instances), len(other.instances)) or _shifted(other, group):
            return None
        if len(pairs) == len(group.instances) == len(other.instances):
            return Candidate(other, group, "same")
        return Candidate(other, group, "partial", pairs, len(pairs) / len(group.instances))

    def _reshaped(self, group: Group) -> list[Group]:
        """Groups of other shapes that a reshape makes these."""
        found = self._others.get(group.shapes)
        if found is None:
            found = [g for g in self._flat.get(flat(group.shapes), []) if g.shapes != group.shapes]
            self._others[group.shapes] = found
        return found

    def _whole(self, other: Group, group: Group, how: How) -> Candidate | None:
        """All instances of both, in order, as far as the blocks around them allow it."""
        by_rank = pairs = ranked(other, group)
        if how == "same" and _backwards(other, group, self._alignment):
            pairs, _ = self._alignment.pairs(other, group)
            if len(pairs) < len(by_rank):
                return None
        pairs = self._inside(other, group, pairs, exact=how == "same")
        if not pairs or (how != "same" and pairs != by_rank):
            return None
        if len(pairs) < len(by_rank):
            return Candidate(other, group, "partial", pairs, len(pairs) / len(by_rank))
        return Candidate(other, group, how, None if pairs == by_rank else pairs)

    def _sharing(self, group: Group) -> Iterable[Group]:
        """Groups that share a shape."""
        shapes = list(dict.fromkeys(s for s in group.shapes if s is not None))[:4]
        return {id(g): g for s in shapes for g in self._rare.first(self._single.get(s, []), group)}.values()

    def _partial(self, other: Group, group: Group) -> Candidate | None:
        """Some instances, through the blocks around them or as a run of shapes."""
        pairs, places = self._alignment.pairs(other, group)
        pairs = self._inside(other, group, pairs)
        spread = places in self._alignment.spread
        if not pairs and not self._blocks and len(other.instances) <= 512:
            pairs, spread = subsequence(other, group), False
        if not pairs:
            return None
        candidate = Candidate(other, group, "partial", pairs, len(pairs) / len(group.instances))
        candidate.spread = spread
        return candidate

    def _inside(
        self, source: Group, target: Group, known: dict[Index, Index], *, exact: bool = True
    ) -> dict[Index, Index]:
        """The pairs that blocks of the same content leave."""
        if not self._blocks or isinstance(source, (Fused, Stacked)) or isinstance(target, (Fused, Stacked)):
            return known
        return self._blocks.pairs(source, target, known, exact=exact)


def _other_leaf(source: Group, target: Group) -> bool:
    """Whether both hold one leaf only, and these are known to be different things."""
    if len(source.leaves) > 1 or len(target.leaves) > 1:
        return False
    (mine,), (theirs,) = (
        source.instances[source.indices[0]].values(),
        target.instances[target.indices[0]].values(),
    )
    return unlike(mine[0], theirs[0])


def _shifted(source: Group, target: Group) -> bool:
    """Whether as many blocks are counted without a gap on both sides, from another number on."""
    if len(source.instances) != len(target.instances) or source.depth != target.depth:
        return False
    for place in range(target.depth):
        mine, theirs = ({index[place] for index in side.indices} for side in (source, target))
        if mine != theirs and len(mine) == len(theirs) and _run(mine) and _run(theirs):
            return True
    return False


def _run(numbers: set[int]) -> bool:
    return max(numbers) - min(numbers) == len(numbers) - 1


def _backwards(source: Group, target: Group, alignment: Alignment) -> bool:
    mine, theirs = outermost(source.template), outermost(target.template)
    if mine is None or theirs is None or not alignment.knows(mine, theirs):
        return False
    alignment.blocks(mine, theirs)
    return (mine, theirs) in alignment.reversed


def _turned(shapes: tuple[Shape | None, ...]) -> tuple[Shape | None, ...] | None:
    """The last two dims swapped; None where that changes nothing or is none."""
    if any(s is None or len(s) not in (2, 3) for s in shapes):
        return None
    turned = tuple((*s[:-2], s[-1], s[-2]) for s in shapes if s is not None)
    return turned if turned != shapes else None


def flat(shapes: tuple[Shape | None, ...]) -> object:
    """Shapes up to dims of size 1 and to flattened trailing dims; a bare vector stays one."""
    result = []
    for shape in shapes:
        if shape is None:
            return object()
        core = tuple(d for d in shape if d != 1)
        result.append((core[0], prod(core[1:])) if len(core) > 2 else core)
    return tuple(result)


def real(groups: Iterable[Group]) -> set[Group]:
    """The real groups under these."""
    return {m for g in groups for m in g.members}
