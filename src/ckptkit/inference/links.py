"""A normalisation goes where the convolution goes that it normalises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .candidate import Candidate
from .groups import Group, Index, Shape, written
from .virtual import Fused, Stacked, atom
from .words import subwords

Instance = tuple[Group, Index]
SAMPLE = 8
_KINDS = {"bn", "norm", "batchnorm", "normalization", "batch", "conv", "convolution", "weight"}


class Links:
    """Which batch norm belongs to which convolution, on both sides, and where the convolutions went.

    Args:
        source, target: the real groups of both sides.
    """

    def __init__(self, source: Iterable[Group], target: Iterable[Group]) -> None:
        self._mine, self._theirs = linked(source), linked(target)
        self._went: dict[Instance, Instance] = {}
        self._came: dict[Instance, Instance] = {}

    def note(self, c: Candidate) -> None:
        """Remember where the modules of a match went."""
        if self._mine and self._theirs:
            for one, other in _pairs(c):
                self._went[one], self._came[other] = other, one

    def worth(self, c: Candidate) -> float:
        """1 where the convolutions of two norms are matched, -1 where one of them is matched elsewhere, else 0."""
        if not self._mine or "running_mean" not in c.target.leaves:
            return 0.0
        pairs = list(_pairs(c))
        total = seen = 0
        for one, other in pairs[:: max(1, len(pairs) // SAMPLE)]:
            source, target = self._mine.get(one), self._theirs.get(other)
            if source is not None and target is not None and (source in self._went or target in self._came):
                seen += 1
                total += 1 if self._went.get(source) == target else -1
        return total / seen if seen else 0.0


def _pairs(c: Candidate) -> Iterable[tuple[Instance, Instance]]:
    if isinstance(c.source, (Fused, Stacked)) or isinstance(c.target, (Fused, Stacked)):
        return
    for theirs, mine in c.instance_pairs.items():
        yield atom(c.source, mine)[:2], atom(c.target, theirs)[:2]


@dataclass(frozen=True, slots=True)
class _Module:
    name: str
    instance: Instance
    shape: Shape


def linked(groups: Iterable[Group]) -> dict[Instance, Instance]:
    """Each batch norm with the one convolution beside it whose outputs it normalises."""
    groups = list(groups)
    if not any("running_mean" in group.leaves for group in groups):
        return {}
    beside: dict[tuple[str, ...], tuple[list[_Module], list[_Module]]] = {}
    for group in groups:
        for index, shape in zip(group.indices, group.shapes, strict=True):
            norm = "running_mean" in group.instances[index]
            if shape and (norm or len(shape) > 1):
                path = written(group.template, index, range(len(index)))
                if path:
                    module = _Module(path[-1], (group, index), shape)
                    beside.setdefault(path[:-1], ([], []))[norm].append(module)
    found: dict[Instance, Instance] = {}
    for convs, norms in beside.values():
        trailing = _trailing(convs, norms)
        for norm_ in norms:
            conv = _conv(norm_, [c for c in convs if c.shape[0] == norm_.shape[0]], trailing)
            if conv is not None:
                found[norm_.instance] = conv.instance
    return found


def _trailing(convs: list[_Module], norms: list[_Module]) -> bool:
    """Whether norms follow their convolutions in a sequence: its last item is one.

    Where it is a convolution, norms may stand before theirs, or the last convolution has none.
    """
    numbered = [[int(m.name) for m in modules if m.name.isdigit()] for modules in (convs, norms)]
    return max(numbered[1], default=-1) > max(numbered[0], default=-1)


def _conv(norm: _Module, fitting: list[_Module], trailing: bool) -> _Module | None:
    """Of siblings with as many outputs the one of the same name, the one before it, or the only one."""
    named = [c for c in fitting if _stem(c.name) == _stem(norm.name)]
    if norm.name.isdigit():
        before = [c for c in fitting if c.name.isdigit() and int(c.name) < int(norm.name)]
        if before:
            return max(before, key=lambda c: int(c.name)) if trailing else None
    elif len(named) == 1:
        return named[0]
    return fitting[0] if len(fitting) == 1 else None


def _stem(name: str) -> tuple[str, ...]:
    """A module's own name without the words for its kind: ``1`` of ``bn1`` and ``conv1``."""
    return tuple(w for w in subwords(name) if w not in _KINDS)
