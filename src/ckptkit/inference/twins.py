"""Towers of the source that are copies of one another: teacher and student, online and target, A and B."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .candidate import Candidate
from .groups import Group
from .lexicon import TWINS, WRAPPERS
from .ordering import TIE
from .words import subwords

Prefix = tuple[str, ...]
SHARE = 0.8  # of two towers, that must be equal
LEAST_TOWER = 4
MOST_TWINS = 8
LEAST_SCORE = 0.15


def shadows(groups: Iterable[Group]) -> set[Group]:
    """Groups in towers that are the second of an equal pair: encoder_k beside encoder_q, target beside online."""
    below: dict[Prefix, set[str]] = {}
    places: dict[Prefix, set[Group]] = {}
    for group in groups:
        for depth, token in enumerate(group.template[:-1]):
            if "{}" in token:
                break
            below.setdefault(group.template[:depth], set()).add(token)
            places.setdefault(group.template[: depth + 1], set()).add(group)
    found: set[Group] = set()
    for prefix, tokens in below.items():
        for token in tokens:
            for first, second in TWINS:
                words = subwords(token)
                if second in words:
                    wanted = tuple(first if word == second else word for word in words)
                    for other in tokens:
                        if subwords(other) == wanted:
                            towers = places[(*prefix, token)], places[(*prefix, other)]
                            found |= _equal_part(*towers, len(prefix) + 1)
    return found


def _equal_part(second: set[Group], first: set[Group], depth: int) -> set[Group]:
    """The groups of the second tower, if most of it is in the first one too."""
    known = {(_unwrapped(g.template[depth:]), g.shapes) for g in first}
    same = sum((_unwrapped(g.template[depth:]), g.shapes) in known for g in second)
    return second if same >= SHARE * max(len(second), len(first)) else set()


def _unwrapped(template: Prefix) -> Prefix:
    return tuple(token for token in template if token not in WRAPPERS)


def second_towers(rows: Mapping[Group, list[Candidate]], every: Iterable[Group]) -> set[Group]:
    """The later of equal towers of the source between which nothing decides, where the target has one: B beside A.

    Args:
        rows: target group to its candidates, scored.
        every: all groups of the source.
    """
    pairs: dict[tuple[str, str], int] = {}
    wanted = Counter[frozenset[Group]]()
    for found in rows.values():
        top = max(c.score for c in found)
        best = {c.source for c in found if c.score >= max(top - TIE, LEAST_SCORE)}
        wanted[frozenset(best)] += 1
        sources = sorted(best, key=lambda g: g.template)[:MOST_TWINS]
        for n, one in enumerate(sources):
            for other in sources[n + 1 :]:
                place = _only_difference(one, other)
                if place is not None:
                    tokens = one.template[place], other.template[place]
                    pairs[tokens] = pairs.get(tokens, 0) + 1
    known = {group.template: group for group in every}
    later: set[Group] = set()
    for (first, second), times in pairs.items():
        if times >= LEAST_TOWER:
            for template, group in known.items():
                twin = tuple(first if token == second else token for token in template)
                if twin != template and twin in known:
                    later.add(group)
    # Where as many targets want them as there are towers, both are meant.
    return later - {g for sources, n in wanted.items() if 2 * n > len(sources) for g in sources}


def _only_difference(one: Group, other: Group) -> int | None:
    """Which token alone differs, where two groups have the same shapes; never an index."""
    if len(one.template) != len(other.template) or one.shapes != other.shapes:
        return None
    places = [n for n, (a, b) in enumerate(zip(one.template, other.template, strict=True)) if a != b]
    if len(places) != 1 or "{}" in one.template[places[0]]:
        return None
    if one.template[-1].isdigit() and places[0] == len(one.template) - 1:
        return None  # items of a list that are single modules are parts, not towers
    return places[0]


def copies_of_one(one: Group, other: Group, target: Group) -> bool:
    """Whether two groups differ in one token only, which names a tower, and of which the target has neither."""
    if len(one.template) != len(other.template):
        return False
    differing = [n for n, (a, b) in enumerate(zip(one.template, other.template, strict=True)) if a != b]
    if len(differing) != 1 or any("{}" in t for t in one.template[: differing[0] + 1]):
        return False
    names = {one.template[differing[0]], other.template[differing[0]]}
    return differing[0] < len(one.template) - 1 and not names & set(target.template)
