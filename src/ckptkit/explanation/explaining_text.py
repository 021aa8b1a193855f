"""From a pasted error to causes and fixes, best first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..composing import as_fix, composed
from ..findings import Finding, Fix
from ..vetoes import Move, Sides, harmless
from ..yaml_text import write_yaml
from .causes import findings_of
from .given import KeyLists, known_findings, parsed_of
from .parsed import Parsed
from .renaming import renamed
from .wording import short

if TYPE_CHECKING:
    from ..config.load import LoadConfig

_MOST_WORDS = 600  # characters


@dataclass(frozen=True)
class Explanation:
    """What a text says, and why it happened.

    Args:
        parsed: class, keys and shapes of the text.
        findings: causes, best first; none when the text is no load failure.
    """

    parsed: Parsed
    findings: tuple[Finding, ...]

    @property
    def fix(self) -> LoadConfig | None:
        """The fixes that hold together as one config, as ``explain -o`` writes it; None where there is none."""
        return as_fix(self.findings)

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.explanation`` document."""
        return {
            "format": "ckptkit.explanation",
            "version": 1,
            "parsed": self.parsed.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        if not self.findings:
            return (
                "Nothing here looks like a failure to load a checkpoint. Give the whole message, with the keys that it "
                "names, or ask with the checkpoint and the model: ckptkit check."
            )
        lines = [line for number, f in enumerate(self.findings) for line in _lines(f, number)]
        used, fix = composed(self.findings)
        if fix is not None and len(used) > 1:
            causes = ", ".join(finding.cause for finding in used[:-1])
            lines += [f"together ({causes} and {used[-1].cause}):", *_config(fix)]
        return "\n".join(lines)


def _lines(finding: Finding, number: int) -> Iterator[str]:
    yield f"{number + 1}. {finding.title}  ({finding.cause}, {finding.confidence})"
    if finding.evidence:
        yield f"   seen in: {finding.evidence}"
    if finding.fix is not None:
        yield f"   fix: {finding.fix.advice}"
        yield from _config(finding.fix)


def _config(fix: Fix) -> list[str]:
    """The fix as it is written into a file, moved in; a config is what stands there."""
    return [f"     {line}".rstrip() for line in write_yaml(fix.config()).splitlines()] if fix.offers else []


def explain(error: str | BaseException | KeyLists) -> Explanation:
    """Name the cause of a load failure, and what repairs it.

    Args:
        error: an error message, a warning or a log as it was pasted, cut or wrapped as it may be; an exception, with
            its notes and what it was raised from; or what `load_state_dict` returns.

    Raises:
        UsageError: of another type.
    """
    parsed = parsed_of(error)
    known = known_findings(error)
    if known:
        return Explanation(parsed, known)
    found: dict[str, Finding] = {}
    candidates = list(findings_of(parsed))
    sides = _sides(parsed, candidates)
    for finding in harmless(candidates, sides, lambda fix: _moves(fix, sides.source)):
        found.setdefault(finding.cause, _brief(finding))
    return Explanation(parsed, tuple(found.values())[:6])


def _sides(parsed: Parsed, findings: Sequence[Finding]) -> Sides:
    """What the text shows of checkpoint and model; the checkpoint's keys under all names that the fixes give them."""
    odd = [m.key for m in parsed.mismatched]
    source = dict.fromkeys([*parsed.unexpected, *odd])
    names: list[str] = list(source)
    for finding in findings:
        if finding.fix is not None and finding.fix.remap:
            # What one fix has renamed is what the next one meets.
            names = [new for key in names if (new := renamed(finding.fix.remap, key))]
            source |= dict.fromkeys(names)
    return Sides(source, [*parsed.missing, *odd], parsed.missing, parsed.unexpected, not parsed.truncated)


def _moves(fix: Fix, keys: Collection[str]) -> list[Move]:
    """What the rules of a fix do to the keys of the text."""
    return [(key, new) for key in keys if (new := renamed(fix.remap, key)) != key] if fix.remap else []


def _brief(finding: Finding) -> Finding:
    """With words of a length that a person reads; keys and rules stay whole."""
    fix = finding.fix and replace(finding.fix, advice=short(finding.fix.advice, _MOST_WORDS))
    return replace(
        finding,
        title=short(finding.title, _MOST_WORDS),
        evidence=short(finding.evidence, _MOST_WORDS),
        fix=fix,
    )
