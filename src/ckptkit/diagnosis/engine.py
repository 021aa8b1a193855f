"""The set of causes that accounts for everything: the best one, its fix applied, and again with what is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ..explanation import findings_of, shape_findings
from ..findings import Finding
from ..vetoes import Sides, harmless
from .evidence import Evidence
from .inferred import inferred_findings
from .names import name_findings
from .transposed import transposed

_MOST = 8  # causes of one failure
_NAMES = {"prefix_strip", "prefix_add", "rename", "parametrization", "lora_adapter"}
_PARTS = {"parametrization", "lora_adapter", "quantized"}


def accounts(evidence: Evidence) -> list[Finding]:
    """The causes that together account for what does not fit, in the order in which their fixes are applied.

    Args:
        evidence: both sides.
    """
    found: list[Finding] = []
    while evidence.left and len(found) < _MOST:
        best = _best(evidence)
        if best is None:
            break
        found.append(best[0])
        evidence = best[1]
    if evidence.left:  # nobody is certain while keys are unexplained
        found = [_doubted(each) for each in found]
    return found


def _doubted(finding: Finding) -> Finding:
    return replace(finding, confidence="likely") if finding.confidence == "certain" else finding


Tried = tuple[Finding, Evidence]


def _best(evidence: Evidence) -> Tried | None:
    """The cause that comes first, and what it leaves: parts of tensors, names, shapes, what one side alone has."""
    told = list(findings_of(evidence.parsed()))
    offered = [each for each in told if each.cause in _NAMES and each.fix is not None and each.fix.remap]
    others = [each for each in told if each not in offered]
    sides = evidence.sides()
    return (
        _first(evidence, filter(_is_parted, _vetted(evidence, sides, others)))
        or _renaming(evidence, sides, [*name_findings(evidence), *offered])
        or _first(evidence, _vetted(evidence, sides, _of_shapes(evidence)))
        or _first(evidence, _vetted(evidence, sides, [*_depths(evidence), *others]))
    )


def _depths(evidence: Evidence) -> list[Finding]:
    return [each for each in name_findings(evidence) if each.cause not in _NAMES]


def _is_parted(finding: Finding) -> bool:
    """Whether tensors are in parts on one side, so that no other name is a renaming of theirs."""
    offers = finding.fix is not None and finding.fix.offers
    return finding.cause in _PARTS and finding.confidence == "certain" and not offers


def _vetted(evidence: Evidence, sides: Sides, findings: Iterable[Finding]) -> list[Finding]:
    """Findings that may be shown, none of them wider than what was seen."""
    narrowed = [
        each if each.fix is None else replace(each, fix=evidence.narrowed(each.fix)) for each in findings
    ]
    return list(harmless(narrowed, sides, evidence.moves))


def _first(evidence: Evidence, findings: Iterable[Finding]) -> Tried | None:
    """The first finding that accounts for something."""
    for finding in findings:
        after = evidence.after(finding)
        if after is not None and after.left < evidence.left:
            return finding, after
    return None


def _renaming(evidence: Evidence, sides: Sides, findings: Sequence[Finding]) -> Tried | None:
    """The renaming that leaves least; the inferred one where the others leave names."""
    found = list(_tried(evidence, _vetted(evidence, sides, findings)))
    if all(after.missing for _, after in found):
        found += _tried(evidence, _vetted(evidence, sides, inferred_findings(evidence)))
    if not found:
        return None
    finding, after = min(found, key=lambda each: each[1].left)
    rivals = [
        other for other, left in found
        if left.left == after.left and left.source.keys() != after.source.keys() and other is not finding
    ]  # fmt: skip
    return (_doubted(finding) if rivals else finding), after


def _tried(evidence: Evidence, findings: Iterable[Finding]) -> Iterator[Tried]:
    """Renamings that pair off keys, most of them with the shapes that they should have."""
    odd = {m.key for m in evidence.mismatched}
    for finding in findings:
        if finding.fix is None or not finding.fix.remap:
            continue
        after = evidence.after(finding)
        if after is None or after.left >= evidence.left:
            continue
        paired = len(evidence.missing) - len(after.missing)
        unlike = sum(m.key not in odd for m in after.mismatched)
        # A prefix is plain where it pairs off all keys, whatever their shapes; another name with another shape is none.
        whole = finding.cause in ("prefix_strip", "prefix_add") and 5 * paired >= 4 * len(evidence.missing)
        if paired > 0 and (whole or 4 * unlike <= paired):
            yield finding, after


def _of_shapes(evidence: Evidence) -> Iterator[Finding]:
    """Causes of shapes that differ; keys that one side alone has count where they are many."""
    yield from transposed(evidence)
    apart = len(evidence.missing) + len(evidence.unexpected)
    yield from shape_findings(evidence.parsed(lists=2 * apart > len(evidence.target)))
