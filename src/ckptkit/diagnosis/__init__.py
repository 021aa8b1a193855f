"""From what does not fit to why, and to what repairs it."""

from __future__ import annotations

from ..findings import Finding
from ..load_report import LoadReport
from ..signatures import Signature
from .inferred import inferred_findings
from .names import name_findings
from .shapes import shape_findings


def diagnose(report: LoadReport, source: Signature, target: Signature) -> tuple[Finding, ...]:
    """The causes behind a report that is not ok, best first.

    Args:
        report: missing, unexpected and mismatched keys.
        source: the checkpoint's signature, after the rules.
        target: the model's signature.
    """
    found = [*name_findings(report, source, target), *shape_findings(report, target)]
    if not any(f.confidence == "certain" and f.cause in ("prefix_strip", "prefix_add") for f in found):
        found += inferred_findings(report, source, target)
    rank = {"certain": 0, "likely": 1, "guess": 2}
    return tuple(sorted(found, key=lambda f: rank[f.confidence]))


__all__ = ["diagnose"]
