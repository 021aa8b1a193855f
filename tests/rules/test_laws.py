"""Laws of the key rules over generated keys."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ckptkit.config import RemapConfig
from ckptkit.errors import PlanError
from ckptkit.expr import Read
from ckptkit.plans import Plan, make_plan
from ckptkit.signatures import Signature, TensorInfo

SEGMENT = st.sampled_from(["a", "b", "ab", "layers", "0", "1", "10", "weight", "x_0", "é"])
KEY = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)
KEYS = st.lists(KEY, min_size=1, max_size=12, unique=True)
PATTERN = st.sampled_from(
    [
        r"a",
        r"^a",
        r"\.",
        r"(\d+)",
        r"layers\.(\d+)\.",
        r"(?P<n>[a-z]+)$",
        r"b|x",
        r"(?i)A",
        r"^(.*)\.weight$",
        r"a(b)?",
        r"(?:a|ab)\.",
    ]
)
REPLACEMENT = st.sampled_from(["", "z", ".", "z."])


def signature(keys: list[str], tied: tuple[tuple[str, ...], ...] = ()) -> Signature:
    return Signature({key: TensorInfo((i + 1,), "float32") for i, key in enumerate(keys)}, tied)


def plan(keys: list[str], *rules: dict[str, Any]) -> Plan:
    return make_plan(signature(keys), RemapConfig(rules=list(rules)))


def moved(made: Plan) -> dict[str, str]:
    """Source key to output key."""
    return {output.expr.reads()[0]: output.key for output in made.outputs}


@given(
    keys=KEYS, pattern=PATTERN, replacement=REPLACEMENT | st.sampled_from(["*", "$1", r"\\1", "{n}", "x.."])
)
def test_a_name_that_looks_like_a_slip_needs_a_permission_and_nothing_else_does(
    keys: list[str], pattern: str, replacement: str
) -> None:
    rule = {"op": "rename", "pattern": pattern, "replacement": replacement, "required": False}
    try:
        made = moved(plan(keys, {**rule, "allow_literal": True}))
    except PlanError:
        return
    signs = ("..", "*", "$1", r"\1", "{n}")
    slips = [
        new
        for new in made.values()
        if any(sign in new for sign in signs) or new.startswith(".") or new.endswith(".")
    ]
    if slips:
        with pytest.raises(PlanError, match="allow_literal: true permits it"):
            plan(keys, rule)
    else:
        assert moved(plan(keys, rule)) == made


@given(keys=KEYS, pattern=PATTERN, replacement=REPLACEMENT)
def test_rename_is_re_sub_on_every_key_or_a_collision(
    keys: list[str], pattern: str, replacement: str
) -> None:
    expected = [re.sub(pattern, replacement, key) for key in keys]
    rule = {
        "op": "rename",
        "pattern": pattern,
        "replacement": replacement,
        "required": False,
        "allow_literal": True,
    }
    if len(set(expected)) < len(expected) or "" in expected:
        with pytest.raises(PlanError) as caught:
            plan(keys, rule)
        doubled = {new for new in expected if expected.count(new) > 1}
        culprits = [key for key, new in zip(keys, expected, strict=True) if new in doubled or not new]
        assert sum(repr(key) in caught.value.message for key in culprits) >= 1
    else:
        made = plan(keys, rule)
        assert [output.key for output in made.outputs] == expected
        assert [output.expr for output in made.outputs] == [Read(key) for key in keys]


@given(keys=KEYS, pattern=PATTERN, replacement=REPLACEMENT)
def test_no_key_is_lost_or_doubled_unless_a_rule_says_so(
    keys: list[str], pattern: str, replacement: str
) -> None:
    rules = [
        {"op": "rename", "pattern": pattern, "replacement": replacement, "required": False},
        {"op": "drop", "keys": ["*weight*"], "required": False},
    ]
    try:
        made = plan(keys, *rules)
    except PlanError:
        return
    assert len(made.outputs) + len(made.dropped) == len(keys)
    assert len({output.key for output in made.outputs}) == len(made.outputs)


@given(keys=KEYS, prefix=KEY)
def test_stripping_what_was_added_is_nothing(keys: list[str], prefix: str) -> None:
    made = plan(keys, {"op": "add_prefix", "prefix": prefix}, {"op": "strip_prefix", "prefix": prefix})
    assert moved(made) == {key: key for key in keys}
    assert all(output.rules == (0, 1) for output in made.outputs)


@given(keys=KEYS, prefix=SEGMENT)
def test_strip_prefix_strips_once_and_touches_its_carriers_only(keys: list[str], prefix: str) -> None:
    expected = {key: key.removeprefix(prefix) for key in keys}
    assume("" not in expected.values() and len(set(expected.values())) == len(keys))
    made = plan(keys, {"op": "strip_prefix", "prefix": prefix, "required": False, "allow_literal": True})
    assert moved(made) == expected
    assert [o.rules == (0,) for o in made.outputs] == [key.startswith(prefix) for key in keys]


@given(keys=KEYS, chosen=st.data())
def test_keep_and_drop_are_complements(keys: list[str], chosen: Any) -> None:
    pattern = chosen.draw(st.sampled_from(keys))
    kept = plan(keys, {"op": "keep", "keys": [pattern]})
    gone = plan(keys, {"op": "drop", "keys": [pattern]})
    assert [o.key for o in kept.outputs] == [pattern]
    assert [o.key for o in gone.outputs] == [key for key in keys if key != pattern]
    assert [gone.key for gone in kept.dropped] == [o.key for o in gone.outputs]


@given(keys=KEYS)
def test_the_rules_of_an_output_are_those_that_touched_it(keys: list[str]) -> None:
    rules = [
        {"op": "rename", "pattern": "a", "replacement": "q", "required": False},
        {"op": "cast", "dtype": "float16", "keys": ["*0*"], "required": False},
    ]
    try:
        made = plan(keys, *rules)
    except PlanError:
        return
    for output in made.outputs:
        source = output.expr.reads()[0]
        assert output.rules == tuple(i for i, hit in enumerate(("a" in source, "0" in output.key)) if hit)
        assert output.info.dtype == ("float16" if "0" in output.key else "float32")


@given(keys=KEYS, offset=st.integers(0, 5))
def test_renumbering_forth_and_back_is_nothing(keys: list[str], offset: int) -> None:
    pattern = r"(^|\.)(?P<index>\d+)(\.|$)"
    made = plan(
        keys,
        {"op": "renumber", "pattern": pattern, "offset": offset, "required": False},
        {"op": "renumber", "pattern": pattern, "offset": -offset, "required": False},
    )
    assert moved(made) == {key: key for key in keys}


@given(keys=KEYS)
def test_planning_twice_gives_the_same_document(keys: list[str]) -> None:
    rule = {"op": "add_prefix", "prefix": "p."}
    assert plan(keys, rule).to_json() == plan(keys, rule).to_json()
