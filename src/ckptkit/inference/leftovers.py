"""What whole modules leave open: single leaves that lie elsewhere, copies, parts that only sizes put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise, permutations

from .align import Alignment, Containers, outermost
from .blocks import Blocks
from .candidates import Candidate, candidates, flat
from .context import Context
from .groups import Group, Index, written
from .lexicon import KINDS
from .links import Links
from .match import Match, Matcher, note_places
from .similarity import Names, related
from .virtual import Fused, Part, fill, fusions, members, note_attention, parts_of, spelled_orders, wanted_shapes, with_virtual
from .words import stage

Used = set[tuple[Group, Index, str]]


def used_leaves(matches: Iterable[Match]) -> tuple[Used, Used]:
    """The (group, index, leaf) of source and target that matches use and fill."""
    used: Used = set()
    filled: Used = set()
    for match in matches:
        match.leaves(used, filled)
    return used, filled


def part_matches(
    mine: list[Group],
    theirs: list[Group],
    matches: list[Match],
    names: Names,
    context: Context,
    blocks: Blocks,
    links: Links,
) -> list[Match]:
    """Match what is open in parts, since one side may number what the other side names.

    The open instances of each group are offered together, and with the innermost, the outermost or every index written
    out as a name.
    """
    found: list[Match] = []
    places = Context()
    for match in matches:
        note_places(places, match.candidate)
    for split in (_blocks, _singles):
        used, filled = used_leaves([*matches, *found])
        sources, targets = _parts(mine, used, split), _parts(theirs, filled, split)
        sources, targets = _fitting(sources, targets), _fitting(targets, sources)
        if sources and targets:
            if split is _blocks:
                note_attention(sources)
                note_attention(targets)
                sources, targets = with_virtual(sources, targets), with_virtual(targets, sources)
            alignment = Alignment(Containers([*mine, *sources]), Containers([*theirs, *targets]))
            options = candidates(sources, targets, alignment, blocks)
            found += Matcher(options, names, context, late=True, places=places, links=links).run()
    return found


MOST_PARTS = 600
Split = Callable[[int], set[tuple[int, ...]]]


def _blocks(depth: int) -> set[tuple[int, ...]]:
    return {(), (depth - 1,), (0,)} if depth else {()}


def _singles(depth: int) -> set[tuple[int, ...]]:
    return {(), tuple(range(depth))}


def _parts(groups: list[Group], taken: Used, split: Split) -> list[Part]:
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
        p.origin for p in parts if isinstance(p, Part) and p.template == p.origin.template and flat(p.shapes) in same
    }
    return [
        p
        for p in parts
        if isinstance(p, Part)
        and (p.template == p.origin.template or (flat(p.shapes) in same and p.origin not in fits))
    ]


def leaf_matches(
    mine: list[Group], theirs: list[Group], matches: list[Match], names: Names, context: Context
) -> list[Match]:
    """Match single leaves that whole modules left over: a bias that lies beside its module."""
    used, filled = used_leaves(matches)
    together = {(s, t) for m in matches for s in members(m.candidate.source) for t in members(m.candidate.target)}
    places = {(s.template, t.template) for s, t in together}
    sources: list[Group] = list(_loose(mine, used))
    targets: list[Group] = list(_loose(theirs, filled))
    if not sources or not targets:
        return []
    for side, other, gaps in ((sources, targets, False), (targets, sources, True)):
        side += fusions(list(side), wanted_shapes(other), spelled_orders(other), gaps=gaps)
    alignment = Alignment(Containers(sources), Containers(targets))
    options = candidates(sources, targets, alignment, Blocks((), ()))
    for target, found in options.items():
        options[target] = [
            c
            for c in found
            if c.how != "reshape"
            and _leaf_of(c.source) == _leaf_of(target)
            and (
                (_origin(c.source), _origin(target)) in together
                or isinstance(c.source, Fused)
                or isinstance(target, Fused)
                or (_origin(c.source).template, _origin(target).template[:-1]) in places
                or (_origin(c.source).template[:-1], _origin(target).template) in places
                or _named_alike(_origin(c.source), _origin(target))
            )
        ]
    matcher = Matcher(options, names, context)
    return [m for m in matcher.run() if m.score >= 0.4]


def _named_alike(source: Group, target: Group) -> bool:
    """Whether the last words of two modules share a meaning."""
    if source.template == target.template:
        return True
    mine, theirs = ([c for _, found in g.tokens[-1:] for c in found if c not in KINDS] for g in (source, target))
    return any(related(a, b) >= 0.3 for a in mine for b in theirs)


def _leaf_of(group: Group) -> str | None:
    if isinstance(group, Fused):
        return _leaf_of(group.real_parts[0])
    return group.leaf_name if isinstance(group, Part) else None


def _origin(group: Group) -> Group:
    return group.origin if isinstance(group, Part) else group


def _loose(groups: Iterable[Group], taken: Used) -> Iterable[Part]:
    for group in groups:
        for leaf in sorted(group.leaves):
            free = {
                i: {"weight": leaves[leaf]}
                for i, leaves in group.instances.items()
                if leaf in leaves and (group, i, leaf) not in taken
            }
            if free:
                loose = Part((*group.template, leaf), free)
                loose.origin, loose.leaf_name, loose.places = group, leaf, {i: i for i in free}
                yield loose


def heads(theirs: list[Group], matches: list[Match]) -> list[Match]:
    """Output heads without a source of their own, which share the embedding."""
    by_target = {g: m for m in matches for g in (m.candidate.target, *members(m.candidate.target))}
    embeddings: dict[object, list[Group]] = {}
    for target, match in {m.candidate.target: m for m in matches}.items():
        if not match.candidate.virtual and _has(target, {"embed", "token", "head"}):
            embeddings.setdefault(target.shapes, []).append(target)
    found: list[Match] = []
    for group in theirs:
        twin = None if group in by_target else _embedding(group, embeddings)
        if twin is not None:
            c = by_target[twin].candidate
            copy = Candidate(c.source, group, c.how, c.pairs)
            found.append(Match(copy, 0.0, 0.0, copy_of=twin))
    return found


def _embedding(group: Group, embeddings: dict[object, list[Group]]) -> Group | None:
    """The token embedding whose shape an output head without a source has."""
    shape = group.shapes[0] or ()
    if len(group.instances) != 1 or len(shape) != 2 or shape[0] == shape[1]:
        return None
    if not _has(group, {"head", "out", "decoder", "embed", "lm"}):
        return None
    same = embeddings.get(group.shapes, [])
    return same[0] if len(same) == 1 else None


def _has(group: Group, wanted: set[str]) -> bool:
    return any(c in wanted for _, found in group.tokens for c in found)


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
                pair = (fitting[0], fused) if cut else (fused, fitting[0])
                found.append(Match(Candidate(*pair, "same"), 0.0, 0.1))
    return found


MOST_ADDED = 6


def _sums(groups: list[Group]) -> Iterable[Fused]:
    """Siblings, or all modules of a block, put together if their shapes allow it and their names order them."""
    families: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        if len(parts_of(group)) > 1:
            continue  # several in one already
        width = tuple(s[1:] if s and len(s) > 1 else None for s in group.shapes)
        if None not in width:
            block = outermost(group.template)
            for place in {group.template[:-1], block or group.template[:-1]}:
                families.setdefault((place, width, tuple(group.indices), group.leaves), []).append(group)
    for (place, *_), parts in families.items():
        if 2 <= len(parts) <= MOST_ADDED:
            ordered = _by_names(parts) or _by_stage(parts)
            if ordered is not None:
                fused = Fused((*place, "+".join(p.template[-1] for p in ordered)))  # type: ignore[misc]
                if fill(fused, list(ordered), ()):
                    yield fused


def _by_stage(parts: list[Group]) -> list[Group] | None:
    """The parts in the order of the stages that their names stand for."""
    placed = [(next((s for _, found in reversed(p.tokens) if (s := stage(found)) is not None), None), p) for p in parts]
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
