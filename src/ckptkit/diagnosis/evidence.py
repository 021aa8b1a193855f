"""What does not fit, with the shapes of both sides, and what is left of it after a fix."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ..config import RemapConfig
from ..config.load import LoadConfig
from ..dtypes import DTYPES
from ..errors import CkptkitError
from ..explanation import Parsed, ShapeMismatch
from ..expr import Read
from ..findings import Finding, Fix
from ..load_report import LoadReport, Mismatch
from ..matching import match
from ..patterns import compile_pattern, escape, select
from ..plans import Plan, make_plan
from ..signatures import Signature, TensorInfo
from ..vetoes import Move, Sides, parts_of


@dataclass(frozen=True)
class Evidence:
    """A checkpoint and a model that do not fit, as far as nothing has accounted for it yet.

    Args:
        source: the checkpoint, after the fixes so far.
        target: the model.
        missing, unexpected, mismatched: what does not fit.
        settled: keys of the model that need none of the checkpoint's: hooks make them, or an account covers them.
        spared: keys of the checkpoint that need no place in the model.
        what: the model's class.
    """

    source: Signature
    target: Signature
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    settled: frozenset[str]
    spared: frozenset[str]
    what: str

    @classmethod
    def of(cls, report: LoadReport, source: Signature, target: Signature) -> Evidence:
        """The evidence of a report; keys that only hooks ask for or make are on neither side."""
        missing = tuple(key for key in report.missing if key in target)
        unexpected = tuple(key for key in report.unexpected if key in source)
        mismatched = tuple(m for m in report.mismatched if m.key in target)
        lacking, over = set(missing), set(unexpected)
        return cls(
            source,
            target,
            missing,
            unexpected,
            mismatched,
            frozenset(key for key in target if key not in source and key not in lacking),
            frozenset(key for key in source if key not in target and key not in over),
            report.what,
        )

    @property
    def left(self) -> int:
        """How many keys are unexplained."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)

    def parsed(self, lists: bool = True) -> Parsed:
        """The same facts, as a text tells them.

        Args:
            lists: with the keys of one side only.
        """
        odd = [ShapeMismatch(m.key, m.source_shape, m.target_shape) for m in self.mismatched]
        last = [key.rpartition(".")[0] for key, info in self.target.items() if info.shape][-1:]
        missing, unexpected = (self.missing, self.unexpected) if lists else ((), ())
        return Parsed("", self.what, list(missing), list(unexpected), odd, ends=frozenset(last))

    def sides(self) -> Sides:
        """The same, as the vetoes look at it."""
        return Sides(
            self.source,
            self.target,
            self.missing,
            self.unexpected,
            sizes={key: info.numel for key, info in self.source.items()},
            narrow={key for key, info in self.source.items() if _narrow(info)},
        )

    def fitting(self) -> list[str]:
        """The keys of the model that the checkpoint fills as they are."""
        apart = {*self.missing, *self.settled, *(m.key for m in self.mismatched)}
        return [key for key in self.target if key not in apart]

    def plan(self, fix: Fix) -> Plan | None:
        """What the rules of a fix do; None where they cannot be carried out."""
        try:
            return make_plan(self.source, RemapConfig.parse({"rules": list(fix.remap)}))
        except CkptkitError:
            return None

    def moves(self, fix: Fix) -> list[Move]:
        """What the rules of a fix do to each key that they touch."""
        plan = self.plan(fix) if fix.remap else None
        if plan is None:
            return []
        moved: list[Move] = [(key, None) for each in plan.dropped if each.expr for key in each.expr.reads()]
        for output in plan.outputs:
            if output.expr == Read(output.key):
                continue
            new = output.key if isinstance(output.expr, Read) else ""
            moved += [(key, new) for key in output.expr.reads()]
        return moved

    def after(self, finding: Finding) -> Evidence | None:
        """What is left when a finding is true: its fix applied, or its keys accounted for; None where a fix fails."""
        fix = finding.fix
        if fix is None or not fix.offers or set(fix.load) - {"adapt", "allow_missing"}:
            return self._without(finding.keys)
        plan = self.plan(fix)
        if plan is None:
            return None
        try:
            config = LoadConfig.model_validate({"adapt": fix.load.get("adapt", [])})
            found = match(plan.signature, self.target, config)
        except (CkptkitError, ValueError):
            return None
        settled = self.settled | set(select(fix.load.get("allow_missing", ()), found.missing).keys)
        moved = {o.expr.key: o.key for o in plan.outputs if isinstance(o.expr, Read)}
        unasked = frozenset(moved[key] for key in self.spared if key in moved)
        return replace(
            self,
            source=plan.signature,
            missing=tuple(key for key in found.missing if key not in settled),
            unexpected=tuple(key for key in found.unexpected if key not in unasked),
            mismatched=tuple(m for m in found.mismatched if m.key not in settled),
            settled=settled | set(found.reinit) | {a.key for a in found.adapted},
            spared=unasked,
        )

    def _without(self, keys: Collection[str]) -> Evidence:
        """Without some keys, and the whole tensors that they are parts of."""
        told = set(keys)
        parts = parts_of(self.source, self.missing) | parts_of(self.target, self.unexpected)
        bases = {parts[key].base for key in keys if key in parts}
        tails = {base[at:] for base in bases for at in _starts(base)}
        told |= {key for key in (*self.missing, *self.unexpected) if key in tails}
        return replace(
            self,
            missing=tuple(key for key in self.missing if key not in told),
            unexpected=tuple(key for key in self.unexpected if key not in told),
            mismatched=tuple(m for m in self.mismatched if m.key not in told),
            settled=self.settled | (told & self.target.keys()),
            spared=self.spared | (told & self.source.keys()),
        )

    def narrowed(self, fix: Fix) -> Fix:
        """A fix whose drops and permissions hold what does not fit, and nothing that does."""
        missing, unexpected = set(self.missing), set(self.unexpected)
        rules = []
        for rule in fix.remap:
            if rule["op"] == "drop":
                rule = {**rule, "keys": _narrowed(rule["keys"], self.source, unexpected)}
            rules.append(rule)
        load: dict[str, Any] = dict(fix.load)
        if "allow_missing" in load:
            load["allow_missing"] = _narrowed(load["allow_missing"], self.target, missing)
        return Fix(fix.advice + self._price(load), tuple(rules), load)

    def _price(self, load: dict[str, Any]) -> str:
        """The share of the model's parameters that a fix leaves new."""
        patterns = [*load.get("allow_missing", ())]
        patterns += [
            key for each in load.get("adapt", ()) if each["method"] == "reinit" for key in each["keys"]
        ]
        if not patterns:
            return ""
        new = select(patterns, self.target).keys
        share = sum(self.target[key].numel for key in new) / max(self.target.numel, 1)
        return f"; {share:.2%} of the parameters stay new"


def _narrow(info: TensorInfo) -> bool:
    """Whether a tensor holds no floating point numbers, or floats of 8 bits and less, as quantised ones do."""
    known = DTYPES.get(info.dtype)
    return known is None or known.kind != "float" or known.bits <= 8


def _starts(key: str) -> list[int]:
    return [0, *(at + 1 for at, letter in enumerate(key) if letter == ".")]


def _narrowed(patterns: Collection[str], keys: Collection[str], meant: Collection[str]) -> list[str]:
    """Patterns as they are where they match only what is meant, else the keys that they mean."""
    found: dict[str, None] = {}
    every = list(keys)
    for text in patterns:
        pattern = compile_pattern(text)
        matched = pattern.select(every) if pattern.exact is None else [pattern.exact]
        if all(key in meant for key in matched):
            found[text] = None
        else:
            found |= {escape(key): None for key in matched if key in meant}
    return list(found)
