"""Names for parts that their own names only count: the gate of an MLP, the self-attention of a block."""

from __future__ import annotations

from collections.abc import Iterable

from .groups import Group

_GATED = {"w1": "gate", "w2": "down", "w3": "up"}
_SIDES = {"self": "cross", "cross": "self"}


def note_gates(groups: Iterable[Group]) -> None:
    """Name the parts of gated MLPs that carry numbers only: two of one shape beside one of the reversed shape.

    Of the two the lower number is the gate: w1, w3; wi_0, wi_1; fc_1, fc_2.
    """
    by_parent: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        if len(group.shapes[0] or ()) == 2:
            by_parent.setdefault(group.template[:-1], []).append(group)
    for siblings in by_parent.values():
        known = {g.template[-1]: g for g in siblings}
        if known.keys() >= _GATED.keys():
            for token, concept in _GATED.items():
                _call(known[token], concept)
            continue
        for group in siblings:
            shape = group.shapes[0] or ()
            if shape[0] == shape[1]:
                continue
            same = [g for g in siblings if g.shapes == group.shapes]
            back = [g for g in siblings if g.shapes[0] == shape[::-1]]
            if len(same) != 2 or len(back) != 1 or same[0] is not group:
                continue
            stems = {_stem(g.template[-1]) for g in same}
            if len(stems) == 1 and all(g.numbers for g in same):
                low, high = sorted(same, key=lambda g: g.numbers)
                for g, concept in ((low, "gate"), (high, "up"), (back[0], "down")):
                    _call(g, concept)


def _call(group: Group, concept: str) -> None:
    group.__dict__["tokens"] = (*group.tokens[:-1], (group.tokens[-1][0], (concept,)))


def note_attention(groups: Iterable[Group]) -> None:
    """Where a block has two attentions and one is named self or cross, the other one is the other."""
    families: dict[tuple[object, ...], dict[str, list[tuple[Group, int]]]] = {}
    for group in groups:
        for n, (token, found) in enumerate(group.tokens):
            if "attn" in found and "{}" not in token:
                where = group.template.index(token)
                kind = tuple(c for c in found if c not in ("attn", "self", "cross"))
                families.setdefault((group.template[:where], kind), {}).setdefault(token, []).append(
                    (group, n)
                )
    for tokens in families.values():
        if len(tokens) != 2:
            continue
        sides = [
            next((c for c in places[0][0].tokens[places[0][1]][1] if c in _SIDES), None)
            for places in tokens.values()
        ]
        if sides == [None, None] and len({_stem(token) for token in tokens}) == 1:
            # attn1 and attn2: a block attends to itself first.
            named = dict(zip(sorted(tokens, key=lambda t: (len(t), t)), ("self", "cross"), strict=True))
        else:
            named = {
                token: _SIDES[other]
                for token, side, other in zip(tokens, sides, sides[::-1], strict=True)
                if side is None and other is not None
            }
        for token, side in named.items():
            for group, n in tokens[token]:
                called = (token, (side, *group.tokens[n][1]))
                group.__dict__["tokens"] = (*group.tokens[:n], called, *group.tokens[n + 1 :])


def _stem(token: str) -> str:
    return "".join(c for c in token if not c.isdigit())
