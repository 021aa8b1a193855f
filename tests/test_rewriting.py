"""Rewriting many keys at once is rewriting each of them by the first pattern found in it."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from ckptkit.regexes import literal_start
from ckptkit.rewriting import rewrite

WORDS = st.sampled_from(["a", "b", "ab", "layer", "0", "1", "12", "A", "\U0010ffff"])
KEYS = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
PARTS = st.sampled_from(
    [r"a", r"ab", r"layer", r"(\d+)", r"[ab]", r"a?", r"(?:a|b)", r"\.", r"(?i:A)", r"\w+", "\U0010ffff"]
)
PATTERNS = st.builds(
    lambda start, parts, end: start + "".join(parts) + end,
    st.sampled_from(["", "^", r"\A", "(?i)^", "(?m)^"]),
    st.lists(PARTS, min_size=1, max_size=4),
    st.sampled_from(["", "$"]),
)


@given(st.lists(KEYS, unique=True, max_size=8), st.lists(PATTERNS, max_size=5))
@example(["a\U0010ffffb"], ["^a"])
@example(["A.0"], ["(?i)^a"])
def test_the_first_pattern_that_is_found_in_a_key_rewrites_it(keys: list[str], patterns: list[str]) -> None:
    pairs = [(pattern, f"<{n}>") for n, pattern in enumerate(patterns)]
    expected: dict[str, str] = {}
    hits = [0] * len(pairs)
    for key in keys:
        for n, (pattern, replacement) in enumerate(pairs):
            new, count = re.subn(pattern, replacement, key)
            if count:
                expected[key] = new
                hits[n] += 1
                break
    found, counted = rewrite(keys, pairs)
    assert found == expected
    assert counted == hits
    order = sorted(found, key=lambda key: (int(found[key].split("<")[1].split(">")[0]), keys.index(key)))
    assert list(found) == order


@given(PATTERNS, KEYS)
def test_the_literal_start_of_a_pattern_starts_every_key_it_matches(pattern: str, key: str) -> None:
    if re.search(pattern, key):
        assert key.startswith(literal_start(pattern))
