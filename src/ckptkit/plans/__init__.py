"""Plans: what a list of rules does to one signature. Pure data, made before any tensor is read."""

from __future__ import annotations

from ..expr.inverse import Equal
from .data import Dropped, Layout, Output, Plan, RuleUse, signature_hash
from .describing import changes, describe, operation
from .making import make_plan

__all__ = [
    "Dropped",
    "Equal",
    "Layout",
    "Output",
    "Plan",
    "RuleUse",
    "changes",
    "describe",
    "make_plan",
    "operation",
    "signature_hash",
]
