"""The key matcher against Python's own, and regular expressions that cannot hang."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import ConfigError
from ckptkit.patterns import compile_pattern, nearest, select
from ckptkit.regexes import compile_regex, read_template, required_literal

KEY = st.text("ab.[]*?!-^\\\n", max_size=8)


@given(glob=st.text("ab.*?", min_size=1, max_size=6), key=st.text("ab.\n", max_size=6))
def test_globs_match_as_fnmatch_does(glob: str, key: str) -> None:
    assert compile_pattern(glob).matches(key) == fnmatch.fnmatchcase(key, glob)


@given(
    members=st.text("abc^-]\\", min_size=1, max_size=3),
    negated=st.booleans(),
    key=st.text("abc^-]\\", max_size=2),
)
def test_sets_hold_exactly_their_characters(members: str, negated: bool, key: str) -> None:
    if "]" in members[1:] or "-" in members[1:-1]:
        return
    pattern = compile_pattern(f"[{'!' if negated else ''}{members}]")
    assert pattern.matches(key) == (len(key) == 1 and (key in members) != negated)


def test_a_literal_bracket_is_written_in_a_set() -> None:
    assert compile_pattern("a[[]0]").exact == "a[0]"
    with pytest.raises(ConfigError, match=r"'a\[0' has an unclosed '\['; a literal bracket is '\[\[\]'"):
        compile_pattern("a[0")


def test_a_regular_expression_must_match_the_whole_key() -> None:
    assert select(["re:a.b"], ["a.b", "axb", "a.bc"]).keys == ["a.b", "axb"]


@given(
    keys=st.lists(KEY, unique=True, max_size=8),
    patterns=st.lists(st.sampled_from(["*", "a*", "re:.*b", "a", "??"]), max_size=3),
)
def test_a_selection_is_the_union_in_the_order_of_the_keys(keys: list[str], patterns: list[str]) -> None:
    found = select(patterns, keys)
    assert found.keys == [k for k in keys if any(compile_pattern(p).matches(k) for p in patterns)]
    assert found.unmatched == [p for p in patterns if not any(compile_pattern(p).matches(k) for k in keys)]
    assert found.by_name == {"a"} & set(patterns) & set(keys)


PIECE = st.sampled_from(
    [
        "a",
        "b",
        r"\.",
        r"\d+",
        "(ab)",
        "(a)?",
        "(?:b|a)",
        "[ab]",
        "^",
        "$",
        ".",
        "a*",
        "(?=a)",
        "(?i:b)",
        "a{2}",
        r"(x)",
    ]
)


@given(
    pieces=st.lists(PIECE, min_size=1, max_size=5),
    flags=st.sampled_from(["", "(?i)", "(?s)"]),
    key=st.text("abx.1\n", max_size=8),
)
def test_the_prefilter_never_hides_a_match(pieces: list[str], flags: str, key: str) -> None:
    pattern = flags + "".join(pieces)
    if re.search(pattern, key):
        assert required_literal(pattern) in key


@pytest.mark.parametrize(
    "pattern", ["(", "[z-a]", "(?<=a+)b", "a{99999999999}", "(" * 5000 + ")" * 5000, "x" * 10_001]
)
def test_malformed_patterns_are_one_config_error(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"regular expression .*(malformed|too large|characters long)"):
        compile_regex(pattern)


LONG = "9" * 5000


@pytest.mark.parametrize("pattern", [f"a{{{LONG}}}", f"(?P<{'n' * 9000}", f"(?P={'n' * 9000})", f"\\{LONG}"])
def test_what_is_wrong_with_a_long_pattern_is_said_in_short(pattern: str) -> None:
    """G3: nor does Python's advice to raise its limit on numbers get through."""
    with pytest.raises(ConfigError, match="malformed") as caught:
        compile_regex(pattern)
    assert len(str(caught.value)) < 600 and "set_int" not in str(caught.value)


@pytest.mark.parametrize(
    "replacement", [f"\\g<{LONG}>", f"\\g<{'k' * 5000}>", f"\\{LONG}", "k" * 5000 + "\\9"]
)
def test_what_is_wrong_with_a_long_replacement_is_said_in_short(replacement: str) -> None:
    """G3."""
    names = "".join(f"(?P<{'n' * 200}{n}>a)" for n in range(8))
    with pytest.raises(ConfigError, match="does not suit the pattern") as caught:
        read_template(names, replacement)
    assert len(str(caught.value)) < 1500 and "set_int" not in str(caught.value)


def test_the_nearest_keys_come_first() -> None:
    keys = ["encoder.weight", "decoder.weight", "head.bias"]
    assert nearest("encodr.weight", keys)[0] == "encoder.weight"
    assert nearest(r"^head\.", keys)[0] == "head.bias"
    assert nearest("x", []) == []


def test_the_nearest_of_long_keys_is_found_by_how_they_start() -> None:
    """G5: a pattern of a megabyte is compared as far as it can tell keys apart."""
    keys = [f"{word}.{'layer.block.' * 30}weight" for word in ("decoder", "backbone", "encoder")]
    assert nearest("encodre." + "layer.block." * 50_000, keys, 1) == [keys[2]]
