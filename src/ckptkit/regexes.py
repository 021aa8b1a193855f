"""Regular expressions from configs: compiled and checked when the config is read, never trusted.

`re` cannot be given a deadline from a library. So an expression that can take exponential time, or a high power of a
key's length, is refused here; one that can take a lower power is matched with keys that are short enough for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import comb
from re import _constants as _c  # type: ignore[attr-defined]
from re import _parser as _p  # type: ignore[attr-defined]
from typing import Any

from .backtracking import Analysis, Slow, flattened, nodes
from .errors import ConfigError

MAX_LENGTH = 10_000
MAX_RANGES = 30_000  # characters beyond Latin-1 in all ranges together: compiling walks through each of them
MAX_STEPS = 20_000_000  # of a match of any key of a length: well under a second
MAX_STEPS_OF_KEY = 60_000_000  # of a match of one key, which is looked at

_IGNORING = re.IGNORECASE | re.VERBOSE | re.LOCALE


class KeyRegex:
    """A compiled regular expression that is not matched with keys on which it could be at work for minutes.

    Args:
        compiled: the expression.
        analysis: what it can cost.
    """

    __slots__ = (
        "_analysis",
        "_short",
        "compiled",
        "finditer",
        "fullmatch",
        "groupindex",
        "groups",
        "pattern",
        "search",
        "subn",
    )

    def __init__(self, compiled: re.Pattern[str], analysis: Analysis) -> None:
        self.compiled = compiled
        self.pattern: str = compiled.pattern
        self.groups = compiled.groups
        self.groupindex = compiled.groupindex
        self._analysis = analysis
        self._short = _short_enough(analysis)
        self.search: Callable[[str], re.Match[str] | None] = compiled.search
        self.fullmatch: Callable[[str], re.Match[str] | None] = compiled.fullmatch
        self.finditer: Callable[[str], Iterator[re.Match[str]]] = compiled.finditer
        self.subn: Callable[[str, str], tuple[str, int]] = compiled.subn
        if self._short is not None:
            self.search, self.fullmatch = self._bounded(compiled.search), self._bounded(compiled.fullmatch)
            self.finditer, self.subn = self._bounded_finditer, self._bounded_subn

    def _bounded(self, match: Callable[[str], re.Match[str] | None]) -> Callable[[str], re.Match[str] | None]:
        short, check = self._short or 0, self._check

        def bounded(key: str) -> re.Match[str] | None:
            if len(key) > short:
                check(key)
            return match(key)

        return bounded

    def _bounded_finditer(self, key: str) -> Iterator[re.Match[str]]:
        if len(key) > (self._short or 0):
            self._check(key)
        return self.compiled.finditer(key)

    def _bounded_subn(self, replacement: str, key: str) -> tuple[str, int]:
        if len(key) > (self._short or 0):
            self._check(key)
        return self.compiled.subn(replacement, key)

    def _check(self, key: str) -> None:
        if self._analysis.steps(key) > MAX_STEPS_OF_KEY:
            raise ConfigError(
                f"the regular expression {shown(self.pattern)} could be at work for minutes on a key of {len(key)} "
                f"characters, {shown(key)}: several of its repeats can match the same text, and it backtracks; put text "
                "between them that they cannot match, e.g. '[^.]*' for '.*', or begin it with '^'"
            )


def _short_enough(analysis: Analysis) -> int | None:
    """The longest key that needs no look at it; None when all are short enough."""
    degree = analysis.degree
    if degree < 2:
        return None
    low, high = 0, 1 << 16
    while low < high:
        middle = (low + high + 1) // 2
        if comb(middle + degree, degree) * analysis.choices <= MAX_STEPS:
            low = middle
        else:
            high = middle - 1
    return low


def shown(text: str) -> str:
    """An expression or a key in quotes, cut where it is long."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _brief(error: Exception) -> str:
    """What `re` says, which quotes names of any length."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"


@lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> KeyRegex:
    """Compile a regular expression from a config.

    Args:
        pattern: in the syntax of Python's `re`, matched case-sensitively unless it says otherwise.

    Returns:
        The expression; matching a key on which it could be at work for minutes raises ConfigError.

    Raises:
        ConfigError: it is malformed, longer than 10,000 characters, slow to compile, or could take exponential time or a
            high power of a key's length.
    """
    if len(pattern) > MAX_LENGTH:
        raise ConfigError(
            f"the regular expression is {len(pattern)} characters long; {MAX_LENGTH} is the limit"
        )
    try:
        tree = _p.parse(pattern)
        items = list(tree)
        ignore_case = bool(tree.state.flags & re.IGNORECASE) or any(
            op is _c.SUBPATTERN and arg[1] & re.IGNORECASE for op, arg in nodes(items)
        )
        _refuse_wide(items, ignore_case)
        analysis = Analysis(items, ignore_case, _anchored(tree))
        return KeyRegex(re.compile(pattern), analysis)
    except Slow as error:
        raise ConfigError(f"the regular expression {shown(pattern)} {error}") from None
    except re.error as error:
        raise ConfigError(f"the regular expression {shown(pattern)} is malformed: {_brief(error)}") from None
    except ValueError:  # Python's own words would tell to raise its limit
        raise ConfigError(
            f"the regular expression {shown(pattern)} is malformed: a number is too long"
        ) from None
    except (OverflowError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"the regular expression {shown(pattern)} is too large or too deeply nested ({type(error).__name__})"
        ) from None


def _anchored(tree: Any) -> bool:
    items = flattened(list(tree))
    if not items or items[0][0] is not _c.AT:
        return False
    multiline = tree.state.flags & re.MULTILINE
    return items[0][1] is _c.AT_BEGINNING_STRING or (items[0][1] is _c.AT_BEGINNING and not multiline)


def _refuse_wide(items: list[Any], ignore_case: bool) -> None:
    width = sum(min(high, 0xFFFF) - low + 1 for low, high in _ranges(items) if high > 0xFF and low <= 0xFFFF)
    if width * (2 if ignore_case else 1) > MAX_RANGES:
        raise Slow(
            f"has ranges of {width} characters, which take long to compile; write what is not meant: "
            r"'[^\x00-\x7f]' is all beyond ASCII"
        )


def _ranges(items: list[Any]) -> Iterator[tuple[int, int]]:
    for op, arg in nodes(items):
        if op is _c.IN:
            yield from (value for kind, value in arg if kind is _c.RANGE)


def check_replacement(pattern: KeyRegex, replacement: str) -> None:
    """Check that a replacement template suits a pattern, as `re.sub` would at the first match.

    Raises:
        ConfigError: it refers to a group that the pattern lacks, or has a bad escape.
    """
    try:
        _p.parse_template(replacement, pattern.compiled)
    except (re.error, IndexError, ValueError) as error:
        reason = (
            _brief(error)
            if isinstance(error, re.error)
            else "a number is too long"
            if isinstance(error, ValueError)
            else f"unknown group name: {_brief(error)}"
        )
        names = sorted(pattern.groupindex)
        raise ConfigError(
            f"the replacement {shown(replacement)} does not suit the pattern {shown(pattern.pattern)}: {reason}; "
            f"the pattern has {pattern.groups} group(s)"
            + (f" named {', '.join(name[:80] for name in names[:8])}" if names else "")
            + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        ) from None


def uses_group(replacement: str, pattern: KeyRegex, number: int) -> bool:
    """Whether a replacement template refers to a group, by number or by name."""
    return number in _template_groups(_p.parse_template(replacement, pattern.compiled))


def _template_groups(parsed: Any) -> set[int]:
    """Group numbers of a parsed template, whose form changed with Python 3.12."""
    if isinstance(parsed, tuple):
        return {group for _, group in parsed[0]}
    return {part for part in parsed if isinstance(part, int)}


def with_groups(pattern: str, groups: Sequence[str | None]) -> str | None:
    """The text that a pattern matches when its groups are given.

    Args:
        pattern: a regular expression.
        groups: the text of group 1, 2, ...; those of a similar pattern's match.

    Returns:
        None when the pattern is not made of literals and these groups only.
    """
    text = ""
    for op, arg in _p.parse(pattern):
        if op is _c.LITERAL:
            text += chr(arg)
        elif op is _c.SUBPATTERN and arg[0] is not None and arg[0] <= len(groups):
            text += groups[arg[0] - 1] or ""
        elif op is not _c.AT:
            return None
    return text


@lru_cache(maxsize=4096)
def required_literal(pattern: str) -> str:
    """The longest text that every match of a regular expression must contain; "" when none is known.

    Used to skip keys cheaply. Only case-sensitive literals at the top level of the pattern count.
    """
    tree = _p.parse(pattern)
    if tree.state.flags & _IGNORING:
        return ""
    best, run = "", ""
    for op, arg in flattened(list(tree)):
        if op is _c.LITERAL:
            run += chr(arg)
            best = max(best, run, key=len)
        elif op is not _c.AT:
            run = ""
    return best


def literal_start(pattern: str) -> str:
    """The text that every match of a regular expression starts a key with; "" when none is known."""
    tree = _p.parse(pattern)
    if tree.state.flags & (_IGNORING | re.MULTILINE):
        return ""
    items = flattened(list(tree))
    if not items or items[0] != (_c.AT, _c.AT_BEGINNING):
        return ""
    start = ""
    for op, arg in items[1:]:
        if op is not _c.LITERAL:
            break
        start += chr(arg)
    return start
