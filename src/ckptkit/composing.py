"""Several causes at once: their fixes as one config, in the order root, names, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .findings import Finding, Fix

if TYPE_CHECKING:
    from .config.load import LoadConfig

_LEAVING_OUT = ("drop", "keep")
_SURPLUS = (
    "extra_modules",
    "extra_buffers",
)  # a drop is a guess for its price, not for doubt about what is over


def composed(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], Fix | None]:
    """The fixes that hold together.

    The first finding counts whatever its confidence; another one when it is no guess, or leaves out
    what is over, and is about keys that none before it is about.

    Args:
        findings: best first.

    Returns:
        The findings that are used, and their fixes as one; None when nothing in them is for a config.
    """
    used: list[Finding] = []
    handled: set[str] = set()
    for finding in findings:
        fix = finding.fix
        if fix is None or not fix.offers:
            continue
        doubtful = finding.confidence == "guess" and finding.cause not in _SURPLUS
        if used and (doubtful or handled & set(finding.keys)):
            continue
        if finding is findings[0] or used:
            used.append(finding)
            handled |= set(finding.keys)
    if not used:
        return (), None
    rules: list[dict[str, Any]] = []
    load: dict[str, Any] = {}
    for finding in used:
        assert finding.fix is not None
        rules += [rule for rule in finding.fix.remap if rule not in rules]
        for name, value in finding.fix.load.items():
            load[name] = [*load.get(name, []), *value] if isinstance(value, list) else load.get(name, value)
    rules.sort(key=lambda rule: rule["op"] in _LEAVING_OUT)
    return tuple(used), Fix("; ".join(f.fix.advice for f in used if f.fix is not None), tuple(rules), load)


def document(findings: Sequence[Finding], before: LoadConfig | None = None) -> dict[str, Any] | None:
    """The fixes that hold together as a LoadConfig's fields, with what they repair as its description.

    Args:
        findings: best first.
        before: the config under which they were found, to which the fixes are added: they repair what it left.

    Returns:
        Plain data, rules given as objects aside; None when nothing in the findings is for a config.
    """
    used, fix = composed(findings)
    if fix is None:
        return None
    description = "; ".join(finding.title for finding in used)
    fields = {"version": 1, "description": description, **fix.config()}
    if before is not None:
        given = {
            name: getattr(before, name)
            for name in type(before).model_fields
            if name in before.model_fields_set
        }
        for name, value in given.items():
            if name not in fields:
                fields[name] = value
            elif isinstance(value, list):
                fields[name] = [*value, *fields[name]]
    return fields


def as_fix(findings: Sequence[Finding], before: LoadConfig | None = None) -> LoadConfig | None:
    """As `document`, as a config."""
    fields = document(findings, before)
    if fields is None:
        return None
    from .config.load import LoadConfig  # configs take longer to import than an error to be explained

    return LoadConfig(**fields)
