"""Findings: one diagnosed cause each, with its evidence and, where there is one, the fix as rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Confidence = Literal["certain", "likely", "guess"]


@dataclass(frozen=True, slots=True)
class Fix:
    """What repairs a failure.

    Args:
        remap: rules, as plain data.
        load: LoadConfig fields.
        advice: one line for people.
    """

    advice: str
    remap: tuple[dict[str, Any], ...] = ()
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def offers(self) -> bool:
        """Whether there is anything in it for a config."""
        return bool(self.remap or self.load)

    def config(self) -> dict[str, Any]:
        """The fields of the LoadConfig that it is, as plain data."""
        return {**self.load, **({"rules": [dict(rule) for rule in self.remap]} if self.remap else {})}

    def to_json(self) -> dict[str, Any]:
        """The ``fix`` of a finding's JSON."""
        return {"remap": list(self.remap), "load": self.load, "advice": self.advice}


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause.

    Args:
        cause: its slug, e.g. ``prefix_strip``.
        title: one line.
        evidence: what in the input shows it.
        keys: the keys it is about.
        confidence: how sure it is.
        fix: what repairs it, None when nothing ckptkit can do does.
    """

    cause: str
    title: str
    evidence: str
    keys: tuple[str, ...] = ()
    confidence: Confidence = "likely"
    fix: Fix | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as the contract's JSON."""
        return {
            "cause": self.cause,
            "title": self.title,
            "evidence": self.evidence,
            "keys": list(self.keys),
            "confidence": self.confidence,
            "fix": self.fix.to_json() if self.fix is not None else None,
        }
