"""Whether an optimizer's state beside the weights still belongs to them after a plan.

torch's goes by the position of parameters, and is exact after a pure rename and after a cast (loading it casts).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from .dtypes import DTYPES
from .expr import Cast, Expr, Read
from .formats.base import OptimizerState
from .plans import Output, Plan
from .text import folded

# Buffers of norm layers, which are no parameters.
_STATISTICS = frozenset(["running_mean", "running_var", "num_batches_tracked"])
_NUMBER = re.compile(r"(?<![^.])[0-9]{1,18}(?![^.])")


def stale_notes(states: Iterable[OptimizerState], plan: Plan) -> list[str]:
    """One line for each optimizer's state that no longer belongs to the weights.

    Args:
        states: what lies beside the weights and is kept as it is.
        plan: what is done to the weights.
    """
    changes = _Changes(plan)
    notes = []
    for state in states:
        why = changes.by_name(state) if state.names & changes.names else changes.by_position(state)
        if why:
            notes.append(
                f"the optimizer state at {state.place!r} is kept as it is and is stale: {why}; start the optimizer anew"
            )
    return notes


@dataclass(frozen=True)
class _Made:
    """What a plan makes of one parameter (of tied keys, one)."""

    key: str
    shape: tuple[int, ...]
    outputs: tuple[Output, ...]

    @property
    def whole(self) -> bool:
        return all(_as_it_is(output.expr) for output in self.outputs)


class _Changes:
    """What a plan does to the tensors that may be parameters."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(self.plan.source)

    @cached_property
    def parameters(self) -> list[_Made]:
        """In the order of the source."""
        source = self.plan.source
        first = {key: group[0] for group in source.tied for key in group}
        tie = {key: group[0] for group in self.plan.ties for key in group}
        readers: dict[str, dict[str, Output]] = {}
        for output in self.plan.outputs:
            for key in output.expr.reads():
                readers.setdefault(first.get(key, key), {}).setdefault(
                    tie.get(output.key, output.key), output
                )
        return [
            _Made(key, info.shape, tuple(readers.get(key, {}).values()))
            for key, info in source.tensors.items()
            if info.kind == "tensor" and first.get(key, key) == key and _may_train(key, info.dtype)
        ]

    def by_name(self, state: OptimizerState) -> str:
        """Why a state that goes by name is stale; empty when it is not."""
        gone = [
            made.key
            for made in self.parameters
            if made.key in state.names
            and not (made.whole and any(output.key == made.key for output in made.outputs))
        ]
        return f"it goes by name, and the plan renames, drops or changes {folded(gone, 3)}" if gone else ""

    def by_position(self, state: OptimizerState) -> str:
        """Why a state that goes by position is stale; empty when it is not."""
        why = []
        dropped = [made for made in self.parameters if not made.outputs]
        kept = [made for made in self.parameters if made.outputs]
        if dropped and not _buffers(dropped, kept, state):
            sure = state.count is None or state.count >= len(self.parameters)
            doubt = "" if sure else " (which may be buffers and then do not matter)"
            why.append(f"drops {folded((made.key for made in dropped), 3)}{doubt}")
        changed = [made.key for made in kept if not made.whole]
        if changed:
            why.append(f"changes shape or layout of {folded(changed, 3)}")
        added = [output.key for made in kept if made.whole for output in made.outputs[1:]]
        added += [output.key for output in self.plan.outputs if not output.expr.reads()]
        if added:
            why.append(f"adds {folded(added, 3)}")
        if not changed and not added and self.reordered:
            why.append("puts parameters into another order")
        return f"it goes by position, and the plan {' and '.join(why)}" if why else ""

    @cached_property
    def reordered(self) -> bool:
        """Whether what is in the file, or what its names say of blocks, comes in another order."""
        place = {made.outputs[0].key: number for number, made in enumerate(self.parameters) if made.outputs}
        source = {made.outputs[0].key: made.key for made in self.parameters if made.outputs}
        now = [place[output.key] for output in self.plan.outputs if output.key in place]
        if not _rising(now):
            return True
        # Old names that still are names: a model keeps their order, whatever lies under them.
        before = {made.key: number for number, made in enumerate(self.parameters)}
        still = sorted((key for key in place if key in before), key=before.__getitem__)
        if not _rising([place[key] for key in still]):
            return True
        blocks: dict[str, list[str]] = {}
        for key in place:
            blocks.setdefault(_template(key), []).append(key)
        return any(_blocks_moved(keys, source, place) for keys in blocks.values())


def _blocks_moved(keys: list[str], source: Mapping[str, str], place: Mapping[str, int]) -> bool:
    """Whether names that differ in numbers only are not in the order of the numbers, though the old ones were."""
    if len({_template(source[key]) for key in keys}) == 1:
        if not _rising([place[key] for key in sorted(keys, key=lambda key: _numbers(source[key]))]):
            return False
    return not _rising([place[key] for key in sorted(keys, key=_numbers)])


def _as_it_is(expr: Expr) -> bool:
    while isinstance(expr, Cast):
        (expr,) = expr.of
    return isinstance(expr, Read)


def _may_train(key: str, dtype: str) -> bool:
    known = DTYPES.get(dtype)
    trains = known is None or known.kind in ("float", "complex")
    return trains and key.rpartition(".")[2] not in _STATISTICS


def _buffers(dropped: Sequence[_Made], kept: Sequence[_Made], state: OptimizerState) -> bool:
    """Whether the shapes in the state show that it holds none of what was dropped."""
    if state.shapes is None:
        return False
    if not {made.shape for made in dropped} & set(state.shapes):
        return True
    return Counter(state.shapes) == Counter(made.shape for made in kept)


def _rising(numbers: Sequence[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _numbers(key: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(key)]


def _template(key: str) -> str:
    return _NUMBER.sub("#", key)
