"""Regular expressions from configs: compiled and checked when the config is read, never trusted.

A pattern that can take exponential time is refused here, since `re` cannot be given a deadline from
a library. The check reads the parsed pattern: an unbounded repeat must not hold another one that can
match the same text in two ways, and counted repeats must not multiply into a bomb.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from re import _constants as _c  # type: ignore[attr-defined]
from re import _parser as _p  # type: ignore[attr-defined]
from typing import Any

from .errors import ConfigError

MAX_LENGTH = 10_000
_MANY = 5  # counted repeats below this stay cheap whatever they hold
_REPEATS = (_c.MAX_REPEAT, _c.MIN_REPEAT)
_SINGLE = (_c.LITERAL, _c.NOT_LITERAL, _c.IN, _c.ANY)


@lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression from a config.

    Args:
        pattern: in the syntax of Python's `re`, matched case-sensitively unless it says otherwise.

    Raises:
        ConfigError: it is malformed, longer than 10,000 characters, or could take exponential time.
    """
    if len(pattern) > MAX_LENGTH:
        raise ConfigError(
            f"the regular expression is {len(pattern)} characters long; {MAX_LENGTH} is the limit"
        )
    shown = pattern if len(pattern) <= 80 else pattern[:77] + "..."
    try:
        tree = _p.parse(pattern)
        _refuse_slow(list(tree), 1, shown)
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the regular expression {shown!r} is malformed: {error}") from None
    except (OverflowError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"the regular expression {shown!r} is too large or too deeply nested ({type(error).__name__})"
        ) from None


def check_replacement(pattern: re.Pattern[str], replacement: str) -> None:
    """Check that a replacement template suits a pattern, as `re.sub` would at the first match.

    Raises:
        ConfigError: it refers to a group that the pattern lacks, or has a bad escape.
    """
    try:
        _p.parse_template(replacement, pattern)
    except (re.error, IndexError) as error:
        reason = str(error) if isinstance(error, re.error) else f"unknown group name: {error}"
        raise ConfigError(
            f"the replacement {replacement[:200]!r} does not suit the pattern {pattern.pattern[:200]!r}: {reason[:200]}; "
            f"the pattern has {pattern.groups} group(s)"
            + (f" named {', '.join(sorted(pattern.groupindex))}" if pattern.groupindex else "")
        ) from None


def uses_group(replacement: str, pattern: re.Pattern[str], number: int) -> bool:
    """Whether a replacement template refers to a group, by number or by name."""
    return number in _template_groups(_p.parse_template(replacement, pattern))


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
    if tree.state.flags & (re.IGNORECASE | re.VERBOSE | re.LOCALE):
        return ""
    best, run = "", ""
    for op, arg in _flatten(list(tree)):
        if op is _c.LITERAL:
            run += chr(arg)
            best = max(best, run, key=len)
        elif op is not _c.AT:
            run = ""
    return best


def literal_start(pattern: str) -> str:
    """The text that every match of a regular expression starts a key with; "" when none is known."""
    tree = _p.parse(pattern)
    if tree.state.flags & (re.IGNORECASE | re.VERBOSE | re.LOCALE | re.MULTILINE):
        return ""
    items = _flatten(list(tree))
    if not items or items[0] != (_c.AT, _c.AT_BEGINNING):
        return ""
    start = ""
    for op, arg in items[1:]:
        if op is not _c.LITERAL:
            break
        start += chr(arg)
    return start


def _flatten(items: list[Any]) -> list[Any]:
    """The top-level sequence with plain groups opened up; a group with own flags breaks a run."""
    flat: list[Any] = []
    for op, arg in items:
        if op is _c.SUBPATTERN and not arg[1] and not arg[2]:
            flat.extend(_flatten(list(arg[3])))
        else:
            flat.append((op, arg))
    return flat


def _refuse_slow(items: list[Any], product: int, shown: str) -> None:
    for op, arg in items:
        if op in _REPEATS:
            _, most, body = arg
            inner = list(body)
            unbounded = most is _c.MAXREPEAT
            times = product if unbounded else product * max(int(most), 1)
            if times > 100_000:
                raise ConfigError(
                    f"the regular expression {shown!r} nests counted repeats into more than 100,000 steps; simplify it"
                )
            if (unbounded or most >= _MANY) and not _linear(_flatten(inner)):
                raise ConfigError(
                    f"the regular expression {shown!r} nests repeats that can match the same text in several ways, "
                    "which can take exponential time; write the inner part so that it cannot match its "
                    r"separator, e.g. '(?:[^.]+\.)*' or '(?:\w+\.)*'"
                )
            _refuse_slow(inner, times, shown)
        else:
            for part in _children(op, arg):
                _refuse_slow(part, product, shown)


def _children(op: Any, arg: Any) -> list[list[Any]]:
    if op is _c.SUBPATTERN:
        return [list(arg[3])]
    if op is _c.BRANCH:
        return [list(branch) for branch in arg[1]]
    if op in (_c.ASSERT, _c.ASSERT_NOT):
        return [list(arg[1])]
    if op is _c.GROUPREF_EXISTS:
        return [list(part) for part in arg[1:] if part is not None]
    if op is _c.ATOMIC_GROUP:
        return [list(arg)]
    if op is _c.POSSESSIVE_REPEAT:
        return [list(arg[2])]
    return []


def _linear(items: list[Any]) -> bool:
    """Whether a repeated body can match a text in one way only (a sufficient condition)."""
    for position, (op, arg) in enumerate(items):
        if op in _REPEATS:
            least, most, body = arg
            if least == most and _linear(_flatten(list(body))):
                continue
            single = _flatten(list(body))
            if len(single) != 1 or single[0][0] not in _SINGLE:
                return False
            following = items[position + 1] if position + 1 < len(items) else None
            if following is None or following[0] is not _c.LITERAL or _accepts(single[0], following[1]):
                return False
        elif op is _c.BRANCH:
            firsts = [branch[0] if len(branch) else None for branch in arg[1]]
            if any(first is None or first[0] is not _c.LITERAL for first in firsts):
                return False
            if len({first[1] for first in firsts if first}) != len(firsts):
                return False
            if not all(_linear(_flatten(list(branch))) for branch in arg[1]):
                return False
        elif op in (_c.GROUPREF, _c.GROUPREF_EXISTS):
            return False
        elif op is _c.SUBPATTERN and not _linear(_flatten(list(arg[3]))):
            return False
    return True


def _accepts(node: Any, char: int) -> bool:
    """Whether a single-character node of a parsed pattern matches a character."""
    op, arg = node
    if op is _c.LITERAL:
        return bool(arg == char)
    if op is _c.NOT_LITERAL:
        return bool(arg != char)
    if op is _c.ANY:
        return True
    negate = False
    found = False
    for kind, value in arg:
        if kind is _c.NEGATE:
            negate = True
        elif kind is _c.LITERAL:
            found |= value == char
        elif kind is _c.RANGE:
            found |= value[0] <= char <= value[1]
        elif kind is _c.CATEGORY:
            found |= _in_category(value, chr(char))
    return found != negate


def _in_category(category: Any, char: str) -> bool:
    classes = {
        _c.CATEGORY_DIGIT: r"\d",
        _c.CATEGORY_NOT_DIGIT: r"\D",
        _c.CATEGORY_SPACE: r"\s",
        _c.CATEGORY_NOT_SPACE: r"\S",
        _c.CATEGORY_WORD: r"\w",
        _c.CATEGORY_NOT_WORD: r"\W",
    }
    return re.match(classes[category], char) is not None
