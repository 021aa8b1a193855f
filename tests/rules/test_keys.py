"""The key rules by example, and the defects of other tools that they must not have."""

from __future__ import annotations

from typing import Any

import pytest

from ckptkit.errors import ConfigError, PlanError

from .test_laws import moved, plan


def test_a_group_reference_beyond_the_first_is_filled_in() -> None:
    """A known mapper leaves the second reference as the two characters of its escape."""
    made = plan(["a.b.c"], {"op": "rename", "pattern": r"(a)\.(b)\.(c)", "replacement": r"\2.\g<3>.\1"})
    assert moved(made) == {"a.b.c": "b.c.a"}


def test_the_matched_span_is_replaced_and_not_its_first_occurrence() -> None:
    """A known mapper turns ``player`` into ``pblk`` when ``layer`` at the end should become ``blk``."""
    made = plan(["player.layer"], {"op": "rename", "pattern": r"\.layer$", "replacement": ".blk"})
    assert moved(made) == {"player.layer": "player.blk"}


def test_every_occurrence_is_replaced() -> None:
    assert moved(plan(["a.a.a"], {"op": "rename", "pattern": "a", "replacement": "b"})) == {"a.a.a": "b.b.b"}


def test_two_sources_on_one_target_are_an_error_that_names_all_three() -> None:
    """A known mapper drops one of the tensors silently."""
    with pytest.raises(PlanError) as caught:
        plan(["q.weight", "k.weight"], {"op": "rename", "pattern": "^[qk]", "replacement": "x"})
    assert caught.value.message == (
        "rules.0 (rename): 'q.weight' and 'k.weight' would both become 'x.weight'; "
        "make the rule tell them apart, or drop one first"
    )


def test_renaming_onto_a_key_that_exists_is_an_error() -> None:
    for keys in (["a", "b"], ["b", "a"]):
        with pytest.raises(
            PlanError, match="'a' would become 'b', which exists already; drop or rename one of them"
        ):
            plan(keys, {"op": "rename", "pattern": "^a$", "replacement": "b"})


def test_pairs_swap_two_names_and_lose_no_key() -> None:
    """A known bridge loses keys when two names are exchanged."""
    made = plan(
        ["encoder.w", "decoder.w"],
        {"op": "rename", "pairs": [["^encoder", "decoder"], ["^decoder", "encoder"]]},
    )
    assert moved(made) == {"encoder.w": "decoder.w", "decoder.w": "encoder.w"}


def test_adding_a_prefix_again_does_not_depend_on_what_the_key_holds() -> None:
    """A known mapper's way back gives ``encoder.encoder.``."""
    there = plan(["encoder.w"], {"op": "rename", "pattern": r"^encoder\.", "replacement": "model.encoder."})
    back = plan(
        [there.outputs[0].key], {"op": "rename", "pattern": r"^model\.encoder\.", "replacement": "encoder."}
    )
    assert back.outputs[0].key == "encoder.w"


def test_a_number_in_a_name_is_not_a_block_number() -> None:
    """A known template uses the first number of a key: ``enc2.layers.3`` becomes layer 2."""
    made = plan(["enc2.layers.3.w"], {"op": "rename", "pattern": r"layers\.(\d+)", "replacement": r"h.\1"})
    assert moved(made) == {"enc2.layers.3.w": "enc2.h.3.w"}


def test_a_rule_that_touches_nothing_is_an_error_and_not_a_log_line() -> None:
    with pytest.raises(PlanError) as caught:
        plan(["module.a", "module.b"], {"op": "strip_prefix", "prefix": "modul_"})
    assert caught.value.message == (
        "rules.0 (strip_prefix): it touches no key (prefix: 'modul_'); the nearest keys are 'module.a', 'module.b'; "
        "correct it, or set required: false"
    )
    assert caught.value.problems[0].location == "rules.0"
    assert plan(["a"], {"op": "strip_prefix", "prefix": "x", "required": False}).rules[0].matched == 0


def test_every_single_pattern_must_match() -> None:
    with pytest.raises(
        PlanError, match=r"rules.0 \(drop\): the pattern 'y\*' matches no key; the nearest keys are 'x'"
    ):
        plan(["x"], {"op": "drop", "keys": ["x", "y*"]})
    assert not plan(["x"], {"op": "drop", "keys": ["x", "y*"], "required": False}).outputs


