"""What the matches ask for, step by step: keys that move, and the tensor rules before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .groups import Group, Index, Shape, leaf_pairs
from .match import Match
from .repeats import Copy
from .virtual import Fused, Stacked, expression
from .words import hidden, shown

Expr = dict[str, Any]
Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A source key that becomes a target key: both as templates with their indices."""

    source: Tokens
    target: Tokens
    mine: Index
    theirs: Index
    key: str
    into: str


@dataclass(slots=True)
class Steps:
    """Everything the rules must do, in terms of source keys and target keys.

    Args:
        moves: keys that are renamed.
        turned: target key or source key to the dims to swap; `before` those of sources that are cut up or joined.
        joins: (source keys, target key).
        stacks, unstacks, splits: likewise.
        spare: names for what a split makes and the target does not have.
        copies: (target key to copy, target key).
    """

    moves: list[Move] = field(default_factory=list)
    joins: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    stacks: list[tuple[tuple[tuple[str, ...], ...], str]] = field(default_factory=list)
    unstacks: list[tuple[str, tuple[tuple[str, ...], ...], tuple[int, ...]]] = field(default_factory=list)
    splits: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = field(default_factory=list)
    turned_before: dict[str, tuple[int, int]] = field(default_factory=dict)
    turned: dict[str, tuple[int, int]] = field(default_factory=dict)
    reshaped: dict[str, Shape] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    exprs: dict[str, Expr] = field(default_factory=dict)
    match_of: dict[str, Match] = field(default_factory=dict)


def steps(matches: Iterable[Match], repeated: Iterable[Copy] = ()) -> Steps:
    """Collect the steps of all matches, and of the modules that repeat what these fill."""
    result = Steps()
    for match in matches:
        c = match.candidate
        for theirs, mine in c.instance_pairs.items():
            for leaf, origin in leaf_pairs(c.source.instances[mine], c.target.instances[theirs]):
                _step(result, match, theirs, mine, leaf, origin)
    for copy in repeated:
        _repeat(result, copy)
    first = {key: twin for twin, key in result.copies}
    for n, (twin, key) in enumerate(result.copies):
        while twin in first:  # a copy of a copy
            twin = first[twin]
        result.copies[n] = (twin, key)
    return result


def _repeat(result: Steps, copy: Copy) -> None:
    """What fills a module fills those that repeat it."""
    for leaf, (key, shape) in copy.group.instances[copy.index].items():
        twin, like = copy.main.instances[copy.main_index].get(leaf, (None, ()))
        if twin in result.exprs and shape == like and key not in result.exprs:
            result.copies.append((twin, key))
            result.exprs[key] = result.exprs[twin]
            result.match_of[key] = replace(result.match_of[twin], copy_of=copy.main)
            result.match_of[twin].also = shown(".".join(copy.group.template))


def _step(result: Steps, match: Match, theirs: Index, mine: Index, leaf: str, origin: str) -> None:
    c = match.candidate
    made, have = c.source.instances[mine][origin]
    key, want = c.target.instances[theirs][leaf]
    turned = _turned(match, have, want)
    if have != want and not turned and c.how != "reshape":
        return
    dims = (len(have) - 2, len(have) - 1)
    expr = expression(made)
    if turned:
        expr = {"op": "transpose", "dims": list(dims), "of": [expr]}
    elif have != want:
        expr = {"op": "reshape", "shape": list(want), "of": [expr]}
    if match.copy_of is not None:
        twin = match.copy_of.instances.get(theirs, {}).get(leaf)
        if twin is None or not isinstance(key, str):
            return
        result.copies.append((str(twin[0]), key))
        result.exprs[key], result.match_of[key] = expr, match
        return
    if isinstance(c.target, (Fused, Stacked)):
        if have == want or turned:
            if turned:
                result.turned_before[str(made)] = dims
            _cut(result, match, str(made), c.target, theirs, leaf, expr)
        return
    into = str(key)
    if into in result.exprs:
        return
    result.exprs[into], result.match_of[into] = expr, match
    if isinstance(c.source, Fused):
        keys = tuple(str(key) for key, _ in c.source.pieces(mine, origin))
        result.joins.append((keys, into))
        if c.source.turned:
            result.turned_before |= dict.fromkeys(keys, dims)
    elif isinstance(c.source, Stacked):
        result.stacks.append((_stacked(c.source, mine, origin), into))
    else:
        result.moves.append(
            Move(
                marked(c.source.template, str(made)),
                marked(c.target.template, into),
                mine,
                theirs,
                str(made),
                into,
            )
        )
    if turned:
        result.turned[into] = dims
    elif have != want:
        result.reshaped[into] = want


