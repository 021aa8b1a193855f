"""Rewriting many keys by many regular expressions, of which the first that matches a key rewrites it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import isqrt
from typing import TYPE_CHECKING

from .errors import PlanError
from .regexes import Budget, Template, compile_regex, literal_start, read_template, required_literal

if TYPE_CHECKING:
    from regex import Match

MAX_KEY = 100_000  # characters
MAX_TEMPLATE = 10_000  # characters of a replacement, as many as a regular expression may have
LONG = 10_000_000  # characters that may be made at once; templates multiply what they are given


def rewrite(keys: Iterable[str], pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], list[int]]:
    """Apply to each key the first pair whose pattern is found in it, with `re.sub` semantics.

    Patterns anchored at literal text are tried on the keys that start with it alone, so that thousands of pairs on
    many thousands of keys cost about as much as the keys that they rewrite.

    Args:
        keys: unlike each other.
        pairs: (pattern, replacement), valid.

    Returns:
        Old key to new key, in the order of the pairs and, for each of them, of the keys; and how many keys each pair
        rewrote.

    Raises:
        ConfigError: a pattern is refused.
        PlanError: a key would become longer than 100,000 characters, or a pattern takes too long.
    """
    place = {key: n for n, key in enumerate(keys)}
    ordered = list(place)
    by_name: list[str] | None = None
    renames: dict[str, str] = {}
    hits = []
    budget = Budget()
    for pattern, replacement in pairs:
        start = literal_start(pattern)
        some = ordered
        if start:
            if by_name is None:
                by_name = sorted(ordered)
            width = len(start)
            first = bisect_left(by_name, start)
            some = by_name[first : bisect_right(by_name, start, lo=first, key=lambda key: key[:width])]
            some.sort(key=place.__getitem__)
        literal, regex = required_literal(pattern), compile_regex(pattern)
        template = read_template(pattern, replacement)
        before = len(renames)
        harmless = _harmless(replacement)
        with budget.over(len(some)):
            for key in some:
                if literal in key and key not in renames:
                    if len(key) > harmless:
                        _check_growth(regex.findall(key, budget), template, key)
                    new, count = regex.subn(template, key, budget)
                    if count:
                        if len(new) > MAX_KEY:
                            raise too_long(key, len(new))
                        renames[key] = new
        hits.append(len(renames) - before)
    return renames, hits


def whole_matches(
    pattern: str, keys: Sequence[str], budget: Budget | None = None
) -> list[tuple[str, Match[str]]]:
    """The keys that a pattern matches as a whole, with their matches; without a budget it has one of its own.

    Raises:
        ConfigError: the pattern is refused.
        PlanError: it takes too long.
    """
    literal, regex, budget = required_literal(pattern), compile_regex(pattern), budget or Budget()
    with budget.over(len(keys)):
        found = [(key, regex.fullmatch(key, budget)) for key in keys if literal in key]
    return [(key, match) for key, match in found if match is not None]


def expand(pattern: str, replacement: str, key: str, match: Match[str]) -> str:
    """A template with the groups of a match.

    Raises:
        PlanError: the text would be far too long for a key.
    """
    template = read_template(pattern, replacement)
    _check_growth([match], template, key)
    return template.fill(match)


def _check_growth(matches: Iterable[Match[str]], template: Template, key: str) -> None:
    """Refuse a template before a text is made of it that is a hundred times as long as a key may be.

    Raises:
        PlanError: the text would be too long.
    """
    most = 0
    for match in matches:
        most += template.length(match)
        if most > LONG:
            raise too_long(key, most)


def too_long(old: str, length: int) -> PlanError:
    """The error for a key that would become too long."""
    return PlanError(
        f"{old[:80]!r} would become a key of {length} characters; {MAX_KEY} is the limit", key=old[:200]
    )


def _harmless(template: str) -> int:
    """How long keys may be whose growth need not be looked at: a template for each character, of groups as long."""
    groups = template.count("\\")
    return min(LONG // (2 * len(template) + 2), isqrt(LONG // (2 * groups)) if groups else MAX_KEY) - 1
