"""Rules from steps, checked by planning them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..config import RemapConfig
from ..errors import CkptkitError
from ..naming import strange
from ..plans import Plan, make_plan
from ..rewriting import rewrite
from ..rules import NAMING
from ..signatures import Signature
from .copying import copy_rules
from .moving import RuleData, move_rules, renamed
from .rows import Line, lines
from .steps import Expr, Move, Steps
from .words import hidden


def synthesised(source: Signature, target: Mapping[str, Any], steps: Steps) -> tuple[list[RuleData], Plan]:
    """The rules that carry the steps out, the most general that planning confirms.

    Args:
        source: what is remapped.
        target: the target's keys.
        steps: what shall be done.

    Returns:
        The rules and their plan.
    """
    best: tuple[int, list[RuleData], Plan] | None = None
    for level in (0, 1, 2):
        rules = _rules(source, target, steps, level)
        try:
            plan = make_plan(source, RemapConfig.parse({"rules": rules}))
        except CkptkitError:
            continue
        planned = {o.key: o.expr for o in plan.outputs if o.key in target}
        wrong = sum(
            1
            for key in planned.keys() | steps.exprs.keys()
            if key not in planned or key not in steps.exprs or planned[key].to_json() != steps.exprs[key]
        )
        if best is None or wrong < best[0]:
            best = (wrong, rules, plan)
        if not wrong:
            break
    if best is None:
        best = (1, [], make_plan(source, RemapConfig()))
    wrong, rules, plan = best
    if wrong:
        # What no rules could bring about must not stand in the place of a target key.
        bad = [
            o.key
            for o in plan.outputs
            if o.key in target and (o.key not in steps.exprs or o.expr.to_json() != steps.exprs[o.key])
        ]
        if bad:
            rules = [*rules, {"op": "drop", "keys": selection(bad, [o.key for o in plan.outputs])}]
            plan = make_plan(source, RemapConfig.parse({"rules": rules}))
    return rules, plan


def reads(expr: Expr) -> Iterable[str]:
    """The source keys an expression reads."""
    if "read" in expr:
        yield expr["read"]
    else:
        for inner in expr["of"]:
            yield from reads(inner)


def _rules(source: Signature, target: Mapping[str, Any], steps: Steps, level: int) -> list[RuleData]:
    used = {key for expr in steps.exprs.values() for key in reads(expr)}
    moving = move_rules([*steps.moves, *_aside(steps, used, move_rules(steps.moves, level))], level)
    names = renamed(source, moving)
    taken = {names[key] for key in used}
    unwanted = []
    for key in source:
        if key not in used:
            if names[key] in target or names[key] in taken or not names[key]:
                unwanted.append(key)
            taken.add(names[key])
    rules: list[RuleData] = []
    if unwanted:
        rules.append({"op": "drop", "keys": selection(unwanted, list(source))})
    if level < 2 and moving:
        moving = _live(moving, [k for k in source if k not in set(unwanted)])
    rules += moving
    now = [names[key] for key in source if key not in set(unwanted)]
    rules += _turns({names[k]: dims for k, dims in steps.turned_before.items()}, now)
    rules += _joins([(tuple(names[k] for k in keys), into) for keys, into in steps.joins])
    rules += _stacks(
        [(tuple(tuple(names[k] for k in row) for row in place), into) for place, into in steps.stacks]
    )
    rules += _unstacks([(names[k], rows, sizes) for k, rows, sizes in steps.unstacks])
    rules += _splits([(names[k], into, sizes) for k, into, sizes in steps.splits])
    if steps.spare:
        have = [
            *(k for k in now if k not in {s[0] for s in steps.splits}),
            *(n for _, into, _ in steps.splits for n in into),
        ]
        rules.append({"op": "drop", "keys": selection(steps.spare, have)})
    final = _final_keys(names, unwanted, source, steps)
    rules += _turns(steps.turned, final)
    for shape in sorted(set(steps.reshaped.values())):
        keys = [k for k, s in steps.reshaped.items() if s == shape]
        rules.append({"op": "reshape", "keys": selection(keys, final), "shape": list(shape)})
    return _permitted(rules + copy_rules(steps.copies, final), target)


def _permitted(rules: list[RuleData], target: Mapping[str, Any]) -> list[RuleData]:
    """The rules that make names may make strange ones where the target has such."""
    if all(strange(key) is None for key in target):
        return rules
    return [{**rule, "allow_literal": True} if rule["op"] in NAMING else rule for rule in rules]


def _aside(steps: Steps, used: set[str], moving: list[RuleData]) -> list[Move]:
    """Moves that put parts aside whose names other keys are about to take."""
    taken = {m.into for m in steps.moves}
    parts = used - {m.key for m in steps.moves}
    away = sorted(key for key, name in renamed(parts, moving).items() if name in taken)
    return [
        Move(tuple(hidden(key).split(".")), ("part", *hidden(key).split(".")), (), (), key, f"part.{key}")
        for key in away
    ]


def _live(rules: list[RuleData], keys: list[str]) -> list[RuleData]:
    """Without the pairs and rules that would touch nothing, which a remap refuses."""
    result = []
    for rule in rules:
        if rule["op"] == "rename" and "pairs" in rule:
            _, hits = rewrite(keys, rule["pairs"])
            pairs = [pair for pair, n in zip(rule["pairs"], hits, strict=True) if n]
            if pairs:
                result.append({"op": "rename", "pairs": pairs})
        else:
            result.append(rule)
        keys = list(renamed(keys, result[-1:]).values())
    return result


def _final_keys(names: Mapping[str, str], unwanted: list[str], source: Signature, steps: Steps) -> list[str]:
    gone = set(unwanted) | {k for keys, _ in steps.joins for k in keys}
    gone |= {k for places, _ in steps.stacks for row in places for k in row}
    gone |= {k for k, _, _ in steps.splits} | {k for k, _, _ in steps.unstacks}
    return [*(names[k] for k in source if k not in gone), *steps.exprs]


def _turns(turned: Mapping[str, tuple[int, int]], keys: list[str]) -> list[RuleData]:
    rules: list[RuleData] = []
    for dims in sorted(set(turned.values())):
        chosen = selection([k for k, d in turned.items() if d == dims], keys)
        rule: RuleData = {"op": "transpose", "keys": chosen}
        rules.append(rule if dims == (0, 1) else {**rule, "dims": list(dims)})
    return rules


def _joins(rows: Sequence[tuple[tuple[str, ...], str]]) -> list[RuleData]:
    found = lines([(keys, (into,)) for keys, into in rows], [None] * len(rows))
    return [{"op": "concat", "patterns": list(x.patterns), "into": x.templates[0]} for x in found]


def _stacks(rows: Sequence[tuple[tuple[tuple[str, ...], ...], str]]) -> list[RuleData]:
    rules: list[RuleData] = []
    joined: list[tuple[tuple[str, ...], str]] = []
    stacked: list[tuple[tuple[str, ...], str]] = []
    for places, into in rows:
        joined += [(row, together(row)) for row in places if len(row) > 1]
        stacked.append((tuple(together(row) for row in places), into))
    rules += _joins(joined)
    by_slot: dict[int, list[tuple[tuple[str, ...], str]]] = {}
    for singles, into in stacked:
        by_slot.setdefault(running_slot(singles[0], singles[1]), []).append((singles, into))
    for slot, members in sorted(by_slot.items()):
        found = lines([((s[0],), (into,)) for s, into in members], [None] * len(members), index=slot)
        rules += [{"op": "stack", "pattern": x.patterns[0], "into": x.templates[0]} for x in found]
    return rules


def _splits(rows: Sequence[tuple[str, tuple[str, ...], tuple[int, ...]]]) -> list[RuleData]:
    marks = [None if len(set(sizes)) == 1 else sizes for _, _, sizes in rows]
    rules: list[RuleData] = []
    for line in lines([((key,), into) for key, into, _ in rows], marks):
        rule: RuleData = {"op": "split", "pattern": line.patterns[0], "into": list(line.templates)}
        sizes = marks[line.rows[0]]
        rules.append(rule if sizes is None else {**rule, "sizes": list(sizes)})
    return rules


def _unstacks(rows: Sequence[tuple[str, tuple[tuple[str, ...], ...], tuple[int, ...]]]) -> list[RuleData]:
    rules: list[RuleData] = []
    plain = []
    cut: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = []
    for key, places, sizes in rows:
        singles = [together(row) for row in places]
        plain.append(((key,), (_indexed(singles[0], singles[1]),)))
        if len(places[0]) > 1:
            cut += [(single, row, sizes) for single, row in zip(singles, places, strict=True)]
    for line in lines(plain, [None] * len(plain)):
        rules.append({"op": "unstack", "pattern": line.patterns[0], "into": line.templates[0]})
    return rules + _splits(cut)


def together(keys: Sequence[str]) -> str:
    """A name for parts that are about to be joined: what they share, and their own words joined."""
    if len(keys) == 1:
        return keys[0]
    tokens = [k.split(".") for k in keys]
    if len({len(t) for t in tokens}) > 1:
        return "+".join(keys)
    return ".".join(
        column[0] if len(set(column)) == 1 else "_".join(column) for column in zip(*tokens, strict=True)
    )


def running_slot(first: str, second: str) -> int:
    """Which number of a key, counted from 0, differs between two keys."""
    a, b = re.findall(r"[0-9]+", first), re.findall(r"[0-9]+", second)
    return next(n for n, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)


def _indexed(first: str, second: str) -> str:
    slot = running_slot(first, second)
    found = list(re.finditer(r"[0-9]+", first))[slot]
    return f"{first[: found.start()]}{{index}}{first[found.end() :]}"


def selection(wanted: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Patterns that select exactly the wanted keys: globs where they are exact, else anchored expressions."""
    found: list[str] = []
    chosen = set(wanted)
    rows = sorted(wanted)  # whatever the order of the keys, the rules are the same
    for line in lines([((k,), ()) for k in rows], [None] * len(rows)):
        found += _exact(line, [rows[n] for n in line.rows], chosen, keys)
    return found


# The start of a group, not a parenthesis that a key has itself.
_GROUP = re.compile(r"(?<!\\)\((?!\?)")


def _exact(line: Line, members: list[str], wanted: set[str], keys: Sequence[str]) -> list[str]:
    if len(members) == 1:
        return [_glob(members[0])]
    match = re.compile(line.patterns[0]).fullmatch
    if all(k in wanted for k in keys if match(k)):
        return ["re:" + _GROUP.sub("(?:", line.patterns[0]).replace(r"(?:\d+)", r"\d+")]
    return [_glob(k) for k in members]


def _glob(key: str) -> str:
    """A glob that only this key matches."""
    text = re.sub(r"([\[*?])", r"[\1]", key)
    return f"[r]{text[1:]}" if text.startswith("re:") else text
