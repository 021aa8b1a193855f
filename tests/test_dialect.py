"""The dialect of regular expressions is that of `re`: the same keys, groups, replacements and templates."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ckptkit.dialect import read_expression
from ckptkit.errors import ConfigError
from ckptkit.regexes import (
    KeyRegex,
    compile_regex,
    literal_start,
    read_template,
    required_literal,
    with_groups,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

# Signs of both, signs of `regex` that are text to `re`, and halves of signs.
TOKENS = st.sampled_from([
    *"abA.10# \n{}*+?|()^$-[é", "ab.", "*?", "+?", "??", "*+", "++", "{2}", "{1,2}", "{,2}", "{1,", "{,}", "{2}?", "{2}+",
    "{e}", "{i<=1}", "{s}", "{e<=1:[a]}", "(?:", "(?P<n>", "(?>", "(?=", "(?!", "(?<=", "(?<!", "(?i:", "(?x:", "(?-x:",
    "(?s-i:", "(?m:", ")", ")", r"\A", r"\Z", r"\b", r"\d", r"\w", r"\s", r"\.", r"\{", r"\1", r"\2", r"\12", r"\129", r"\0",
    r"\061", r"\x61", r"\u0061", r"\N{DIGIT ONE}", "(?P=n)", "(?(1)a|b)", "(?(n)", "(?#x)", "(?#", "[ab]", "[^a]", "[]a]",
    "[^]]", "[[a]", "[[:alpha:]]", "[[:a]", "[a-c]", "[a&&b]", "[a||b]", r"[\[:x]", "[a#]", "[a ]", "[.{2}]", r"[\]a]",
])  # fmt: skip
PATTERNS = st.builds(
    lambda flags, tokens: flags + "".join(tokens),
    st.sampled_from(["", "", "", "(?i)", "(?x)", "(?s)", "(?m)", "(?a)", "(?xi)"]),
    st.lists(TOKENS, min_size=1, max_size=8),
)
KEYS = st.text("ab1A0.{}e#[:] \n-&lphix<=é", min_size=1, max_size=6)


def both(pattern: str) -> tuple[re.Pattern[str], KeyRegex]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = re.compile(pattern)
    except (re.error, OverflowError):
        assume(False)
    return plain, compile_regex(pattern)


@settings(max_examples=600)
@given(pattern=PATTERNS, keys=st.lists(KEYS, min_size=1, max_size=5))
def test_every_expression_that_re_takes_matches_as_re_does(pattern: str, keys: list[str]) -> None:
    plain, ours = both(pattern)
    template = read_template(pattern, "<>")
    for key in keys:
        for name in ("search", "fullmatch"):
            expected, found = getattr(plain, name)(key), getattr(ours, name)(key)
            assert (found and (found.span(), found.groups())) == (
                expected and (expected.span(), expected.groups())
            )
        assert ours.subn(template, key) == plain.subn("<>", key)


@settings(max_examples=300)
@given(pattern=PATTERNS, key=KEYS)
def test_what_is_known_of_a_pattern_holds_of_each_match(pattern: str, key: str) -> None:
    plain, ours = both(pattern)
    found = plain.search(key)
    if found:
        assert required_literal(pattern) in key
        assert key.startswith(literal_start(pattern))
    whole = plain.fullmatch(key)
    if whole:
        assert with_groups(pattern, whole.groups()) in (None, key)
    assert ours.groups == plain.groups


TEMPLATE = st.lists(
    st.sampled_from([
        "a", ".", r"\1", r"\2", r"\3", r"\g<1>", r"\g<n>", r"\g<m>", r"\g<0>", r"\g<00>", r"\\", r"\n", r"\t", r"\.", r"\-",
        r"\q", r"\x41", r"\u0041", r"\N{DIGIT ONE}", r"\0", r"\012", r"\101", r"\377", r"\400", r"\12", r"\g<", r"\g", "\\",
        "g<0>", "{1}", "\U000f0000", "\0",
    ]), max_size=5,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(
    template=TEMPLATE,
    pattern=st.sampled_from(["a", "(a)", "(?P<n>a)(b)?", "(a)|(?P<n>b)", "()" * 13 + "a"]),
    key=KEYS,
)
def test_every_template_is_filled_or_refused_as_re_does(template: str, pattern: str, key: str) -> None:
    try:
        expected = re.compile(pattern).subn(template, key)
    except (re.error, IndexError):
        with pytest.raises(ConfigError, match="does not suit the pattern"):
            read_template(pattern, template)
        return
    read, regex = read_template(pattern, template), compile_regex(pattern)
    assert regex.subn(read, key) == expected
    found, plain = regex.search(key), re.search(pattern, key)
    if found and plain:
        assert read.fill(found) == plain.expand(template)
        assert read.length(found) == len(plain.expand(template))


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 4),
        ("a{5}", 6),
        ("a{2,9}b", 4),
        ("(?:ab){10}", 31),
        ("(?:a{10}b){10}", 121),
        ("(?:[)]{10}){10}", 111),
        (r"(?:\){10}){10}", 111),
        ("(?x)(?:a {10} # )\n){10}", 111),
        ("a*b+c?", 4),
        ("a{e}{3}", 7),
    ],
)
def test_the_size_of_an_expression_counts_what_must_match(pattern: str, size: int) -> None:
    assert read_expression(pattern).size == size


@pytest.mark.parametrize(
    "pattern", ["(?R)", r"\L<x>", "(?|a|b)", r"\h", r"\p{L}", "(?1)", "(?r)a", "(?V1)a", "(?<n>a)", "a(?i)"]
)
def test_signs_that_re_lacks_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="is malformed"):
        compile_regex(pattern)
