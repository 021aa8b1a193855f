"""What a finding may offer: no rule touches a part of a tensor, and a drop of what was trained is a guess with its price.

Diagnosis and explanation both pass their findings through here, with what the rules of each do to names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..findings import Finding, Fix
from ..patterns import compile_pattern
from ..text import counted, folded
from .derived import is_buffer
from .parts import Parts, by_scheme, parts_of
from .table import (
    ADAPTER,
    PARAMETRIZED,
    PRUNING,
    QUANTISED,
    SPECTRAL,
    UNKNOWN,
    WEIGHT_NORM,
    WHOLE,
    Part,
    named,
)

Move = tuple[str, str | None]
Moves = Callable[[Fix], Sequence[Move]]


@dataclass(frozen=True)
class Sides:
    """Two sides that do not fit, as far as they are known.

    Args:
        source, target: all keys that are known of each.
        missing, unexpected: those that one side alone has.
        complete: whether nothing else differs; a text may be cut.
        sizes: how many numbers each source key has; None when nobody knows.
        narrow: source keys that hold no floating point, or floats of 8 bits.
    """

    source: Collection[str]
    target: Collection[str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    complete: bool = True
    sizes: Mapping[str, int] | None = None
    narrow: Collection[str] = ()

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """The parts of tensors on either side."""
        return (
            parts_of(self.source, self.missing, self.narrow),
            parts_of(self.target, self.unexpected),
        )


def harmless(findings: Sequence[Finding], sides: Sides, moves: Moves) -> Iterator[Finding]:
    """The findings that may be shown, in their order, with what is known of tensors in parts.

    Args:
        findings: best first.
        sides: what they are about.
        moves: what the rules of a fix do: each source key that they touch with its new name, None when it is dropped,
            and "" when it becomes something else than a tensor of one name.
    """
    view = _View(sides, *sides.parts)
    kept: list[Finding] = []
    for finding in findings:
        done = () if finding.fix is None else moves(finding.fix)
        if finding.fix is None or not _touches_parts(finding.fix, done, view):
            kept.append(_priced(finding, [key for key, new in done if new is None], sides))
    told = {finding.cause for finding in kept if finding.fix is None or not finding.fix.offers}
    parted = [each for each in parted_findings(view, len(kept) < len(findings)) if each.cause not in told]
    most = min(filter(None, (len(sides.missing), len(sides.unexpected))), default=0)
    first = [each for each in parted if each.confidence == "certain" and 2 * len(each.keys) >= most]
    yield from (*first, *kept, *(each for each in parted if each not in first))


def _touches_parts(fix: Fix, moves: Sequence[Move], view: _View) -> bool:
    if any(view.harms(old, new) for old, new in moves):
        return True
    allowed = [*_patterns(fix.load.get("allow_missing")), *_patterns(fix.load.get("allow_unexpected"))]
    for entry in fix.load.get("adapt", ()):
        allowed += _patterns(entry["keys"])
    return any(pattern.matches(key) for pattern in allowed for key in (*view.source, *view.target))


def _patterns(patterns: Any) -> list[Any]:
    return [compile_pattern(each) for each in patterns or ()]


class _View:
    """Both sides, and the parts of tensors on each."""

    def __init__(self, sides: Sides, source: Parts, target: Parts) -> None:
        self.sides, self.source, self.target = sides, source, target
        self.keys = (frozenset(sides.source), frozenset(sides.target))
        self.roles = (_roles(source), _roles(target))

    def harms(self, old: str, new: str | None) -> bool:
        """Whether a part is dropped, becomes a whole tensor or another part, or a whole tensor becomes a part."""
        part = self.source.get(old)
        if part is None:
            return new in self.target
        if new and f".{new}".endswith(f".{part.spelled}"):
            return False  # the tensor moves with all its parts
        wanted = None if not new else self.target.get(new) or named(new)
        return wanted is None or not self._same(part, wanted)

    def _same(self, part: Part, wanted: Part) -> bool:
        """Whether it is one part of one scheme, spelled in two ways, and both sides have all parts of the tensor."""
        schemes = {part.scheme, wanted.scheme}
        whole = next((parts for scheme, parts in WHOLE.items() if scheme in schemes), None)
        if part.role != wanted.role or whole is None or part.role not in whole:
            return False
        if part.base in self.keys[0] or wanted.base in self.keys[1]:
            return False  # the tensor is whole on one side
        ours, theirs = self.roles[0].get(part.base, set()), self.roles[1].get(wanted.base, set())
        # A text that is cut, or that has one list only, does not show everything.
        known = self.sides.complete and self.source and self.target
        return not known or (whole <= ours and whole <= theirs)


def _roles(parts: Parts) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part in parts.values():
        found.setdefault(part.base, set()).add(part.role)
    return found


def _priced(finding: Finding, dropped: Sequence[str], sides: Sides) -> Finding:
    """A drop of what was trained is a guess, and says what it costs."""
    trained = [key for key in dropped if not is_buffer(key)]
    if not trained or finding.fix is None:
        return finding
    if sides.sizes is None:
        verb = "is" if len(trained) == 1 else "are"
        price = (
            f"{counted(len(trained), 'trained tensor')} {verb} lost then, and the text does not tell which share of the "
            "parameters that is"
        )
    else:
        share = sum(sides.sizes.get(key, 0) for key in trained) / max(sum(sides.sizes.values()), 1)
        price = f"with {folded(trained, 2)}, {share:.2%} of the checkpoint's parameters are lost"
    fix = replace(finding.fix, advice=f"{finding.fix.advice}; {price}")
    return replace(finding, confidence="guess", fix=fix)


def parted_findings(view: _View, asked: bool) -> Iterator[Finding]:
    """For each scheme by which a tensor is in parts on one side: which keys, and what puts them together.

    Args:
        view: what does not fit.
        asked: whether to name also what the names alone tell, without the whole tensor on the other side.
    """
    sides, source, target = view.sides, view.source, view.target
    ours, theirs = by_scheme(source, sides.unexpected), by_scheme(target, sides.missing)
    differing = {*sides.missing, *sides.unexpected}
    both = {part.scheme for part in source.values()} & {part.scheme for part in target.values()}
    for scheme in dict.fromkeys([*ours, *theirs]):
        keys = [*ours.get(scheme, ()), *theirs.get(scheme, ())]
        bases = {(source.get(key) or target[key]).base for key in keys}
        seen = not differing.isdisjoint(bases)
        if not (seen and scheme not in both) and not asked and (scheme in both or sides.sizes is None):
            continue
        if scheme in both:
            title = f"checkpoint and model both keep tensors in parts ({scheme}), and the parts differ"
            advice = "compare how the two were set up; the parts of a tensor belong together, so that none goes alone"
        else:
            side = "checkpoint" if scheme in ours else "model"
            title = f"the {side} keeps {counted(len(bases), 'tensor')} in parts ({scheme}), the other side does not"
            advice = _ADVICE[scheme][side == "model"]
        yield Finding(
            {ADAPTER: "lora_adapter", QUANTISED: "quantized"}.get(scheme, "parametrization"),
            title,
            f"{folded(keys, 3)} {'belongs' if len(keys) == 1 else 'belong'} to {folded(sorted(bases), 2)}",
            tuple(keys),
            "certain" if seen and scheme not in (*both, UNKNOWN) else "likely",
            Fix(advice),
        )


_BUILD = "or build the model as the checkpoint's was"
_NORM = "remove the normalisation (remove_weight_norm, remove_spectral_norm, remove_parametrizations)"
# What to do where the checkpoint has the parts, and where the model has them.
_ADVICE = {
    PRUNING: (
        "make the pruning permanent where the checkpoint comes from (torch.nn.utils.prune.remove multiplies weight_orig by "
        "weight_mask) and save that; a rename would bring back what was pruned",
        "load the checkpoint first and prune the model then; a model that is pruned already has a mask of its own",
    ),
    WEIGHT_NORM: (
        f"{_NORM} where the checkpoint comes from and save that, {_BUILD}; no renaming folds two tensors into one",
        "load the checkpoint before the model is normalised; its tensors are whole",
    ),
    SPECTRAL: (
        f"{_NORM} where the checkpoint comes from and save that, {_BUILD}; the weight is divided by what its vectors tell",
        "load the checkpoint before the model is normalised; its tensors are whole",
    ),
    ADAPTER: (
        "merge the adapter into the base (merge_and_unload()) and save that, or wrap the model with get_peft_model and "
        "the same config before loading; without its tensors what was trained is lost",
        "load the base weights before get_peft_model wraps the model, or the adapter file into the wrapped one",
    ),
    QUANTISED: (
        "build the model with the same quantisation, or take the weights before it; the values mean nothing without their "
        "scales",
        "load the checkpoint into the model before it is quantised, or take a checkpoint of the same quantisation",
    ),
}  # fmt: skip
_OTHER = (
    f"put the parts together with the code that made them (remove_parametrizations) and save that, {_BUILD}; none of "
    "them alone is the tensor",
    "load the checkpoint before the model's tensors are made of parts; the checkpoint's are whole",
)
_ADVICE |= {PARAMETRIZED: _OTHER, UNKNOWN: _OTHER}
