"""What a regular expression can cost: the ways in which its repeats can share out one text.

`re` tries them one after another when a match fails. Repeats inside a repeat have exponentially many, and are refused;
repeats beside each other have a power of the text's length: the longest chain of repeats that can pass text to each
other says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log2
from re import _constants as _c  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from .charsets import Alphabet

MOST_IN_A_CHAIN = 8  # repeats without bound, the place where a search begins among them
_MANY = 5  # counted repeats below this stay cheap whatever they hold
_WIDE = 10  # counted repeats with more choices than this are like those without bound
_CHOICES = 20  # bits of all choices of optional parts together
_NESTED = 100_000  # steps of counted repeats inside each other
_REPEATED = 300
_WORK = 200_000  # steps of the analysis itself
_REPEATS = (_c.MAX_REPEAT, _c.MIN_REPEAT, _c.POSSESSIVE_REPEAT)
_KEPT = (_c.ATOMIC_GROUP, _c.POSSESSIVE_REPEAT)  # not gone back into
_SINGLE = (_c.LITERAL, _c.NOT_LITERAL, _c.IN, _c.ANY)
_SCANNED = 8  # characters that a repeat runs over in the time of a step
_LOOKING = (_c.ASSERT, _c.ASSERT_NOT)
Place = frozenset[tuple[int, int]]


class Slow(Exception):
    """Why an expression is refused; the words follow its own text."""


class Part(NamedTuple):
    """One character that must be there, or a repeat.

    Args:
        chars: what it accepts.
        place: the alternatives, options and groups it stands in.
        choices: of a repeat how many lengths beside the least it can have, 0 for any; None for a character.
        after: the text that must follow a repeat at once; "" when none is known.
    """

    chars: int
    place: Place
    choices: int | None = None
    after: str = ""


class Loop(NamedTuple):
    """A repeat in a chain: its choices (0 for any), the text after it, and the repeats that can pass text to it."""

    choices: int
    after: str
    before: tuple[int, ...]


class Analysis:
    """The repeats of a parsed expression and how they hang together.

    Args:
        items: the parsed expression.
        ignore_case: whether any part of it does.
        anchored: whether it begins at the beginning of the text only.

    Raises:
        Slow: it can take exponential time, or a high power of the text's length.
    """

    def __init__(self, items: Sequence[Any], ignore_case: bool, anchored: bool) -> None:
        self.alphabet = Alphabet(_named(items), ignore_case)
        self.ignore_case = ignore_case
        self.closed: set[int] = set()
        self.parts: list[Part] = [] if anchored else [Part(self.alphabet.all, frozenset(), 0)]
        self.count = self.repeats = 0
        self.run: set[Part] = set()
        self._walk(items, frozenset(), "", 1)
        self.takes_all = self._takes_all(items)
        self.loops = self._chained()
        self.degree = int(self._longest(lambda loop: 0 if loop.choices else 1))
        bits = self._longest(lambda loop: log2(loop.choices + 1) if loop.choices else 0)
        self.choices = 2 ** int(bits + 1) if bits else 1
        if self.degree > MOST_IN_A_CHAIN:
            raise Slow(
                f"has {self.degree} repeats that can all match the same text, which can take the time of a power of "
                f"{self.degree} of its length ({MOST_IN_A_CHAIN} is the limit); put text between them that they "
                "cannot match, e.g. '[^.]*' for '.*'"
            )
        if bits > _CHOICES:
            raise Slow(
                f"has optional parts with more than 2**{_CHOICES} ways to match the same text; simplify it"
            )

    def _new(self) -> int:
        self.count += 1
        return self.count

    def _walk(self, items: Sequence[Any], place: Place, after: str, product: int) -> None:
        for n, (op, arg) in enumerate(items):
            if op in _SINGLE:
                self._add(Part(self.alphabet.of(op, arg), place))
            elif op is _c.SUBPATTERN:
                self._walk(list(arg[3]), place, self._text(items[n + 1 :], after), product)
            elif op is _c.BRANCH or op is _c.GROUPREF_EXISTS:
                number = self._new()
                branches = arg[1] if op is _c.BRANCH else [part for part in arg[1:] if part is not None]
                for alternative, branch in enumerate(branches):
                    inside = place | {(number, alternative)}
                    self._walk(list(branch), inside, self._text(items[n + 1 :], after), product)
            elif op in _LOOKING or op is _c.ATOMIC_GROUP:
                self._walk(list(arg if op is _c.ATOMIC_GROUP else arg[1]), self._closed(place), "", product)
            elif op in _REPEATS:
                inside = self._closed(place) if op is _c.POSSESSIVE_REPEAT else place
                self._repeat(arg, inside, self._text(items[n + 1 :], after), product)

    def _closed(self, place: Place) -> Place:
        """A place that is not gone back into once it is left."""
        number = self._new()
        self.closed.add(number)
        return place | {(number, 0)}

    def _repeat(self, arg: Any, place: Place, after: str, product: int) -> None:
        least, most, body = int(arg[0]), arg[1], list(arg[2])
        endless = most is _c.MAXREPEAT
        times = product if endless else product * max(int(most), 1)
        if times > _NESTED:
            raise Slow(f"nests counted repeats into more than {_NESTED:,} steps; simplify it")
        if (endless or most >= _MANY) and not self._one_way(flattened(body)):
            raise Slow(
                "nests repeats that can match the same text in several ways, "
                "which can take exponential time; write the inner part so that it cannot match its "
                r"separator, e.g. '(?:[^.]+\.)*' or '(?:\w+\.)*'"
            )
        choices = 0 if endless or most - least >= _WIDE else int(most) - least
        chars = 0
        for op, value in _singles(body):
            chars |= self.alphabet.of(op, value)
        inner = {op for op, _ in nodes(body)}
        plain = not inner & {*_REPEATS, _c.BRANCH}
        copies = min(1 if plain else least, MOST_IN_A_CHAIN + 1) if least else 0
        if endless and not inner.isdisjoint(_KEPT):
            copies = max(copies, 1)  # it has one way out, and may have many to go through inside
        for _ in range(copies):
            self._walk(body, place, "", times)
        if endless or most > least:
            option = place if plain else place | {(self._new(), 0)}
            if not plain and not endless:
                for _ in range(min(int(most) - least, MOST_IN_A_CHAIN + 1)):
                    self._walk(body, option, "", times)
            self._add(Part(chars, place, choices, after))

    def _add(self, part: Part) -> None:
        """Add a part, or nothing where the same has to be there since the last repeat."""
        if part.choices is not None:
            self.run.clear()
            self.repeats += 1
            if self.repeats > _REPEATED:
                raise Slow(f"has more than {_REPEATED} repeats; split it into several")
        elif part in self.run:
            return
        else:
            self.run.add(part)
        self.parts.append(part)

    def _text(self, items: Sequence[Any], after: str) -> str:
        """The text that stands first in the rest of an expression."""
        text = ""
        for op, arg in items:
            if op is not _c.LITERAL or self.ignore_case:
                return text
            text += chr(arg)
        return text + after

    def _chained(self) -> tuple[Loop, ...]:
        places = [n for n, part in enumerate(self.parts) if part.choices is not None]
        if len(places) * len(self.parts) > _WORK:
            raise Slow(f"has {len(places)} repeats in {len(self.parts)} parts; split it into several")
        number = {place: n for n, place in enumerate(places)}
        before: dict[int, list[int]] = {n: [] for n in number.values()}
        for n, place in enumerate(places):
            for other in self._reached(place):
                before[number[other]].append(n)
        return tuple(
            Loop(self.parts[place].choices or 0, self.parts[place].after, tuple(before[n]))
            for n, place in enumerate(places)
        )

    def _reached(self, start: int) -> Iterator[int]:
        """The repeats after one that can take text from it: all between them is text that both accept."""
        own = self.parts[start]
        alternatives = dict(own.place)
        needed: list[Part] = []
        for n in range(start + 1, len(self.parts)):
            part = self.parts[n]
            if any(alternatives.get(key, value) != value for key, value in part.place):
                continue  # in another alternative
            if part.choices is None:
                if part.place <= own.place and not part.chars & own.chars:
                    return
                needed.append(part)
                continue
            shared = own.chars & part.chars
            inside = {key for key, _ in part.place}
            left = any(key in self.closed and key not in inside for key, _ in own.place)
            around = own.place | part.place
            if shared and not left and all(p.chars & shared for p in needed if p.place <= around):
                yield n

    def _takes_all(self, items: Sequence[Any]) -> bool:
        """Whether it ends with a repeat of any character."""
        flat = flattened(items)
        while flat and flat[-1][0] is _c.AT and flat[-1][1] in (_c.AT_END, _c.AT_END_STRING):
            flat.pop()
        return (
            bool(flat)
            and flat[-1][0] in _REPEATS
            and [op for op, _ in flattened(list(flat[-1][1][2]))] == [_c.ANY]
            and flat[-1][1][1] is _c.MAXREPEAT
        )

    def _longest(self, weight: Any) -> float:
        best: list[float] = []
        for loop in self.loops:
            best.append(weight(loop) + max((best[n] for n in loop.before), default=0))
        return max(best, default=0)

    def steps(self, text: str) -> int:
        """About how many steps a match of a text can take.

        Args:
            text: what is matched.
        """
        every = len(text) + 1
        most = 1
        reached: list[int] = []
        runs: list[int] = []
        for number, loop in enumerate(self.loops):
            ways = text.count(loop.after) + 1 if loop.after else every
            ways = min(ways, loop.choices + 1) if loop.choices else ways
            if self.takes_all and number == len(self.loops) - 1 and "\n" not in text:
                ways = 1  # whatever is left, it takes: nothing goes back from here
            before = max(loop.before, key=lambda n: reached[n], default=None)
            here = 1 if before is None else reached[before]
            # Repeats before equal text share out the same places, in their order.
            again = before is not None and self.loops[before].after == loop.after and not loop.choices
            runs.append(runs[before] + 1 if again and before is not None else 1)
            reached.append(here * (ways + runs[-1] - 1) // runs[-1])
            most = max(most, reached[-1], here * every // _SCANNED)
        return most

    def _one_way(self, items: Sequence[Any]) -> bool:
        """Whether a repeated body can match a text in one way only (a sufficient condition)."""
        for position, (op, arg) in enumerate(items):
            if op in _REPEATS and op is not _c.POSSESSIVE_REPEAT:
                least, most, body = arg
                single = flattened(list(body))
                if least == most and self._one_way(single):
                    continue
                if len(single) != 1 or single[0][0] not in _SINGLE:
                    return False
                following = items[position + 1] if position + 1 < len(items) else None
                if following is None or following[0] is not _c.LITERAL:
                    return False
                if self.alphabet.of(*single[0]) & self.alphabet.of(*following):
                    return False
            elif op is _c.BRANCH:
                firsts = [branch[0] if len(branch) else None for branch in arg[1]]
                if any(first is None or first[0] is not _c.LITERAL for first in firsts):
                    return False
                if len({self.alphabet.of(*first) for first in firsts if first}) != len(firsts):
                    return False
                if not all(self._one_way(flattened(list(branch))) for branch in arg[1]):
                    return False
            elif op in (_c.GROUPREF, _c.GROUPREF_EXISTS):
                return False
            elif op in _LOOKING and any(inner in _REPEATS for inner, _ in nodes(list(arg[1]))):
                return False  # it would run through the rest of the text at each turn
            elif op is _c.SUBPATTERN and not self._one_way(flattened(list(arg[3]))):
                return False
        return True


def flattened(items: Sequence[Any]) -> list[Any]:
    """A sequence with plain groups opened up; a group with own flags stays one."""
    flat: list[Any] = []
    for op, arg in items:
        if op is _c.SUBPATTERN and not arg[1] and not arg[2]:
            flat.extend(flattened(list(arg[3])))
        else:
            flat.append((op, arg))
    return flat


def _children(op: Any, arg: Any) -> list[list[Any]]:
    if op is _c.SUBPATTERN:
        return [list(arg[3])]
    if op is _c.BRANCH:
        return [list(branch) for branch in arg[1]]
    if op in _LOOKING:
        return [list(arg[1])]
    if op is _c.GROUPREF_EXISTS:
        return [list(part) for part in arg[1:] if part is not None]
    if op is _c.ATOMIC_GROUP:
        return [list(arg)]
    if op in _REPEATS:
        return [list(arg[2])]
    return []


def nodes(items: Sequence[Any]) -> Iterator[Any]:
    """All nodes of a parsed expression, each before what is in it."""
    for op, arg in items:
        yield op, arg
        for part in _children(op, arg):
            yield from nodes(part)


def _singles(items: Sequence[Any]) -> Iterator[Any]:
    return (node for node in nodes(items) if node[0] in _SINGLE)


def _named(items: Sequence[Any]) -> Iterator[int]:
    for op, arg in _singles(items):
        if op in (_c.LITERAL, _c.NOT_LITERAL):
            yield arg
        elif op is _c.IN:
            for kind, value in arg:
                if kind is _c.LITERAL:
                    yield value
                elif kind is _c.RANGE:
                    yield from value
