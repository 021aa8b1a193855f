"""Why a plan has no way back: which rule loses what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import PlanError, Problem
from ..expr import Expr, Read
from ..text import folded, quoted

if TYPE_CHECKING:
    from .data import Plan


def refusal(plan: Plan, losses: Sequence[tuple[str, Expr]], lost: list[str]) -> PlanError:
    """The error that names each rule that loses something, and what.

    Args:
        plan: the plan.
        losses: (why, expression) of what could not be undone.
        lost: the source keys that do not come back.
    """
    why: dict[tuple[int, str], list[str]] = {}
    for key in lost:
        for place in _causes(plan, losses, key):
            why.setdefault(place, []).append(key)
    problems = []
    for (index, reason), keys in sorted(why.items()):
        use = next((use for use in plan.rules if use.index == index), None)
        where = f"rules.{index}" if index >= 0 else "plan"
        op = f" ({use.op})" if use else ""
        problems.append(Problem(where, f"{where}{op} loses {folded(keys, 4)}: {reason}"))
    text = "; ".join(problem.message for problem in problems[:6])
    return PlanError(
        f"this plan has no way back: {text}. Keep what is lost, or keep the original",
        key=lost[0],
        problems=problems,
    )


def _causes(plan: Plan, losses: Sequence[tuple[str, Expr]], key: str) -> list[tuple[int, str]]:
    """(rule, reason) of the losses of a source key; rule -1 where a plan from a file does not tell."""
    found = [
        (gone.rule, "dropped" if gone.expr == Read(key) else f"a part of it, {quoted(gone.key)}, is dropped")
        for gone in plan.dropped
        if gone.expr is not None and key in gone.expr.reads()
    ]
    for reason, expr in losses:
        if key not in expr.reads():
            continue
        rules = {
            rule
            for output in plan.outputs
            if _holds(output.expr, expr)
            for rule in output.rules
            if _op_of(plan, rule) in _LOSSY.get(expr.op, (expr.op, "slice", "split", "unstack"))
        }
        if not found or expr.op in _LOSSY:
            found += [(max(rules, default=-1), reason)]
    if not found:
        drops = [gone.rule for gone in plan.dropped]
        found = [(drops[0] if len(set(drops)) == 1 else -1, "dropped")]
    return list(dict.fromkeys(found))


_LOSSY = {"cast": ("cast",), "resize": ("resize",)}


def _op_of(plan: Plan, index: int) -> str:
    return next((use.op for use in plan.rules if use.index == index), "")


def _holds(expr: Expr, part: Expr) -> bool:
    return expr == part or any(_holds(e, part) for e in expr.of)