def _turned(match: Match, have: Shape, want: Shape) -> bool:
    """Whether the last two dims are swapped: the shapes say so, or it is square beside others that are."""
    if len(have) < 2:
        return False
    swapped = (*have[:-2], *have[-2:][::-1]) == want
    return swapped and (have != want or match.turn)


def _stacked(group: Stacked, index: Index, leaf: str) -> tuple[tuple[str, ...], ...]:
    """For each place in the stack the source keys that are concatenated there."""
    inner = group.inner
    found = group.places[index]
    if isinstance(inner, Fused):
        return tuple(tuple(str(key) for key, _ in inner.pieces(i, leaf)) for i in found)
    return tuple((str(inner.instances[i][leaf][0]),) for i in found)


def _cut(
    result: Steps, match: Match, source: str, target: Group, index: Index, leaf: str, expr: Expr
) -> None:
    """The source cut up into the parts of a fused or stacked target."""
    if isinstance(target, Fused):
        pieces = target.pieces(index, leaf)
        first = next(str(key) for key, _ in pieces if key is not None)
        names = tuple(f"{first}.spare" if key is None else key for key, _ in pieces)
        sizes = tuple(size for _, size in pieces)
        result.splits.append((source, names, sizes))
        rank = len(target.real_parts[0].instances[index][leaf][1])
        start = 0
        for name, size in zip(names, sizes, strict=True):
            piece = _slice(expr, start, start + size)
            start += size
            if name.endswith(".spare"):
                result.spare.append(name)
                continue
            if target.turned:
                dims = (rank - 2, rank - 1)
                piece = {"op": "transpose", "dims": list(dims), "of": [piece]}
                result.turned[name] = dims
            result.exprs[name], result.match_of[name] = piece, match
        return
    assert isinstance(target, Stacked)
    inner = target.inner
    found = target.places[index]
    if isinstance(inner, Fused):
        rows = [inner.pieces(i, leaf) for i in found]
    else:
        rows = [[(str(inner.instances[i][leaf][0]), 0)] for i in found]
    places = tuple(tuple(str(key) for key, _ in row) for row in rows)
    sizes = tuple(size for _, size in rows[0])
    result.unstacks.append((source, places, sizes))
    for n, names in enumerate(places):
        one = {"op": "select", "dim": 0, "index": n, "of": [expr]}
        start = 0
        for name, size in zip(names, sizes, strict=True):
            result.exprs[name] = one if len(names) == 1 else _slice(one, start, start + size)
            result.match_of[name] = match
            start += size


def _slice(expr: Expr, start: int, stop: int) -> Expr:
    return {"op": "slice", "dim": 0, "start": start, "stop": stop, "of": [expr]}


def marked(template: Tokens, key: str) -> Tokens:
    """A key's tokens with the indices of its module's template masked as there."""
    return tuple(
        _masked(template[n], token) if n < len(template) and "{}" in template[n] else token
        for n, token in enumerate(hidden(key).split("."))
    )


def _masked(template: str, token: str) -> str:
    """A token with the index that its template marks masked; what follows may be more than the template has."""
    before = template.partition("{}")[0]
    return f"{before}{{}}{token[len(before) :].lstrip('0123456789')}"
