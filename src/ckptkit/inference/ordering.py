"""Groups that are equal but for their place: their order by number, or by the stage of a block that words stand for."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from .candidate import Candidate
from .groups import Group
from .lexicon import JUST_NORM, STAGES
from .words import stage

Pairs = Mapping[tuple[Group, Group], Candidate]
TIE = 0.015  # a smaller preference for one pairing over another is none
PLAIN = 75  # where a norm without a name of its own stands among norms that have one


def in_order(sources: Collection[Group], targets: Collection[Group], pairs: Pairs) -> list[Candidate]:
    """The candidates that pair equals in the order of both sides.

    Args:
        sources, targets: as many of one as of the other.
        pairs: a candidate for each pair of them.

    Returns:
        One candidate for each; none if a side has no order, the scores prefer a pairing, or two sources could share a
        target.
    """
    if not _exclusive(sources, targets, pairs) or _leaning(sources, targets, pairs) > TIE:
        return []
    mine, theirs = order(sources), order(targets)
    if mine is None or theirs is None:
        return []
    return [pairs[s, t] for s, t in zip(mine, theirs, strict=True)]


def _exclusive(sources: Collection[Group], targets: Iterable[Group], pairs: Pairs) -> bool:
    """Whether no two sources could fill one of the targets together, each a part of it."""
    found = list(sources)
    return all(
        pairs[a, t].competes(pairs[b, t])
        for t in targets
        for n, a in enumerate(found)
        for b in found[n + 1 :]
    )


def _leaning(sources: Collection[Group], targets: Collection[Group], pairs: Pairs) -> float:
    """How much the scores prefer one pairing of equals over another: the largest 2x2 interaction."""
    mine, theirs = list(sources), list(targets)
    return max(
        abs(pairs[a, x].score + pairs[b, y].score - pairs[a, y].score - pairs[b, x].score)
        for n, a in enumerate(mine)
        for b in mine[n + 1 :]
        for m, x in enumerate(theirs)
        for y in theirs[m + 1 :]
    )


def order(groups: Iterable[Group]) -> list[Group] | None:
    """The groups in the order their numbers or, where these are missing, their stages give; None without one."""
    groups = sorted(groups, key=lambda g: g.template)
    if len({_words(g) for g in groups}) == 1:
        return _by_numbers(groups)
    shared = set.intersection(*({token for token, _ in g.tokens} for g in groups))
    places = [_stage(g, shared) for g in groups]
    if places.count(None) == 1:
        nameless = groups[places.index(None)]
        if all("norm" in g.tokens[-1][1] for g in groups) and set(nameless.tokens[-1][1]) <= JUST_NORM:
            places[places.index(None)] = PLAIN
    staged = sorted(((place, n) for n, place in enumerate(places) if place is not None))
    if len({place for place, _ in staged}) == len(staged) > 0:
        late = [groups[n] for _, n in staged]
        counted = [g for g, place in zip(groups, places, strict=True) if place is None]
        if not counted:
            return late
        first = _by_numbers(counted) if len({_words(g) for g in counted}) == 1 else None
        if first is not None and staged[0][0] >= STAGES["gate"]:
            return [*first, *late]  # what is only counted stands before the MLP
    return _by_numbers(groups)


def _words(group: Group) -> tuple[tuple[str, ...], ...]:
    return tuple(found for _, found in group.tokens)


def _by_numbers(groups: Sequence[Group]) -> list[Group] | None:
    """In the order of their numbers, where no two have the same and none begins another's."""
    ordered = sorted(groups, key=lambda g: g.numbers)
    numbers = [g.numbers for g in ordered]
    for one, other in itertools.pairwise(numbers):
        if not one or other[: len(one)] == one:
            return None
    return ordered


def _stage(group: Group, shared: set[str]) -> int | None:
    """The stage that the first telling token inside the block names, first of those that not all groups have."""
    last = max((n for n, t in enumerate(group.template) if "{}" in t), default=-1)
    inside = group.template[last + 1 :]
    for common in (False, True):
        for token, found in group.tokens:
            if token in inside and (common or token not in shared):
                # norm_out may be the outer one: of a norm the word says nothing.
                telling = tuple(c for c in found if c != "out") if "norm" in found else found
                place = stage(telling)
                if place is not None:
                    return place
    return None
