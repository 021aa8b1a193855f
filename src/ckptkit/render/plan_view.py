"""Plans and what came of them as people read them: the dry run, the summary, what does not fit."""

from __future__ import annotations

import re

from ..expr import Read
from ..fit import Fit
from ..formats.base import Written
from ..plans import Plan
from ..text import human_bytes, one_line
from .blocks import Block, Line, Span, line

_ARROW = re.compile(r"( -> )")


def dry_run(plan: Plan) -> list[Block]:
    """``str(plan)``, with a look for each kind of line."""
    return [_styled(text) for text in str(plan).split("\n")]


def summary(plan: Plan, written: Written) -> list[Block]:
    """What was written, how many keys changed, and what was left out."""
    blocks: list[Block] = []
    for file in written.files:
        tensors = f", {_count(file.tensors, 'tensor')}" if file.tensors else ""
        blocks.append(
            line(Span("wrote ", "good"), Span(file.path, "title"), f"  {human_bytes(file.bytes)}{tensors}")
        )
    renamed = sum(isinstance(o.expr, Read) and o.expr.key != o.key for o in plan.outputs)
    computed = sum(not isinstance(o.expr, Read) for o in plan.outputs)
    same = len(plan.outputs) - renamed - computed
    parts = [
        f"{count} {word}"
        for count, word in (
            (renamed, "renamed"),
            (computed, "computed"),
            (same, "unchanged"),
            (len(plan.dropped), "dropped"),
        )
        if count
    ]
    blocks.append(line(f"{_count(len(plan.outputs), 'key')}: {', '.join(parts) or 'nothing to do'}"))
    if written.left_out:
        blocks.append(
            line(Span("left out: ", "warn"), ", ".join(one_line(name) for name in written.left_out))
        )
    return blocks


def misfit(fit: Fit, target: str) -> list[Block]:
    """Why a result does not fit its target."""
    return [
        line(Span("no: ", "bad"), f"the result does not fit {target}"),
        *(line(text) for text in fit.lines()),
    ]


def _styled(text: str) -> Line:
    if text.startswith("rule "):
        head, colon, rest = text.partition(":")
        return line(
            Span(head + colon, "title"), Span(rest, "warn" if rest.strip() == "touches nothing" else "")
        )
    if text.startswith("  "):
        parts = _ARROW.split(text)
        return Line(tuple(Span(part, "good" if part == " -> " else "") for part in parts))
    return line(Span(text, "title" if text.endswith(":") else ""))


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
