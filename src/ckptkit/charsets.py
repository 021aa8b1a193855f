"""Which characters a part of a parsed regular expression accepts, as bits over the characters that matter to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from re import _constants as _c  # type: ignore[attr-defined]
from typing import Any

# A letter, a digit, a space and a sign beyond ASCII: each stands for all of its kind that a pattern does not name.
_KINDS = (0xE9, 0x663, 0x2003, 0x2014)
_CASED = (0x130, 0x131, 0x17F, 0x212A)  # beyond ASCII, but letters of ASCII without regard to case
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    _c.CATEGORY_DIGIT: str.isdecimal,
    _c.CATEGORY_SPACE: str.isspace,
    _c.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
}
_OPPOSITES = {
    _c.CATEGORY_NOT_DIGIT: _c.CATEGORY_DIGIT,
    _c.CATEGORY_NOT_SPACE: _c.CATEGORY_SPACE,
    _c.CATEGORY_NOT_WORD: _c.CATEGORY_WORD,
}


class Alphabet:
    """The characters that a pattern tells apart.

    Args:
        named: characters of literals and ends of ranges, as code points.
        ignore_case: whether letters stand for their other case too.
    """

    def __init__(self, named: Iterable[int], ignore_case: bool) -> None:
        points = {*range(128), *_KINDS, *named}
        if ignore_case:
            points |= {ord(other) for p in {*points, *_CASED} for other in _cases(chr(p))} | set(_CASED)
        self.points = sorted(points)
        self.all = (1 << len(self.points)) - 1
        self.kinds = sum(map(self._bit, _KINDS))
        self.groups = self._groups() if ignore_case else []
        self._categories: dict[Any, int] = {}

    def of(self, op: Any, arg: Any) -> int:
        """The characters that a node of one character accepts."""
        if op is _c.LITERAL:
            return self._closed(self._bit(arg))
        if op is _c.NOT_LITERAL:
            return self.all & ~self._closed(self._bit(arg))
        if op is _c.IN:
            return self._set(arg)
        return self.all

    def _set(self, members: Iterable[Any]) -> int:
        found, negated, wide = 0, False, False
        for kind, value in members:
            if kind is _c.NEGATE:
                negated = True
            elif kind is _c.LITERAL:
                found |= self._bit(value)
            elif kind is _c.RANGE:
                low, high = bisect_left(self.points, value[0]), bisect_right(self.points, value[1])
                found |= (1 << high) - (1 << low)
                wide |= value[1] > 127
            elif value in _OPPOSITES:
                found |= self.all & ~self._category(_OPPOSITES[value])
            else:
                found |= self._category(value)
        found = self._closed(found)
        found = self.all & ~found if negated else found
        return found | self.kinds if wide else found  # what else is in the range is not looked up

    def _bit(self, point: int) -> int:
        return 1 << bisect_left(self.points, point)

    def _category(self, name: Any) -> int:
        if name not in self._categories:
            accepts = _CATEGORIES[name]
            self._categories[name] = sum(1 << n for n, p in enumerate(self.points) if accepts(chr(p)))
        return self._categories[name]

    def _groups(self) -> list[int]:
        groups: dict[str, int] = {}
        for n, point in enumerate(self.points):
            folded = _folded(chr(point))
            groups[folded] = groups.get(folded, 0) | 1 << n
        return [group for group in groups.values() if group & (group - 1)]

    def _closed(self, found: int) -> int:
        for group in self.groups:
            if found & group:
                found |= group
        return found


def _cases(char: str) -> Iterator[str]:
    yield from (other for other in (char.lower(), char.upper(), char.title()) if len(other) == 1)


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    """Equal for characters that `re` may take for each other; for a few more as well, which only makes us careful."""
    return char.upper().casefold()[:1]
