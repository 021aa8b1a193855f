"""From a pasted error to causes and fixes, best first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..composing import as_fix, composed
from ..findings import Finding, Fix
from ..vetoes import Move, Sides, harmless, parts_of
from ..yaml_text import write_yaml
from .fusing import fused, fused_keys
from .given import KeyLists, known_findings, parsed_of
from .messages import message_findings
from .one_sided import buffers, cut_keys, nesting, old_names, quantised, tied
from .other_modules import extra_modules, surplus_modules
from .pairing import pairing_findings
from .parsed import Parsed
from .renaming import renamed
from .shapes import shape_findings
from .special import special_findings
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
            return "Nothing here looks like a failure to load a checkpoint."
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
    candidates = list(_findings(parsed))
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


def _findings(parsed: Parsed) -> Iterator[Finding]:
    """The causes in the order in which they are believed."""
    if not (parsed.missing or parsed.unexpected or parsed.mismatched):
        yield from message_findings(parsed.text)
    special = list(special_findings(parsed))
    yield from special
    if any(finding.cause == "lora_adapter" and finding.confidence == "certain" for finding in special):
        return  # a model inside its adapter: whatever else differs comes from that, and a drop would lose weights
    yield from nesting(parsed)
    explained = {key for finding in special for key in finding.keys}
    rest = replace(
        parsed,
        missing=[key for key in parsed.missing if key not in explained],
        unexpected=[key for key in parsed.unexpected if key not in explained],
    )
    # What no renaming brings together must not be renamed: packed weights, and parts of what is one tensor.
    packed = list(quantised(rest))
    apart = {*fused_keys(rest.missing, rest.unexpected), *(key for finding in packed for key in finding.keys)}
    for keys, others in ((rest.missing, rest.unexpected), (rest.unexpected, rest.missing)):
        wholes = set(others)
        for key, part in parts_of(keys, others).items():
            if part.base in wholes:
                apart |= {key, part.base}
    named = replace(
        rest,
        missing=[key for key in rest.missing if key not in apart],
        unexpected=[key for key in rest.unexpected if key not in apart],
    )
    pairs: list[Finding] = []
    if named.missing and named.unexpected:
        pairs = list(pairing_findings(named.missing, named.unexpected, named.truncated))
    yield from pairs
    yield from packed
    yield from fused(rest)
    rest = named
    if packed and not pairs:
        rest = replace(rest, missing=[], unexpected=[])  # what is left is the other face of the packing
    yield from shape_findings(rest)
    if not pairs:
        yield from tied(rest)
        yield from old_names(rest)
        yield from cut_keys(rest)
        yield from buffers(rest)
        if rest.unexpected or not parsed.unexpected:
            yield from surplus_modules(rest)
    elif not rest.truncated:
        yield from _left_over(rest, pairs)
    yield from message_findings(parsed.text)


def _left_over(parsed: Parsed, pairs: Sequence[Finding]) -> Iterator[Finding]:
    """What the pairing leaves on one side, under the names that it has then."""
    rules = [rule for finding in pairs if finding.fix is not None for rule in finding.fix.remap]
    made = {key: renamed(rules, key) or key for key in parsed.unexpected}
    missing = set(parsed.missing)
    taken = set(made.values())
    filled = {new.rpartition(".")[0] for new in made.values() if new in missing} - {""}
    left = replace(
        parsed,
        missing=[key for key in parsed.missing if key not in taken],
        # A counter that torch adds by itself is in neither list, though its module is in the model.
        unexpected=[
            new for new in made.values() if new not in missing and new.rpartition(".")[0] not in filled
        ],
        mismatched=[],
    )
    if bool(left.missing) != bool(left.unexpected):
        found = list(buffers(left))
        yield from found
        fitting = [new for new in made.values() if new in missing]
        if left.unexpected and not found:
            yield extra_modules(left, fitting)
        elif left.missing and not any(finding.cause == "lora_adapter" for finding in pairs):
            yield from surplus_modules(left, fitting)
