"""Which place of one tree is which place of the other, told by what lies below them.

Two places whose subtrees hold the same shapes are one block in two layouts, whatever the names on the way to it. Where
several blocks hold the same, their numbers must order both sides; then the k-th is the k-th. This needs no block to
stand at the same depth: ``features.7`` may be ``stages.2.blocks.0``, and ``features.8`` ``stages.3.downsample``.
The idea is that of the top-down phase of tree differencing (J.-R. Falleri et al., *Fine-grained and accurate source
code differencing*, ASE 2014), with shapes in the place of labels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from .align import fit
from .groups import Group, Index, written

Path = tuple[str, ...]
_NUMBERS = re.compile(r"[0-9]{1,9}")
_MASK = (1 << 61) - 1
LEAST_MODULES = 3


@dataclass(slots=True)
class _Place:
    """What lies below a path.

    Args:
        content: a commutative hash of the shapes.
        modules, size: how many modules and elements.
        children: how many different continuations lead to these.
    """

    content: int = 0
    modules: int = 0
    size: int = 0
    children: int = 0


class Blocks:
    """Pairs of places that hold the same.

    Args:
        source, target: the groups of both sides.
    """

    def __init__(self, source: Iterable[Group], target: Iterable[Group]) -> None:
        self._homes: dict[tuple[Group, bool], dict[Path, list[Index]]] = {}
        mine, theirs = _places(source), _places(target)
        by_content: dict[tuple[int, int], tuple[list[Path], list[Path]]] = {}
        for side, places in enumerate((mine, theirs)):
            for path, place in places.items():
                if path and place.children > 1 and place.modules >= LEAST_MODULES:
                    by_content.setdefault((place.size, place.content), ([], []))[side].append(path)
        common = [sides for _, sides in sorted(by_content.items(), reverse=True) if sides[0] and sides[1]]
        barred: set[str] = set()
        for _ in range(3):
            crossing = self._pair_all(common, barred) - barred
            if not crossing:
                break
            barred |= crossing

    def _pair_all(self, common: list[tuple[list[Path], list[Path]]], barred: set[str]) -> set[str]:
        """Pair places of equal content; the kinds of places whose numbers then run in no one direction."""
        self._pair: dict[Path, Path] = {}
        self._back: dict[Path, Path] = {}
        self._backwards: set[tuple[str, str]] = set()
        for single in (True, False):
            for ours, others in common:
                if (len(ours) == len(others) == 1) == single:
                    self._match([path for path in ours if _skeleton(path) not in barred], others)
            directions = _directions(self._pair)
            self._backwards = {where for where, found in directions.items() if found == {False}}
        return {source for (source, _), found in directions.items() if len(found) > 1}

    def _match(self, ours: Sequence[Path], others: Sequence[Path]) -> None:
        """Pair places of one content, within the pairs that are found already."""
        inside: dict[Path | None, tuple[list[Path], list[Path]]] = {}
        for path in ours:
            inside.setdefault(_above(path, self._pair), ([], []))[0].append(path)
        for path in others:
            above = _above(path, self._back)
            inside.setdefault(None if above is None else self._back[above], ([], []))[1].append(path)
        for mine, theirs in inside.values():
            if len(mine) != len(theirs):
                continue
            for s, t in zip(*_ordered(mine, theirs, self._backwards), strict=True):
                self._pair[s], self._back[t] = t, s

    def __bool__(self) -> bool:
        return bool(self._pair)

    def pairs(
        self, source: Group, target: Group, known: Mapping[Index, Index], *, exact: bool = True
    ) -> dict[Index, Index]:
        """Instances paired as far as the blocks around them are, and as is known elsewhere.

        Args:
            source, target: two groups.
            known: target index to source index, from other evidence.
            exact: whether shapes must agree.

        Returns:
            Target index to source index.
        """
        homes = self._home(target, self._back, back=True)
        mine = self._home(source, self._pair, back=False)
        if not homes and not mine:
            return dict(known)
        inside = {index for place in homes.values() for index in place}
        taken = {index for place in mine.values() for index in place}
        found = {t: s for t, s in known.items() if t not in inside and s not in taken}
        for place, wanted in homes.items():
            have = mine.get(self._back[place], [])
            if len(have) != len(wanted):
                continue
            pairs = zip(wanted, have, strict=True)
            found.update((t, s) for t, s in pairs if not exact or fit(source, s, target, t))
        return found

    def _home(self, group: Group, known: Mapping[Path, Path], *, back: bool) -> dict[Path, list[Index]]:
        """The innermost paired place around each instance of a group."""
        key = (group, back)
        if key not in self._homes:
            homes: dict[Path, list[Index]] = {}
            for index in group.indices:
                above = _above(written(group.template, index, range(len(index))), known)
                if above is not None:
                    homes.setdefault(above, []).append(index)
            self._homes[key] = homes
        return self._homes[key]


def _places(groups: Iterable[Group]) -> dict[Path, _Place]:
    places: dict[Path, _Place] = {}
    seen: set[Path] = set()
    for group in groups:
        for index, leaves in group.instances.items():
            path = written(group.template, index, range(len(index)))
            content = sum(
                hash((leaf == "bias", shape)) * 0x9E3779B97F4A7C15 for leaf, (_, shape) in leaves.items()
            )
            size = sum(prod(shape) for _, shape in leaves.values())
            for n in range(len(path)):
                place = places.get(path[:n])
                if place is None:
                    place = places[path[:n]] = _Place()
                place.content = (place.content + content) & _MASK
                place.modules += 1
                place.size += size
                if path[: n + 1] not in seen:
                    seen.add(path[: n + 1])
                    place.children += 1
    return places


def _above(path: Path, known: Mapping[Path, Path]) -> Path | None:
    """The longest proper prefix of a path that is known."""
    for n in range(len(path) - 1, 0, -1):
        if path[:n] in known:
            return path[:n]
    return None


def _directions(pairs: Mapping[Path, Path]) -> dict[tuple[str, str], set[bool]]:
    """Which numbers run in one direction on both sides, and which in opposite ones, as in decoders of two libraries.

    Returns:
        (what stands up to the number in the source, in the target), numbers masked, to whether both grow together.
    """
    kinds: dict[tuple[str, str], list[tuple[Index, Index]]] = {}
    for s, t in pairs.items():
        kinds.setdefault((_skeleton(s), _skeleton(t)), []).append((_numbers(s), _numbers(t)))
    signs: dict[tuple[str, str], set[bool]] = {}
    for (source, target), numbers in kinds.items():
        for (a, x), (b, y) in pairwise(sorted(numbers)):
            where = _up_to(source)[_differ(a, b)], _up_to(target)[_differ(x, y)]
            signs.setdefault(where, set()).add(x < y)
    return signs


def _differ(one: Index, other: Index) -> int:
    return next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def _up_to(skeleton: str) -> list[str]:
    """The skeleton up to each of its numbers."""
    return [skeleton[: n + 1] for n, letter in enumerate(skeleton) if letter == "#"]


def _skeleton(path: Path) -> str:
    return _NUMBERS.sub("#", ".".join(path))


def _numbers(path: Path) -> Index:
    return tuple(int(n) for n in _NUMBERS.findall(".".join(path)))


def _ordered(
    mine: list[Path], theirs: list[Path], backwards: Collection[tuple[str, str]]
) -> tuple[list[Path], list[Path]]:
    """Both in the order of their numbers, if that is one; else nothing."""
    if len(mine) == 1:
        return mine, theirs
    if min(len({_skeleton(path) for path in side}) for side in (mine, theirs)) > 1:
        return [], []
    ours = _up_to(_skeleton(mine[0]))
    turned = {
        n
        for n, where in enumerate(_up_to(_skeleton(theirs[0])))
        if any((o, where) in backwards for o in ours)
    }
    sides = []
    for side, signs in ((mine, set()), (theirs, turned)):
        numbered = sorted(
            (tuple(-v if n in signs else v for n, v in enumerate(_numbers(path))), path) for path in side
        )
        if any(not a or b[: len(a)] == a for (a, _), (b, _) in pairwise(numbered)):
            return [], []
        sides.append([path for _, path in numbered])
    return sides[0], sides[1]
