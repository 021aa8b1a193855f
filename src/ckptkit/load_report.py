"""What a load or a check found: prints for people, dumps to JSON, raises when asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from .composing import as_fix
from .config.load import LoadConfig
from .errors import IncompatibleKeysError, Problem
from .findings import Finding
from .text import fold

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A key whose shapes differ between checkpoint and model."""

    key: str
    source_shape: Shape
    target_shape: Shape


@dataclass(frozen=True, slots=True)
class Adapted:
    """A key that an adapt entry brought to the model's shape, and how."""

    key: str
    source_shape: Shape
    target_shape: Shape
    method: str


class Tied(NamedTuple):
    """A target key that is one tensor with another one, which is filled."""

    key: str
    from_: str


class Coverage(NamedTuple):
    """How much of a target is filled: the share of its tensors, and of its elements, tied ones counted once."""

    tensors: float
    parameters: float


@dataclass(frozen=True)
class LoadReport:
    """The outcome of a load or a check.

    Args:
        ok: whether the checkpoint fits, under the config's permissions.
        loaded: target keys that the checkpoint fills as they are.
        missing: target keys that nothing fills.
        unexpected: source keys (after the rules) that the target does not have.
        mismatched: keys whose shapes differ and that no adapt entry covers.
        adapted: keys brought to the target's shape.
        tied: target keys that another one fills.
        coverage: how much of the target is filled.
        errors: why it is not ok, one line each.
        findings: diagnosed causes, best first.
        notes: what a person should be told besides.
        what: the target's name, e.g. the model's class.
        config: the config of the load or check.
    """

    ok: bool
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    adapted: tuple[Adapted, ...]
    tied: tuple[Tied, ...]
    coverage: Coverage
    errors: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = "the model"
    config: LoadConfig | None = None

    @property
    def fix(self) -> LoadConfig | None:
        """The config of this load with the fixes of the findings that hold together, to load again with; None where
        nothing in the findings is for a config.
        """
        return as_fix(self.findings, self.config)

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.load_report`` document."""
        return {
            "format": "ckptkit.load_report",
            "version": 1,
            "ok": self.ok,
            "loaded": list(self.loaded),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": [
                {"key": m.key, "source_shape": list(m.source_shape), "target_shape": list(m.target_shape)}
                for m in self.mismatched
            ],
            "adapted": [
                {
                    "key": a.key,
                    "source_shape": list(a.source_shape),
                    "target_shape": list(a.target_shape),
                    "method": a.method,
                }
                for a in self.adapted
            ],
            "tied": [{"key": key, "from": partner} for key, partner in self.tied],
            "coverage": self.coverage._asdict(),
            "findings": [f.to_json() for f in self.findings],
            "errors": list(self.errors),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join([self.headline(), *self._body(None)])

    def headline(self) -> str:
        """One line: whether it fits, and how much of the target is filled."""
        verdict = "fits" if self.ok else "does not fit"
        filled = len(self.loaded) + len(self.adapted) + len(self.tied)
        return (
            f"The checkpoint {verdict} {self.what}: {filled} tensor{'' if filled == 1 else 's'} filled, "
            f"{_percent(self.coverage.parameters)} of the parameters."
        )

    def raise_for_errors(self) -> None:
        """Raise when the checkpoint does not fit.

        Raises:
            IncompatibleKeysError: cause first, then the keys, grouped and folded, shapes side by side.
        """
        if self.ok:
            return
        raise IncompatibleKeysError(
            "\n".join([self.headline(), *self._body(12)]),
            problems=[Problem(self.what, line) for line in self.errors],
            findings=self.findings,
        )

    def _body(self, limit: int | None) -> list[str]:
        lines: list[str] = []
        for finding in self.findings:
            lines.append(f"cause ({finding.confidence}): {finding.title}")
            lines.append(f"  {finding.evidence}")
            if finding.fix is not None:
                lines.append(f"  fix: {finding.fix.advice}")
        lines += [f"error: {line}" for line in self.errors]
        lines += _group("missing (left as they are in the model)", self.missing, limit)
        lines += _group("unexpected (in the checkpoint only)", self.unexpected, limit)
        if self.mismatched:
            shapes = [(m.source_shape, m.target_shape) for m in self.mismatched]
            rows = fold((m.key for m in self.mismatched), shapes)
            by_key = {m.key: m for m in self.mismatched}
            lines.append(f"shapes differ: {len(self.mismatched)}")
            for row in rows[:limit]:
                m = by_key[row.keys[0]]
                lines.append(
                    f"  {row.label}  checkpoint {list(m.source_shape)}  model {list(m.target_shape)}{_times(row.keys)}"
                )
            lines += _more(rows, limit)
        for a in self.adapted:
            lines.append(f"adapted: {a.key}  {list(a.source_shape)} -> {list(a.target_shape)} ({a.method})")
        for key, partner in self.tied:
            lines.append(f"tied: {key} with {partner}")
        lines += [f"note: {note}" for note in self.notes]
        return lines

    def _repr_html_(self) -> str:
        color = "#1a7f37" if self.ok else "#b42318"
        head, *body = str(self).splitlines()
        return (
            f'<div style="font-family:monospace"><div style="color:{color};font-weight:bold">{escape(head)}</div>'
            f'<pre style="margin:0">{escape(chr(10).join(body))}</pre></div>'
        )


def _percent(share: float) -> str:
    """A share that never rounds up to all or down to nothing."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.01), 99.99):.2f}%"


def _group(title: str, keys: Sequence[str], limit: int | None) -> list[str]:
    if not keys:
        return []
    rows = fold(keys)
    lines = [f"{title}: {len(keys)}"]
    lines += [f"  {row.label}{_times(row.keys)}" for row in rows[:limit]]
    return lines + _more(rows, limit)


def _times(keys: Sequence[str]) -> str:
    return f"  x{len(keys)}" if len(keys) > 1 else ""


def _more(rows: Sequence[Any], limit: int | None) -> list[str]:
    if limit is None or len(rows) <= limit:
        return []
    return [f"  and {sum(len(r.keys) for r in rows[limit:])} more"]
