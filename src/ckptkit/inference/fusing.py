"""What tensor rules could make of the groups of one side, where the other side has such shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .groups import Group, Index, Shape, written
from .lexicon import FUSED
from .virtual import Fused, Part, Stacked, Value, expression

PARTS = {part for parts in FUSED for part in parts}


def with_virtual(groups: Sequence[Group], others: Sequence[Group]) -> list[Group]:
    """The groups of one side, and those that tensor rules could make of them if the other side has such shapes."""
    wanted = wanted_shapes(others)
    below = rows(groups, wanted)
    fused = fusions([*groups, *below], wanted, spelled_orders(others))
    stacked = stacks([*groups, *fused], wanted)
    useful = [f for f in fused if f.shapes[0] in wanted or _reversed(f.shapes[0]) in wanted]
    return [*groups, *below, *useful, *stacked]


def wanted_shapes(groups: Iterable[Group]) -> dict[Any, int]:
    """The shapes a side has, and without the first dimension, marked."""
    result: dict[Any, int] = {}
    for group in groups:
        for shape in set(group.shapes):
            if shape:
                result[shape] = 1
                if len(shape) >= 2:
                    result[("stacked", *shape[1:])] = 1
    return result


def fusions(
    groups: Iterable[Group],
    wanted: Mapping[Any, int],
    orders: Iterable[tuple[str, ...]] = (),
    *,
    gaps: bool = False,
) -> list[Fused]:
    """The fused groups whose shape, or stacked shape, the other side has.

    Args:
        groups: of one side.
        wanted: what shapes the other side has.
        orders: further orders of parts, as the other side's names spell them.
        gaps: also where one part of three or more is missing.
    """
    families: dict[tuple[Any, ...], dict[tuple[str, ...], Group]] = {}
    for group in groups:
        found = _part_of(group)
        if found is not None:
            rest, parts = found
            families.setdefault(rest, {}).setdefault(parts, group)
    result: list[Fused] = []
    for rest, having in sorted(families.items()):
        for order in dict.fromkeys((*FUSED, *sorted(orders))):
            cover = _cover(order, having, gaps=gaps)
            if cover is not None:
                fused = _fuse(cover, rest, order)
                if fused is not None and _useful(fused.shapes[0], wanted):
                    result.append(fused)
    return result


def spelled_orders(groups: Iterable[Group]) -> set[tuple[str, ...]]:
    """Orders of three or more parts that names spell: gqkv."""
    found = {
        tuple(c for c in concepts if c in PARTS) for group in groups for _, concepts in group.tokens[-2:]
    }
    return {order for order in found if 2 < len(order) == len(set(order))}


def _cover(
    order: tuple[str, ...], having: Mapping[tuple[str, ...], Group], *, gaps: bool
) -> list[Group | None] | None:
    """Groups whose parts, one after the other, are those of an order; None for one that is missing."""
    found: list[Group | None] = []
    place = 0
    while place < len(order):
        taken = next((n for n in range(len(order) - place, 0, -1) if order[place : place + n] in having), 0)
        if taken == len(order) or (not taken and not (gaps and len(order) > 2)):
            return None
        found.append(having[order[place : place + taken]] if taken else None)
        place += taken or 1
    if found.count(None) > 1 or len(found) - found.count(None) < 2:
        return None
    return found


def parts_of(group: Group) -> tuple[str, ...]:
    """The parts that the last words of a name speak of."""
    return next(
        (parts for _, found in reversed(group.tokens) if (parts := tuple(c for c in found if c in PARTS))),
        (),
    )


def _part_of(group: Group) -> tuple[tuple[Any, ...], tuple[str, ...]] | None:
    """The template without the name of the parts, and these."""
    for n in range(len(group.tokens) - 1, max(-1, len(group.tokens) - 4), -1):
        token, found = group.tokens[n]
        parts = tuple(c for c in found if c in PARTS)
        if parts:
            where = max((i for i, t in enumerate(group.template) if t == token), default=-1)
            if where < 0:
                return None
            rest = tuple(c for c in found if c not in parts)
            return (group.template[:where], rest, group.template[where + 1 :]), parts
    return None


def _useful(shape: Shape | None, wanted: Mapping[Shape, int]) -> bool:
    if shape is None:
        return False
    return any(s in wanted or (s[-2:][::-1] and (*s[:-2], *s[-2:][::-1]) in wanted) for s in (shape,)) or (
        ("stacked", *shape) in wanted or ("stacked", *shape[:-2], *shape[-2:][::-1]) in wanted
    )


def _fuse(parts: list[Group | None], rest: tuple[Any, ...], order: tuple[str, ...]) -> Fused | None:
    before, residue, after = rest
    real = [p for p in parts if p is not None]
    fused = Fused((*before, "+".join(p.template[len(before)] for p in real), *after))
    if not fill(fused, parts, order):
        return None
    depth = sum(1 for t in before if t != "{}")
    tokens = real[0].tokens
    fused.__dict__["tokens"] = (*tokens[:depth], ("", (*order, *residue)), *tokens[depth + 1 :])
    return fused


def fill(fused: Fused, parts: list[Group | None], order: tuple[str, ...], *, turned: bool = False) -> bool:
    """Give a fused group its instances: those that all parts have, leaf by leaf; False if there are none."""
    fused.parts, fused.order, fused.turned = tuple(parts), order, turned
    real = fused.real_parts
    for index in real[0].indices:
        if not all(index in p.instances for p in real):
            continue
        made: dict[str, Value] = {}
        for leaf in real[0].instances[index]:
            if all(leaf in p.instances[index] for p in real):
                shapes = [p.instances[index][leaf][1] for p in real]
                if turned:
                    shapes = [(*s[:-2], s[-1], s[-2]) if len(s) > 1 else () for s in shapes]
                uneven = None in parts and len(set(shapes)) > 1
                if all(s and s[1:] == shapes[0][1:] for s in shapes) and not uneven:
                    of = [_turned(expression(key), size, turned) for key, size in _pieces(fused, index, leaf)]
                    rows = sum(s[0] for s in shapes) + shapes[0][0] * parts.count(None)
                    made[leaf] = ({"op": "concat", "dim": 0, "of": of}, (rows, *shapes[0][1:]))
        if made:
            fused.instances[index] = made
    return bool(fused.instances)


def _pieces(fused: Fused, index: Index, leaf: str) -> list[tuple[Any, int]]:
    return [
        (key, len(fused.real_parts[0].instances[index][leaf][1]))
        for key, _ in fused.pieces(index, leaf)
        if key is not None
    ]


def _turned(expr: dict[str, Any], rank: int, turned: bool) -> dict[str, Any]:
    return {"op": "transpose", "dims": [rank - 2, rank - 1], "of": [expr]} if turned else expr


def rows(groups: Iterable[Group], wanted: Mapping[Any, int]) -> list[Fused]:
    """The instances of the deepest index put below one another, where the other side has such a shape."""
    result: list[Fused] = []
    for group in groups:
        if not group.depth or not group.shapes[0] or isinstance(group, (Fused, Stacked, Part)):
            continue
        last = sorted({index[-1] for index in group.indices})
        shape = group.shapes[0]
        for turned in (False, True):
            if turned and (len(shape) < 2 or shape[-1] == shape[-2]):
                continue
            one = (*shape[:-2], shape[-1], shape[-2]) if turned else shape
            whole = (one[0] * len(last), *one[1:])
            if len(last) > 1 and last == list(range(len(last))) and whole in wanted:
                where = max(n for n, t in enumerate(group.template) if "{}" in t)
                token = group.template[where].replace("{}", "").strip("_")
                fused = Fused(
                    (*group.template[:where], *((token,) if token else ()), *group.template[where + 1 :])
                )
                if fill(fused, [fixed(group, n, group.depth - 1) for n in last], (), turned=turned):
                    fused.__dict__["tokens"] = group.tokens
                    result.append(fused)
    return result


def fixed(group: Group, value: int, place: int) -> Part:
    """The instances of a group of which one index has one value; the value is written into the template.

    Args:
        group: a real group.
        value: of the index.
        place: which index, counted from 0.
    """
    part = Part(written(group.template, (*[0] * place, value), (place,)))
    part.origin = group
    part.places = {(*i[:place], *i[place + 1 :]): i for i in group.indices if i[place] == value}
    part.instances = {short: group.instances[i] for short, i in part.places.items()}
    return part


def stacks(groups: Iterable[Group], wanted: Mapping[Shape, int]) -> list[Stacked]:
    """The stacked groups whose shape the other side has, over any of their indices."""
    result: list[Stacked] = []
    for group in groups:
        shape = group.shapes[0]
        if not group.depth or not shape:
            continue
        for place in range(group.depth - 1, -1, -1):
            size = len({index[place] for index in group.indices})
            whole = (size, *shape)
            if size > 1 and (whole in wanted or (*whole[:-2], *whole[-2:][::-1]) in wanted):
                stacked = _stacked(group, place)
                if stacked.instances:
                    result.append(stacked)
    return result


def _stacked(group: Group, place: int) -> Stacked:
    """A group whose instances along one index are stacked, where that index runs from 0 without a gap."""
    where = [n for n, t in enumerate(group.template) if "{}" in t][place]
    token = group.template[where].replace("{}", "").strip("_")
    stacked = Stacked((*group.template[:where], *((token,) if token else ()), *group.template[where + 1 :]))
    stacked.inner = group
    stacked.places = {}
    for index in group.indices:
        stacked.places.setdefault((*index[:place], *index[place + 1 :]), []).append(index)
    for outer, indices in stacked.places.items():
        if [i[place] for i in indices] != list(range(len(indices))) or len(indices) < 2:
            continue
        made: dict[str, Value] = {}
        for leaf, (_, shape) in group.instances[indices[0]].items():
            if all(group.instances[i].get(leaf, ("", None))[1] == shape for i in indices):
                of = [expression(group.instances[i][leaf][0]) for i in indices]
                made[leaf] = ({"op": "stack", "dim": 0, "of": of}, (len(of), *shape))
        if made:
            stacked.instances[outer] = made
    stacked.__dict__["tokens"] = group.tokens
    return stacked


def _reversed(shape: Shape | None) -> Any:
    return (*shape[:-2], *shape[-2:][::-1]) if shape else None
