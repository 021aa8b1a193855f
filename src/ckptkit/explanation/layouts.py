"""As many elements in another shape: which of transpose, permute and reshape can be meant, key by key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

from ..findings import Finding, Fix
from ..patterns import escape
from .parsed import Shape, ShapeMismatch

_KERNEL = 11  # the widest side of a kernel; two equal ones stay in their order
Rule = dict[str, Any]


def moved(found: Sequence[ShapeMismatch]) -> Finding:
    """The finding, with rules where shapes leave one answer; a reshape never stands in for a permutation.

    Args:
        found: keys whose shapes hold equally many elements.
    """
    orders = _orders(found)
    rules: dict[str, tuple[Rule, list[str]]] = {}
    unknown = 0
    for m in found:
        rule = _rule(m.source_shape or (), m.target_shape or (), orders)
        if rule is None:
            unknown += 1
        else:
            rules.setdefault(str(rule), (rule, []))[1].append(escape(m.key))
    turned = any(rule["op"] != "reshape" for rule, _ in rules.values())
    title, advice = (
        "the same number of elements in another shape",
        "reshape them: the order of the elements is the same",
    )
    if turned and all(len(m.source_shape or ()) == 2 for m in found):
        title = "weights are transposed (Conv1D keeps [in, out], Linear [out, in])"
        advice = "transpose them; square weights of the same layers look right and need it too"
        if any(re.search(r"(?:^|\.)\d+\.", m.key) for m in found):
            # Blocks hold square weights too (the output of an attention), which no text lists.
            rules = {}
            advice += ", which python -m ckptkit check CHECKPOINT --model MODEL sees and a text does not"
    elif turned:
        title = "the dimensions of weights are in another order, as another framework keeps them"
        advice = "put the dimensions in the model's order; weights of equal sides look right and need it too"
    if unknown:
        advice = (
            f"for {unknown} of them shapes alone do not say which dimension is which: look at how the checkpoint's "
            "framework lays out its weights; a plain reshape would scramble them"
        )
    m = found[0]
    return Finding(
        "layout",
        title,
        f"{m.key}: checkpoint {list(m.source_shape or ())}, model {list(m.target_shape or ())}",
        tuple(each.key for each in found),
        "likely",
        Fix(advice, tuple({**rule, "keys": keys} for rule, keys in rules.values())),
    )


def _rule(a: Shape, b: Shape, orders: dict[int, tuple[int, ...]]) -> Rule | None:
    if _without_ones(a) == _without_ones(b):
        return {"op": "reshape", "shape": list(b)}
    if len(a) == 2 and a == b[::-1]:
        return {"op": "transpose"}
    order = orders.get(len(a))
    if order is None or len(a) != len(b) or tuple(a[dim] for dim in order) != b:
        return None
    return {"op": "permute", "dims": list(order)}


def _orders(found: Sequence[ShapeMismatch]) -> dict[int, tuple[int, ...]]:
    """For each number of dimensions the one order that explains every key."""
    shapes: dict[int, list[tuple[Shape, Shape]]] = {}
    for m in found:
        a, b = m.source_shape or (), m.target_shape or ()
        if 3 <= len(a) <= 5 and sorted(a) == sorted(b) and _without_ones(a) != _without_ones(b):
            shapes.setdefault(len(a), []).append((a, b))
    result = {}
    for rank, pairs in shapes.items():
        fitting = [
            dims
            for dims in permutations(range(rank))
            if all(tuple(a[d] for d in dims) == b for a, b in pairs[:200])
        ]
        same = [
            (i, j) for i, j in combinations(range(rank), 2) if all(a[i] == a[j] <= _KERNEL for a, _ in pairs)
        ]
        steady = [dims for dims in fitting if all(dims.index(i) < dims.index(j) for i, j in same)]
        if len(steady) == 1:
            result[rank] = steady[0]
    return result


def _without_ones(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]
