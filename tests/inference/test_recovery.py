"""Whatever happened to the keys is found again, or honestly left open."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.plans import make_plan

from . import generated as g


def wrong(case: g.Case, found: ckptkit.Inference) -> list[Any]:
    return [o for o in found.outputs if o.expr.to_json() != case.truth.get(o.key)]


def square_transposes(case: g.Case, found: ckptkit.Inference) -> set[str]:
    """Keys whose shape cannot tell whether they were transposed."""
    return {o.key for o in found.outputs if len(s := case.target[o.key]) == 2 and s[0] == s[1]}


@settings(max_examples=60, deadline=None)
@given(case=g.changed_transformers())
def test_any_composition_of_changes_is_recovered_or_left_open(case: g.Case) -> None:
    found = g.inferred(case)
    silent = square_transposes(case, found)
    assert [o for o in wrong(case, found) if o.key not in silent] == []
    assert [o for o in wrong(case, found) if o.confidence == "certain"] == []
    assert len(found.outputs) >= 0.9 * len(case.target)


@settings(max_examples=30, deadline=None)
@given(case=g.changed_transformers())
def test_what_was_fused_is_cut_again(case: g.Case) -> None:
    if "transposed" in case.done:
        return
    back = g.backwards(case)
    found = g.inferred(back)
    assert wrong(back, found) == []
    assert len(found.outputs) >= 0.9 * len(back.target)


@settings(max_examples=30, deadline=None)
@given(case=g.changed_transformers(), seed=st.integers(0, 2**32))
def test_the_order_of_keys_changes_nothing(case: g.Case, seed: int) -> None:
    found = g.inferred(case)
    chance = random.Random(seed)
    source, target = list(case.source.items()), list(case.target.items())
    chance.shuffle(source)
    chance.shuffle(target)
    again = ckptkit.infer(g.signature(dict(source)), g.signature(dict(target)))
    assert again.config == found.config
    assert {o.key: o for o in again.outputs} == {o.key: o for o in found.outputs}


@settings(max_examples=40, deadline=None)
@given(case=g.changed_transformers(), seed=st.integers(0, 2**32))
def test_random_module_names_make_no_wrong_answer_certain(case: g.Case, seed: int) -> None:
    case = g.random_words(case, seed)
    found = g.inferred(case)
    assert [o for o in wrong(case, found) if o.confidence == "certain"] == []


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_shapes_alone_identify_the_blocks_of_a_renamed_convolutional_network(seed: int) -> None:
    case = g.random_words(g.unchanged(g.residual()), seed)
    found = g.inferred(case)
    assert [o for o in wrong(case, found) if o.confidence == "certain"] == []
    assert len(found.outputs) - len(wrong(case, found)) >= 0.5 * len(case.target)


@settings(max_examples=30, deadline=None)
@given(case=g.changed_transformers())
def test_the_outputs_are_what_the_config_does(case: g.Case) -> None:
    found = g.inferred(case)
    plan = make_plan(g.signature(case.source), found.config)
    assert {o.key: o.expr for o in plan.outputs if o.key in case.target} == {
        o.key: o.expr for o in found.outputs
    }


@settings(max_examples=20, deadline=None)
@given(case=g.changed_transformers())
def test_the_rules_do_not_grow_with_the_number_of_blocks(case: g.Case) -> None:
    rules = g.inferred(case).config.rules
    assert len(rules) <= 6
    assert len(str(rules)) < 6000
