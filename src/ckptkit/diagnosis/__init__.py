"""From what does not fit to why, and to what repairs it."""

from __future__ import annotations

from ..findings import Finding
from ..load_report import LoadReport
from ..signatures import Signature
from .engine import accounts
from .evidence import Evidence


def diagnose(report: LoadReport, source: Signature, target: Signature) -> tuple[Finding, ...]:
    """The causes behind a report that is not ok, in the order in which their fixes are applied.

    Args:
        report: missing, unexpected and mismatched keys.
        source: the checkpoint's signature, after the rules.
        target: the model's signature.
    """
    return tuple(accounts(Evidence.of(report, source, target)))


__all__ = ["diagnose"]
