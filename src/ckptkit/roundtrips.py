"""Whether a remap and its inverse give a checkpoint back: keys, order, shapes, dtypes, ties and bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from .api import planned
from .computed import computed_bytes
from .config.fields import RemapFields
from .errors import PlanError, Problem
from .execute import apply
from .formats.base import Source
from .planned import settled
from .plans import Plan

if TYPE_CHECKING:
    from .config.giving import AnyRemap


@dataclass(frozen=True)
class RoundTrip:
    """What came of a remap and its inverse.

    Args:
        keys: how many keys were compared.
        problems: what differs, each with the key as its location.
    """

    keys: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether everything came back."""
        return not self.problems

    def __str__(self) -> str:
        if self.ok:
            return f"all {self.keys} keys come back: names, order, shapes, dtypes, ties and bytes"
        return "\n".join(f"{p.location}: {p.message}" for p in self.problems)

    def raise_for_errors(self) -> None:
        """Raise a `PlanError` when something did not come back."""
        if not self.ok:
            raise PlanError(
                f"{len(self.problems)} of {self.keys} keys do not come back: {self.problems[0].location}: "
                f"{self.problems[0].message}",
                problems=self.problems,
            )


def verify_roundtrip(
    source: Any, config: AnyRemap | Plan | None = None, **fields: Unpack[RemapFields]
) -> RoundTrip:
    """Remap a checkpoint, undo it, and compare with the original; nothing is written.

    Args:
        source: a path, a Checkpoint, a mapping of tensors, or an `nn.Module`.
        config: as for `remap`.
        fields: likewise.

    Raises:
        PlanError: the rules cannot be carried out, or lose something.
        FormatError: the source cannot be read.
    """
    checkpoint, plan = planned(source, config, fields)
    back = apply(plan.invert(), apply(plan, checkpoint)).source
    before, after = checkpoint.signature, back.signature
    problems = []
    for key, info in before.tensors.items():
        if after.tensors.get(key) != info:
            problems.append(Problem(key, f"was {info}, comes back as {after.tensors.get(key)}"))
        elif info.kind == "object":
            if checkpoint.source.value(key) != back.value(key):
                problems.append(Problem(key, "its value differs"))
        elif _digest(key, checkpoint.source) != _digest(key, back):
            problems.append(Problem(key, "its bytes differ"))
    if list(before) != list(after) and not problems:
        problems.append(Problem("order", "the keys come back in another order"))
    if set(map(frozenset, before.tied)) != set(map(frozenset, after.tied)):
        problems.append(Problem("tied", f"were {before.tied}, come back as {after.tied}"))
    return RoundTrip(len(before), tuple(problems))


def _digest(key: str, source: Source) -> bytes:
    expr, holder = settled(source, key)
    digest = hashlib.blake2b()
    for chunk in computed_bytes(key, expr, holder, {}):
        digest.update(chunk)
    return digest.digest()
