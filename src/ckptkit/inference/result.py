"""What an inference found: rules, what they do to each target key, and how far to trust it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..config import RemapConfig
from ..expr import Expr, Read
from ..text import fold, folded, one_line

Confidence = Literal["certain", "likely", "guess"]
ORDER: tuple[Confidence, ...] = ("certain", "likely", "guess")


@dataclass(frozen=True, slots=True)
class Inferred:
    """Where one target key comes from.

    Args:
        key: of the target.
        expr: how it is made from source keys.
        confidence: ``certain`` only where names, shapes and structure leave one answer.
        why: what it rests on, and what to verify.
    """

    key: str
    expr: Expr
    confidence: Confidence
    why: str


class TiedTarget(NamedTuple):
    """A target key, and the key that it is one tensor with."""

    key: str
    with_: str


@dataclass(frozen=True)
class Inference:
    """Rules that turn one signature into another, as far as they can be found.

    Args:
        config: the rules.
        outputs: what they do, restricted to the target's keys, in the target's order.
        missing: target keys without a source, tied ones left out.
        unused: source keys that no output reads.
        tied: target keys that are one tensor with another one, which is filled.
    """

    config: RemapConfig
    outputs: tuple[Inferred, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    tied: tuple[TiedTarget, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every target key has a source, or a tied partner that has one."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.inference`` document."""
        return {
            "format": "ckptkit.inference",
            "version": 1,
            "config": {**self.config.to_dict(), "rules": self.config.to_dict().get("rules", [])},
            "outputs": [
                {"key": o.key, "expr": o.expr.to_json(), "confidence": o.confidence, "why": o.why}
                for o in self.outputs
            ],
            "missing": list(self.missing),
            "unused": list(self.unused),
            "tied": [{"key": key, "with": partner} for key, partner in self.tied],
        }

    def __str__(self) -> str:
        counts = Counter(o.confidence for o in self.outputs)
        total = len(self.outputs) + len(self.missing) + len(self.tied)
        lines = [f"{len(self.outputs)} of {total} target keys have a source"]
        if counts:
            lines[0] += ": " + ", ".join(f"{counts[c]} {c}" for c in ORDER if counts[c])
        if not self.outputs:
            lines.append("no mapping: these two share too little to tell what became of what")
        for confidence in ORDER[1:]:
            lines += self._told(confidence)
        if self.tied:
            lines.append(
                "tied, filled by their partner: "
                + ", ".join(f"{one_line(a)} = {one_line(b)}" for a, b in self.tied)
            )
        if self.missing:
            lines.append(f"without a source: {one_line(folded(self.missing))}")
        if self.unused:
            lines.append(f"unused: {one_line(folded(self.unused))}")
        if self.config.rules:
            lines += ["rules:", *(f"  {line}" for line in self.config.to_yaml().splitlines())]
        return "\n".join(lines)

    def _told(self, confidence: Confidence) -> list[str]:
        """What is to verify, a line per reason."""
        reasons: dict[str, list[Inferred]] = {}
        for output in self.outputs:
            if output.confidence == confidence:
                reasons.setdefault(output.why, []).append(output)
        lines = []
        for why, found in reasons.items():
            labels = [f.label for f in fold([o.key for o in found])]
            shown = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
            first = found[0].expr
            origin = f" <- {first.key}" if isinstance(first, Read) and len(found) == 1 else ""
            lines.append(f"{confidence}: {one_line(shown + origin)}: {one_line(why)}")
        return lines
