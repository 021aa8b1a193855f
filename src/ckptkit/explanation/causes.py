"""From the facts of a failure to its causes: what is believed first, and what that leaves to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..findings import Finding
from ..vetoes import parts_of
from .fusing import fused, fused_keys
from .messages import message_findings
from .one_sided import buffers, cut_keys, nesting, old_names, quantised, tied
from .other_modules import extra_modules, surplus_modules
from .pairing import pairing_findings
from .parsed import Parsed
from .renaming import renamed
from .shapes import shape_findings
from .special import special_findings


def findings_of(parsed: Parsed) -> Iterator[Finding]:
    """The causes in the order in which they are believed.

    Args:
        parsed: what does not fit, from a text or from the two sides themselves.
    """
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
    left = _renamed(rest, pairs) if pairs and not rest.truncated else rest
    shapes = list(shape_findings(left))
    yield from shapes
    if shapes and not any(finding.cause in ("arch_mismatch", "sharding") for finding in shapes):
        # The shapes are explained; what is left has causes of its own.
        told = {key for finding in shapes for key in finding.keys}
        odd = [m for m in left.mismatched if m.key not in told]
        rest, left = replace(rest, mismatched=odd), replace(left, mismatched=odd)
    if not pairs:
        yield from tied(rest)
        yield from old_names(rest)
        yield from cut_keys(rest)
        yield from buffers(rest)
        if rest.unexpected or not parsed.unexpected:
            yield from surplus_modules(rest)
    elif not rest.truncated:
        yield from _left_over(left, [key for key in rest.missing if key not in set(left.missing)])
    yield from message_findings(parsed.text)


def _renamed(parsed: Parsed, pairs: Sequence[Finding]) -> Parsed:
    """What the pairing leaves, under the names that it has then."""
    rules = [rule for finding in pairs if finding.fix is not None for rule in finding.fix.remap]
    made = [renamed(rules, key) or key for key in parsed.unexpected]
    missing, taken = set(parsed.missing), set(made)
    filled = {new.rpartition(".")[0] for new in made if new in missing} - {""}
    return replace(
        parsed,
        missing=[key for key in parsed.missing if key not in taken],
        # A counter that torch adds by itself is in neither list, though its module is in the model.
        unexpected=[new for new in made if new not in missing and new.rpartition(".")[0] not in filled],
    )


def _left_over(left: Parsed, fitting: Sequence[str]) -> Iterator[Finding]:
    """What stands on one side after the pairing."""
    left = replace(left, mismatched=[])
    if bool(left.missing) != bool(left.unexpected):
        found = list(buffers(left))
        yield from found
        if left.unexpected and not found:
            yield extra_modules(left, fitting)
        elif left.missing and not any("lora_" in key for key in fitting):
            yield from surplus_modules(left, fitting)
