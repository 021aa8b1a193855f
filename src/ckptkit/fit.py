"""Whether a planned result has the keys and shapes that a target asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .signatures import Signature
from .text import fold

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a signature compares with the target's.

    Args:
        matched: target keys that are there with the right shape.
        missing: target keys that are not there, nor tied to one that is.
        unexpected: keys that the target does not have.
        mismatched: (key, its shape here, its shape in the target).
        tied: (target key that is not there, key tied to it in the target that is).
        tensors: share of the target's tensors that are filled.
        parameters: share of the target's elements that are filled, tied ones counted once.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, Shape, Shape], ...]
    tied: tuple[tuple[str, str], ...]
    tensors: float
    parameters: float

    @property
    def ok(self) -> bool:
        """Whether a strict load would take the result."""
        return not (self.missing or self.unexpected or self.mismatched)

    def lines(self) -> list[str]:
        """What does not fit, one line per block of keys."""
        lines = []
        for title, keys in (
            ("missing, the target asks for them", self.missing),
            ("unexpected, the target does not have them", self.unexpected),
        ):
            if keys:
                lines.append(f"{title}: {len(keys)} key{'' if len(keys) == 1 else 's'}")
                lines.extend(f"  {each.label}" for each in fold(keys))
        if self.mismatched:
            lines.append(
                f"other shapes: {len(self.mismatched)} key{'' if len(self.mismatched) == 1 else 's'}"
            )
            shapes = [(here, there) for _, here, there in self.mismatched]
            of = {key: (here, there) for key, here, there in self.mismatched}
            for each in fold([key for key, _, _ in self.mismatched], shapes):
                here, there = of[each.keys[0]]
                lines.append(f"  {each.label}: {list(here)} here, {list(there)} in the target")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.load_report`` document."""
        return {
            "format": "ckptkit.load_report",
            "version": 1,
            "ok": self.ok,
            "loaded": list(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": [
                {"key": key, "source_shape": list(here), "target_shape": list(there)}
                for key, here, there in self.mismatched
            ],
            "adapted": [],
            "tied": [{"key": key, "from": partner} for key, partner in self.tied],
            "coverage": {"tensors": self.tensors, "parameters": self.parameters},
            "findings": [],
        }


def fit(planned: Signature, target: Signature) -> Fit:
    """Compare keys and shapes; dtypes may differ, as a load converts them.

    Args:
        planned: what would be written.
        target: the signature it has to fit.
    """
    matched, mismatched, absent = [], [], []
    for key, wanted in target.tensors.items():
        found = planned.tensors.get(key)
        if found is None:
            absent.append(key)
        elif (found.kind, found.shape) == (wanted.kind, wanted.shape):
            matched.append(key)
        else:
            mismatched.append((key, found.shape, wanted.shape))
    group_of = {key: group for group in target.tied for key in group}
    filled = set(matched)
    tied: list[tuple[str, str]] = []
    missing = []
    for key in absent:
        partner = next((other for other in group_of.get(key, ()) if other in filled), None)
        if partner is None:
            missing.append(key)
        else:
            tied.append((key, partner))
    first = {key: group[0] for group in target.tied for key in group}
    done = {first.get(key, key) for key in matched}
    wanted_numel = target.numel
    share = sum(target[key].numel for key in done) / wanted_numel if wanted_numel else 1.0
    return Fit(
        tuple(matched),
        tuple(missing),
        tuple(key for key in planned if key not in target),
        tuple(mismatched),
        tuple(tied),
        (len(matched) + len(tied)) / len(target) if len(target) else 1.0,
        share,
    )