def test_rules_run_in_order_each_on_the_result_of_the_one_before() -> None:
    made = plan(
        ["a", "b"],
        {"op": "rename", "pattern": "^b$", "replacement": "c"},
        {"op": "rename", "pattern": "^a$", "replacement": "b"},
    )
    assert moved(made) == {"a": "b", "b": "c"}


def test_renumber_maps_some_blocks_and_leaves_the_others() -> None:
    rule = {"op": "renumber", "pattern": r"^h\.(?P<index>\d+)\.", "map": {3: 0, 0: 3}}
    assert moved(plan(["h.0.w", "h.3.w", "h.1.w"], rule)) == {
        "h.0.w": "h.3.w",
        "h.3.w": "h.0.w",
        "h.1.w": "h.1.w",
    }
    with pytest.raises(PlanError, match="'h.0.w' would get the negative number -1"):
        plan(["h.0.w"], {"op": "renumber", "pattern": r"(?P<index>\d+)", "offset": -1})


def test_a_copy_is_a_second_key_beside_the_first() -> None:
    made = plan(["a.w", "z"], {"op": "copy", "pattern": r"(.*)\.w", "into": r"\1.v"})
    assert [(o.key, o.expr.reads()) for o in made.outputs] == [
        ("a.w", ("a.w",)),
        ("a.v", ("a.w",)),
        ("z", ("z",)),
    ]
    with pytest.raises(PlanError, match="which exists already"):
        plan(["a", "b"], {"op": "copy", "key": "a", "into": "b"})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty_key": ({"op": "rename", "pattern": "^.*$", "replacement": ""}, "'a.b' would become the empty key"),
    "reserved": (
        {"op": "rename", "pattern": "^.*$", "replacement": "__metadata__"},
        "which safetensors keeps for itself",
    ),
    "grow": ({"op": "add_prefix", "prefix": "x" * 100_000}, "100000 is the limit"),
    "not_a_number": ({"op": "renumber", "pattern": "(?P<index>a)", "offset": 1}, "which is no block number"),
}


@pytest.mark.parametrize("name", BAD)
def test_names_that_no_checkpoint_can_hold_are_refused(name: str) -> None:
    rule, words = BAD[name]
    with pytest.raises(PlanError) as caught:
        plan(["a.b"], rule)
    assert words in caught.value.message


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no_replacement": ({"op": "rename", "pattern": "a"}, "rename needs pattern and replacement, or pairs"),
    "both": ({"op": "rename", "pattern": "a", "replacement": "b", "pairs": [["a", "b"]]}, "not both"),
    "group": ({"op": "rename", "pattern": "(a)", "replacement": r"\2"}, "invalid group reference 2"),
    "name": ({"op": "rename", "pattern": "(?P<x>a)", "replacement": r"\g<y>"}, "named x"),
    "empty": ({"op": "rename", "pattern": "", "replacement": "x"}, "would match between all characters"),
    "surrogate": ({"op": "add_prefix", "prefix": "\ud800"}, "lone surrogate"),
    "index": ({"op": "renumber", "pattern": r"(\d+)", "offset": 1}, "needs a group named index"),
    "offset_and_map": (
        {"op": "renumber", "pattern": r"(?P<index>\d)", "offset": 1, "map": {1: 2}},
        "either offset or map",
    ),
    "glob": ({"op": "drop", "keys": ["a[b"]}, "has an unclosed '['"),
    "dtype": ({"op": "cast", "dtype": "bflot16"}, "did you mean 'bfloat16'?"),
    "copy": ({"op": "copy", "into": "x"}, "copy needs either key or pattern"),
    "type": ({"op": "strip_prefix", "prefix": 1}, "must be text, not 1; put it in quotes: '1'"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_rule_is_refused_when_it_is_read(name: str) -> None:
    rule, words = MALFORMED[name]
    with pytest.raises(ConfigError) as caught:
        plan(["a"], rule)
    assert words in caught.value.message
    assert caught.value.problems[0].location.startswith("rules.0")
