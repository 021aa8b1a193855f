"""The rules that `infer` finds, as a finding: when they would make the checkpoint fit."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Finding, Fix
from ..inference.inferring import infer
from ..inference.result import Inference
from ..text import folded
from .evidence import Evidence

MOST_KEYS = 50_000  # a failing load should not wait for minutes
_PARTS = {"concat", "split", "stack", "unstack"}
_LAYOUT = {"transpose", "reshape"}


def inferred_findings(evidence: Evidence) -> Iterator[Finding]:
    """A finding with the inferred rules, if every target key gets a source and none of them is a guess."""
    source, target = evidence.source, evidence.target
    if not evidence.missing or not (evidence.unexpected or evidence.mismatched):
        return
    if len(source) + len(target) > MOST_KEYS:
        return
    found = infer(source, target, drop_unused=True)
    if not found.complete or not found.outputs or any(o.confidence == "guess" for o in found.outputs):
        return
    sure = all(o.confidence == "certain" for o in found.outputs)
    yield Finding(
        _cause(found),
        "the same tensors under other names"
        if _cause(found) == "rename"
        else "the same tensors, stored in another way",
        f"rules were found that fill all {len(target)} keys from {len(found.outputs)} outputs",
        tuple(evidence.unexpected),
        "certain" if sure and not found.unused else "likely",
        Fix(_advice(found, sure), tuple(found.config.to_dict().get("rules", ()))),
    )


def _cause(found: Inference) -> str:
    ops = {rule.op for rule in found.config.rules}
    if ops & _PARTS:
        return "fused_split"
    return "layout" if ops & _LAYOUT else "rename"


def _advice(found: Inference, sure: bool) -> str:
    advice = "apply the inferred rules"
    if found.unused:
        advice += f", which drop {len(found.unused)} keys that the model lacks ({folded(found.unused, 2)})"
    if not sure:
        count = sum(o.confidence != "certain" for o in found.outputs)
        advice += f"; {count} outputs are likely, not certain: infer says what to verify"
    return advice
