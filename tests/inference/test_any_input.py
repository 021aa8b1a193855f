"""Whatever the keys look like, there is an answer, and it fits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.expr import infer as shape_of

from . import generated as g

TOKEN = st.sampled_from(
    ["a", "b", "layers", "0", "1", "2", "10", "007", "x1", "x2", "q_proj", "k_proj", "v_proj", "qkv", "{}", "{1|2}", "a{2}",
     "weight", "bias", "*", "a+b", "\\d", "(", "é", "", "Wq", "_", "[0]", "experts", "in_proj_weight", "re:a"]
)  # fmt: skip
KEY = st.lists(TOKEN, min_size=1, max_size=5).map(".".join).filter(bool)
SHAPE = st.sampled_from([(), (1,), (4,), (12,), (4, 4), (12, 4), (4, 12), (2, 4, 4), (4, 1, 1), (0, 4)])
SHAPES = st.dictionaries(KEY, SHAPE, max_size=14)


@settings(max_examples=300, deadline=None)
@given(source=SHAPES, target=SHAPES)
def test_every_output_has_the_shape_of_its_target_and_the_lists_add_up(
    source: g.Shapes, target: g.Shapes
) -> None:
    mine, theirs = g.signature(source), g.signature(target)
    found = ckptkit.infer(mine, theirs)
    made = {o.key: o for o in found.outputs}
    for key, output in made.items():
        assert shape_of(output.expr, mine).shape == target[key]
    assert set(found.missing) == set(target) - set(made)
    read = {key for o in found.outputs for key in o.expr.reads()}
    assert set(found.unused) == set(source) - read


@settings(max_examples=150, deadline=None)
@given(shapes=SHAPES)
def test_a_signature_is_its_own_source(shapes: g.Shapes) -> None:
    found = ckptkit.infer(g.signature(shapes), g.signature(shapes))
    assert {o.key: o.expr.to_json() for o in found.outputs} == {key: {"read": key} for key in shapes}
    assert found.config.rules == []


@pytest.mark.parametrize("name", ["b.*.{}", "w[0].{}", "b..{}", ".{}", "$1.{}", "{{x}}.{}", "b?.{}."])
def test_names_that_look_like_slips_are_made_where_the_target_has_them(name: str) -> None:
    shapes = {"q": (3, 4), "k": (5, 6), "v": (7, 8)}
    source = {f"a.{part}": torch.ones(*shape) for part, shape in shapes.items()}
    target = {name.format(part): torch.ones(*shape) for part, shape in shapes.items()}
    found = ckptkit.infer(source, target)
    assert not found.missing
    assert set(ckptkit.remap(source, found.config)) == set(target)
    assert set(ckptkit.remap(source, list(ckptkit.diff(source, target).rules))) == set(target)
