"""Carrying rules out on a signature."""

from __future__ import annotations

from collections.abc import Sequence

from ..collector import gc_paused
from ..config import RemapConfig
from ..errors import PlanError, Problem
from ..expr import Read
from ..rules import Entry, Rule, State, untouched
from ..signatures import Signature
from .data import Dropped, Output, Plan, RuleUse


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
        state.index, state.rule = index, rule
        op: str = getattr(rule, "op", type(rule).__name__)
        try:
            matched = rule.apply(state)
            if not matched and rule.required:
                raise PlanError(untouched(rule, state.keys))
        except PlanError as error:
            raise _located(error, index, op) from None
        uses.append(RuleUse(index, op, matched))
    outputs = tuple(Output(key, e.info, e.expr, e.rules, e.tie) for key, e in state.entries.items())
    return Plan(
        outputs,
        tuple(Dropped(key, rule, expr) for key, rule, expr in state.dropped),
        tuple(uses),
        source,
        config,
    )


def _located(error: PlanError, index: int, op: str) -> PlanError:
    where = f"rules.{index}"
    return PlanError(
        f"{where} ({op}): {error.message}", key=error.key, problems=[Problem(where, error.message)]
    )
