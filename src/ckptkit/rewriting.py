"""Rewriting many keys by many regular expressions, of which the first that matches a key rewrites it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import isqrt

from .errors import PlanError
from .regexes import compile_regex, literal_start, required_literal

MAX_KEY = 100_000  # characters
MAX_TEMPLATE = 10_000  # characters of a replacement, as many as a regular expression may have
LONG = 10_000_000  # characters that `re` may make at once; templates multiply what they are given


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
        PlanError: a key would become longer than 100,000 characters.
    """
    place = {key: n for n, key in enumerate(keys)}
    ordered = list(place)
    by_name: list[str] | None = None
    renames: dict[str, str] = {}
    hits = []
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
        before = len(renames)
        harmless = _harmless(replacement)
        for key in some:
            if literal in key and key not in renames:
                if len(key) > harmless and regex.search(key):
                    check_growth(re.finditer(pattern, key), replacement, key)
                new, count = regex.subn(replacement, key)
                if count:
                    if len(new) > MAX_KEY:
                        raise too_long(key, len(new))
                    renames[key] = new
        hits.append(len(renames) - before)
    return renames, hits


def check_growth(matches: Iterable[re.Match[str]], template: str, key: str) -> None:
    """Refuse a template before `re` makes a text of it that is a hundred times as long as a key may be.

    Args:
        matches: those it is put in for.
        template: a replacement.
        key: what is rewritten.

    Raises:
        PlanError: the text would be too long, each group counted as long as the longest.
    """
    groups, most = template.count("\\"), 0
    for match in matches:
        longest = max(len(group or "") for group in (match[0], *match.groups()))
        most += len(template) + groups * longest
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
