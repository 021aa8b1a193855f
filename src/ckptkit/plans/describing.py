"""A plan as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..expr import Expr, Read
from ..text import fold, human_bytes, human_count, one_line

if TYPE_CHECKING:
    from .data import Output, Plan


def describe(plan: Plan) -> str:
    """The dry run as plain text: what every rule did, which keys change to what, what is dropped."""
    source, result = plan.source, plan.signature
    lines = [
        f"{len(source)} keys ({human_count(source.numel)} parameters, {human_bytes(source.nbytes)}) -> "
        f"{len(result)} keys ({human_count(result.numel)} parameters, {human_bytes(result.nbytes)})"
    ]
    for use in plan.rules:
        touched = f"touches {use.matched} key{'' if use.matched == 1 else 's'}"
        lines.append(f"rule {use.index} {use.op}: {touched if use.matched else 'touches nothing'}")
    changed = [o for o in plan.outputs if o.expr != Read(o.key)]
    if changed:
        lines.append("changes:")
        lines.extend(f"  {line}" for line in changes(plan))
    same = len(plan.outputs) - len(changed)
    if same:
        lines.append(f"unchanged: {same} key{'' if same == 1 else 's'}")
    if plan.dropped:
        lines.append(f"dropped: {len(plan.dropped)} key{'' if len(plan.dropped) == 1 else 's'}")
        for index in dict.fromkeys(gone.rule for gone in plan.dropped):
            gone = [each.key for each in plan.dropped if each.rule == index]
            lines.extend(f"  {f.label}  (rule {index})" for f in fold(gone))
    if result.tied:
        lines.append("tied:")
        lines.extend(f"  {' = '.join(map(one_line, group))}" for group in result.tied)
    return "\n".join(lines)


def changes(plan: Plan) -> list[str]:
    """One line per block of changed keys: ``a.{0..3}.w -> b.{0..3}.w  [2, 3] float32``."""
    groups: dict[tuple[str, ...], list[Output]] = {}
    for output in plan.outputs:
        if output.expr != Read(output.key):
            groups.setdefault(_shape_of_change(output), []).append(output)
    lines = []
    for outputs in groups.values():
        before = " + ".join(
            _label([o.expr.reads()[i] for o in outputs]) for i in range(len(outputs[0].expr.reads()))
        )
        after = _label([o.key for o in outputs])
        info = outputs[0].info
        note = "" if isinstance(outputs[0].expr, Read) else f"  ({operation(outputs[0].expr)})"
        count = f"  x{len(outputs)}" if len(outputs) > 1 else ""
        what = "object" if info.kind == "object" else f"{list(info.shape)} {info.dtype}"
        lines.append(f"{before} -> {after}  {what}{note}{count}")
    return lines


def operation(expr: Expr) -> str:
    """The operations of an expression from the inside out: ``transpose [0, 1], cast bfloat16``."""
    if isinstance(expr, Read):
        return ""
    inner = operation(expr.of[0]) if expr.of else ""
    arguments = " ".join(str(v) for v in expr.arguments().values())
    return f"{inner + ', ' if inner else ''}{expr.op} {arguments}".strip()


def _shape_of_change(output: Output) -> tuple[str, ...]:
    """What outputs must have in common to share a line: names without block numbers, shape, operation."""

    def template(key: str) -> str:
        return ".".join("#" if part.isdigit() else part for part in key.split("."))

    return (
        *(template(key) for key in output.expr.reads()),
        template(output.key),
        str(output.info.shape),
        output.info.dtype,
        operation(output.expr),
    )


def _label(keys: list[str]) -> str:
    folds = fold(dict.fromkeys(keys))
    return (
        folds[0].label
        if len(folds) == 1
        else f"{{{', '.join(f.label for f in folds[:3])}{', ...' if len(folds) > 3 else ''}}}"
    )
