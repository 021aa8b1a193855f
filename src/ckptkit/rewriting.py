"""Rewriting many keys by many regular expressions, of which the first that matches a key rewrites it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from .regexes import compile_regex, literal_start, required_literal


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
        literal, subn = required_literal(pattern), compile_regex(pattern).subn
        before = len(renames)
        for key in some:
            if literal in key and key not in renames:
                new, count = subn(replacement, key)
                if count:
                    renames[key] = new
        hits.append(len(renames) - before)
    return renames, hits
