"""From what does not fit to why, and to what repairs it."""

from __future__ import annotations

from dataclasses import replace

from ..config import RemapConfig
from ..dtypes import DTYPES
from ..errors import ConfigError, PlanError
from ..expr import Read
from ..findings import Finding, Fix
from ..load_report import LoadReport
from ..plans import make_plan
from ..signatures import Signature, TensorInfo
from ..vetoes import Move, Sides, harmless
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
    sides = Sides(
        source,
        target,
        report.missing,
        report.unexpected,
        sizes={key: info.numel for key, info in source.items()},
        narrow={key for key, info in source.items() if _narrow(info)},
    )
    # Hooks of modules ask for keys, or make some, that neither side lists.
    report = replace(
        report,
        missing=tuple(key for key in report.missing if key in target),
        unexpected=tuple(key for key in report.unexpected if key in source),
    )
    found = [*name_findings(report, source, target), *shape_findings(report, target)]
    if not any(f.confidence == "certain" and f.cause in ("prefix_strip", "prefix_add") for f in found):
        found += inferred_findings(report, source, target)
    rank = {"certain": 0, "likely": 1, "guess": 2}
    shown = harmless(found, sides, lambda fix: _moves(fix, source))
    return tuple(sorted(shown, key=lambda f: rank[f.confidence]))


def _narrow(info: TensorInfo) -> bool:
    """Whether a tensor holds no floating point numbers, or floats of 8 bits and less, as quantised ones do."""
    known = DTYPES.get(info.dtype)
    return known is None or known.kind != "float" or known.bits <= 8


def _moves(fix: Fix, source: Signature) -> list[Move]:
    """What the rules of a fix do to the checkpoint's keys; nothing where they cannot be applied."""
    if not fix.remap:
        return []
    try:
        plan = make_plan(source, RemapConfig.parse({"rules": list(fix.remap)}))
    except (PlanError, ConfigError):
        return []
    moved: list[Move] = [(key, None) for each in plan.dropped if each.expr for key in each.expr.reads()]
    for output in plan.outputs:
        if output.expr == Read(output.key):
            continue
        new = output.key if isinstance(output.expr, Read) else ""
        moved += [(key, new) for key in output.expr.reads()]
    return moved


__all__ = ["diagnose"]
