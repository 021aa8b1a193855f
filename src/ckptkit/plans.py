"""Plans: what a list of rules does to one signature. Pure data, made before any tensor is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .collector import gc_paused
from .config import RemapConfig
from .errors import PlanError, Problem
from .expr import Expr, Read, with_reads
from .rules import Entry, Rule, State, untouched
from .signatures import Signature, TensorInfo, tied_groups
from .text import fold, human_bytes, human_count, one_line


@dataclass(frozen=True, slots=True)
class Output:
    """One key of the result.

    Args:
        key: its name.
        info: its shape and dtype.
        expr: how it is made from source keys.
        rules: indices of the rules that touched it.
    """

    key: str
    info: TensorInfo
    expr: Expr
    rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleUse:
    """What became of one rule: its place, its op, and how many keys it touched."""

    index: int
    op: str
    matched: int


@dataclass(frozen=True)
class Plan:
    """What rules do to one signature: every output key with the expression that makes it.

    Args:
        outputs: in state_dict order.
        dropped: (key as it was called then, index of the rule that dropped it).
        rules: one `RuleUse` per rule.
        source: the signature the plan was made for.
        config: the config it was made from, None for a plan read from a file.
    """

    outputs: tuple[Output, ...]
    dropped: tuple[tuple[str, int], ...]
    rules: tuple[RuleUse, ...]
    source: Signature
    config: RemapConfig | None = None

    @property
    def source_hash(self) -> str:
        """SHA-256 over the source's keys, shapes, dtypes and ties; equal signatures have equal hashes."""
        return signature_hash(self.source)

    @property
    def signature(self) -> Signature:
        """Keys, shapes, dtypes and ties of the result."""
        return Signature(
            {o.key: o.info for o in self.outputs},
            self.ties,
            self.source.metadata,
            self.source.root,
            self.source.roots,
        )

    @property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Output keys that are one tensor, since their source keys are. Copies made by a rule are not."""
        if not self.source.tied:
            return ()
        group_of = {key: group[0] for group in self.source.tied for key in group}
        seen: set[Expr] = set()
        pairs: list[tuple[str, object]] = []
        for output in self.outputs:
            reads = output.expr.reads()
            if output.expr not in seen and any(key in group_of for key in reads):
                pairs.append((output.key, _canonical(output.expr, group_of)))
            seen.add(output.expr)
        return tied_groups(pairs)

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.plan`` document."""
        return {
            "format": "ckptkit.plan",
            "version": 1,
            "outputs": [
                {
                    "key": o.key,
                    "shape": list(o.info.shape),
                    "dtype": o.info.dtype,
                    "expr": o.expr.to_json(),
                    "rules": list(o.rules),
                }
                for o in self.outputs
            ],
            "dropped": [{"key": key, "rule": rule} for key, rule in self.dropped],
            "rules": [{"index": r.index, "op": r.op, "matched": r.matched} for r in self.rules],
            "source": self.source.to_json(),
            "source_hash": self.source_hash,
        }

    def __str__(self) -> str:
        return describe(self)


def make_plan(source: Signature, config: RemapConfig | Sequence[Rule]) -> Plan:
    """Carry rules out on a signature.

    Args:
        source: keys, shapes and dtypes.
        config: a config, or its rules.

    Raises:
        PlanError: a collision, a rule that touches nothing, a pattern without a match, shapes or
            dtypes that do not suit; names the rule and the keys.
    """
    rules = config.rules if isinstance(config, RemapConfig) else list(config)
    with gc_paused():
        return _make(source, rules, config if isinstance(config, RemapConfig) else None)


def _make(source: Signature, rules: Sequence[Rule], config: RemapConfig | None) -> Plan:
    state = State({key: Entry(Read(key), info) for key, info in source.tensors.items()})
    uses = []
    for index, rule in enumerate(rules):
        state.index = index
        op: str = getattr(rule, "op", type(rule).__name__)
        try:
            matched = rule.apply(state)
            if not matched and rule.required:
                raise PlanError(untouched(rule, state.keys))
        except PlanError as error:
            raise _located(error, index, op) from None
        uses.append(RuleUse(index, op, matched))
    outputs = tuple(Output(key, e.info, e.expr, e.rules) for key, e in state.entries.items())
    return Plan(
        outputs,
        tuple(state.dropped),
        tuple(uses),
        source,
        config,
    )


def _located(error: PlanError, index: int, op: str) -> PlanError:
    where = f"rules.{index}"
    return PlanError(
        f"{where} ({op}): {error.message}", key=error.key, problems=[Problem(where, error.message)]
    )


def _canonical(expr: Expr, group_of: Mapping[str, str]) -> Expr:
    """The expression with every tied key replaced by its group's first one."""
    return with_reads(expr, lambda key: Read(group_of.get(key, key)))


def signature_hash(signature: Signature) -> str:
    """SHA-256 over keys, shapes, dtypes and ties, in state_dict order, as ``sha256:<hex>``."""
    document = [
        [[key, list(info.shape), info.dtype] for key, info in signature.tensors.items()],
        [list(group) for group in signature.tied],
    ]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


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
        for index in dict.fromkeys(rule for _, rule in plan.dropped):
            gone = [key for key, rule in plan.dropped if rule == index]
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
