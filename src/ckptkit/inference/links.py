"""A normalisation goes where the convolution goes that it normalises."""

from __future__ import annotations

from collections.abc import Iterable

from .candidates import Candidate
from .groups import Group, Index
from .align import ranked
from .virtual import Fused, Part, Stacked
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
        self._wanted = set(self._mine.values())
        self._went: dict[Instance, Instance] = {}
        self._came: dict[Instance, Instance] = {}

    def note(self, c: Candidate) -> None:
        """Remember where a convolution went."""
        source, target = _origin(c.source), _origin(c.target)
        if source in self._wanted and not isinstance(source, (Fused, Stacked)) and not isinstance(target, (Fused, Stacked)):
            for theirs, mine in (c.pairs if c.pairs is not None else ranked(c.source, c.target)).items():
                one, other = (source, _place(c.source, mine)), (target, _place(c.target, theirs))
                self._went[one], self._came[other] = other, one

    def worth(self, c: Candidate) -> float:
        """1 where the convolutions of two norms are matched, -1 where one of them is matched elsewhere, else 0."""
        source, target = self._mine.get(_origin(c.source)), self._theirs.get(_origin(c.target))
        if source is None or target is None:
            return 0.0
        pairs = list((c.pairs if c.pairs is not None else ranked(c.source, c.target)).items())
        total = seen = 0
        for theirs, mine in pairs[:: max(1, len(pairs) // SAMPLE)]:
            one, other = (source, _place(c.source, mine)), (target, _place(c.target, theirs))
            if one in self._went or other in self._came:
                seen += 1
                total += 1 if self._went.get(one) == other else -1
        return total / seen if seen else 0.0


def _origin(group: Group) -> Group:
    return group.origin if isinstance(group, Part) else group


def _place(group: Group, index: Index) -> Index:
    return group.places[index] if isinstance(group, Part) else index


def linked(groups: Iterable[Group]) -> dict[Group, Group]:
    """Each batch norm with the one convolution beside it whose outputs it normalises."""
    beside: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        beside.setdefault(group.template[:-1], []).append(group)
    found: dict[Group, Group] = {}
    for siblings in beside.values():
        for norm in siblings:
            if "running_mean" in norm.leaves:
                fitting = [g for g in siblings if g is not norm and _feeds(g, norm)]
                named = [g for g in fitting if _stem(g) == _stem(norm)]
                before = [g for g in fitting if _number(g) is not None and (_number(norm) or 0) > (_number(g) or 0)]
                if len(named) == 1:
                    found[norm] = named[0]
                elif _number(norm) is not None and before:
                    found[norm] = max(before, key=lambda g: _number(g) or 0)
                elif len(fitting) == 1:
                    found[norm] = fitting[0]
    return found


def _feeds(conv: Group, norm: Group) -> bool:
    return conv.indices == norm.indices and all(
        a is not None and b is not None and len(a) > 1 and a[0] == b[0]
        for a, b in zip(conv.shapes, norm.shapes, strict=True)
    )


def _stem(group: Group) -> tuple[str, ...]:
    """A module's own name without the words for its kind: ``1`` of ``bn1`` and ``conv1``."""
    return tuple(w for w in subwords(group.template[-1]) if w not in _KINDS) if group.template else ()


def _number(group: Group) -> int | None:
    token = group.template[-1] if group.template else ""
    return int(token) if token.isdigit() else None
