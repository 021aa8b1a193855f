"""What keeps an answer from being certain, however well it fits: numbers, roles and own names that speak against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .groups import INDEX, Group, Index
from .lexicon import EXCLUSIVE, KINDS, SETTING_APART, STRUCTURE
from .match import Match
from .related import akin
from .words import shown

_FIRST = (0, 1)  # what people count from


def doubt(match: Match) -> str | None:
    """Why a match cannot be certain, in one line; None where nothing speaks against it."""
    c = match.candidate
    if match.also is not None:
        return f"it also fits {match.also}; verify which of them is wanted"
    told = c.target.unequal and len(c.target.instances) > 1
    if not told and _renumbered(c.instance_pairs, bases=c.source.template != c.target.template):
        return "equal blocks under other numbers; verify that both sides mean the same block"
    if match.norms is not None:
        return (
            f"a block of the source has the norms {shown(match.norms[0])}, one of the target {shown(match.norms[1])}, so "
            "the same name may mean another place; compare what each of them normalises"
        )
    words = contrary(c.source, c.target)
    if words is not None:
        return f"{words[0]} and {words[1]} may be two things; verify that both modules do the same"
    if c.source.template != c.target.template:
        if _other_number(c.source, c.target):
            return "the names differ in a number; verify that both modules do the same"
        word = _unexplained(c.source, c.target, match.carried)
        if word is not None:
            return f"only one of the two names says {word}; verify that both modules do the same"
    return None


def _other_number(source: Group, target: Group) -> bool:
    """Whether names say another number, or only one of two names that are alike otherwise says one."""
    if source.numbers == target.numbers:
        return False
    ends = source.tokens[-1:], target.tokens[-1:]
    alike = bool(ends[0] and ends[1]) and set(ends[0][0][1]) == set(ends[1][0][1])
    return alike or (bool(source.numbers) and bool(target.numbers))


def _unexplained(source: Group, target: Group, carried: tuple[int, int]) -> str | None:
    """A telling word of one name that the other has not, nor one like it, and that no others carry along."""
    sides = [_concepts(group.tokens).keys() for group in (source, target)]
    for group, depth, own, others in zip((source, target), carried, sides, sides[::-1], strict=True):
        wrapped = sum(token != INDEX for token in group.template[:depth])
        telling = (own & SETTING_APART) | (_concepts(group.tokens[wrapped:]).keys() - STRUCTURE)
        for word in sorted(telling):
            if not any(akin(word, other) for other in others):
                return word
    return None


def _renumbered(pairs: Mapping[Index, Index], *, bases: bool) -> bool:
    """Whether numbers differ, by more than what two names may count from."""
    depth = len(next(iter(pairs), ()))
    if any(len(mine) != depth for mine in pairs.values()):
        return False
    for place in range(depth):
        shifts = {theirs[place] - mine[place] for theirs, mine in pairs.items()}
        if shifts == {0}:
            continue
        first = min(t[place] for t in pairs), min(m[place] for m in pairs.values())
        if not bases or len(shifts) > 1 or first[0] not in _FIRST or first[1] not in _FIRST:
            return True
    return False


def contrary(source: Group, target: Group) -> tuple[str, str] | None:
    """Two concepts of which only the one and only the other name has, and which are not the same thing."""
    mine, theirs = _concepts(source.tokens), _concepts(target.tokens)
    left, right = mine - theirs, theirs - mine
    for kinds in EXCLUSIVE:
        one, other = sorted(kinds & left.keys()), sorted(kinds & right.keys())
        if one and other:
            return one[0], other[0]
    ends = _concepts(source.tokens[-1:]), _concepts(target.tokens[-1:])
    # One word in common does not outweigh the one that tells two modules apart.
    if ends[0] & ends[1]:
        for a in _telling(left.keys() & ends[0].keys()):
            for b in _telling(right.keys() & ends[1].keys()):
                if not akin(a, b):
                    return a, b
    return None


def _concepts(tokens: Iterable[tuple[str, tuple[str, ...]]]) -> Counter[str]:
    return Counter(c for _, found in tokens for c in found)


def _telling(concepts: Iterable[str]) -> list[str]:
    return sorted(c for c in concepts if c not in KINDS and not c.isdigit())
