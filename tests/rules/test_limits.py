"""What a few rules can ask for without bound is refused when it is planned, and the plan that is made, torch carries out."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import ConfigError, FormatError, PlanError
from ckptkit.expr import evaluate
from ckptkit.plan_file import load_plan, save_plan
from ckptkit.plans import Plan
from ckptkit.signatures import Signature, TensorInfo

Rules = list[dict[str, Any]]


def planned(shapes: dict[str, tuple[int, ...]], rules: Rules, dtype: str = "float32") -> Plan:
    return ckptkit.plan(Signature({key: TensorInfo(shape, dtype) for key, shape in shapes.items()}), rules)


BEYOND: dict[str, tuple[tuple[int, ...], Rules]] = {
    "reshape": ((0, 3), [{"op": "reshape", "keys": ["a"], "shape": [(1 << 63) - 1, 4, 0]}]),
    "bytes": ((0, 3), [{"op": "reshape", "keys": ["a"], "shape": [1 << 62, 0]}]),
    "concat": ((0, 1 << 60), [{"op": "concat", "patterns": ["a"] * 4, "into": "a", "dim": 1}]),
    "resize": ((2,), [{"op": "resize", "keys": ["a"], "shape": [1 << 62], "method": "pad", "fill": "zero"}]),
}


@pytest.mark.parametrize("name", BEYOND)
def test_shapes_that_torch_cannot_count_are_refused_when_planned(name: str) -> None:
    """G3: also where a size of 0 makes the product small."""
    shape, rules = BEYOND[name]
    with pytest.raises(PlanError, match=r"rules\.0 .*torch cannot count the bytes of the shape"):
        planned({"a": shape}, rules)


def test_a_step_beyond_the_end_takes_the_first_entry() -> None:
    """G3: torch multiplies the step with the stride."""
    state = {"a": torch.arange(20.0).reshape(5, 4)}
    new = ckptkit.remap(state, [{"op": "slice", "keys": ["a"], "step": (1 << 63) - 1}])
    assert new["a"].equal(state["a"][:1])


ENDLESS: dict[str, tuple[tuple[int, ...], Rules]] = {
    "concat": ((0,), [{"op": "concat", "patterns": ["a", "a"], "into": "a"}] * 60),
    "rotary": ((8, 4), [{"op": "rotary", "keys": ["a"], "heads": 2, "to": "half", "rotary_dim": 2}] * 60),
    "transpose": ((2, 3), [{"op": "transpose", "keys": ["a"]}] * 3000),
    "cast": ((2,), [{"op": "cast", "dtype": dtype} for dtype in ("float64", "float32")] * 3000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_rules_that_pile_up_operations_are_refused(name: str) -> None:
    """G3, G5, G6: doubled sixty times, an expression has more nodes than anybody can visit."""
    shape, rules = ENDLESS[name]
    with pytest.raises(PlanError, match=r"'a' would be made by more than [\d]+ operations"):
        planned({"a": shape}, rules)


def test_what_is_planned_at_the_limit_can_be_kept_read_and_undone(tmp_path: Path) -> None:
    """G3: the way back is nested as deep as the way there."""
    plan = planned({"a": (2, 3)}, [{"op": "transpose", "keys": ["a"]}] * 200)
    save_plan(plan, tmp_path / "p.json")
    save_plan(load_plan(tmp_path / "p.json").invert(), tmp_path / "i.json")
    assert load_plan(tmp_path / "i.json").invert().outputs[0].key == "a"


def test_a_way_back_that_is_nested_deeper_than_plans_may_be_is_refused() -> None:
    """G3: one padding is undone by one slice for each dimension."""
    rules = [
        {
            "op": "resize",
            "keys": ["a"],
            "shape": [n, n],
            "method": "pad",
            "fill": "zero",
            "dims": [0, 1],
        }
        for n in range(3, 120)
    ]
    with pytest.raises(PlanError, match="'a' would come back by more than 200 operations"):
        planned({"a": (2, 2)}, rules).invert()


def test_an_empty_tensor_is_not_unstacked_into_a_billion_keys() -> None:
    """G5, G6."""
    with pytest.raises(PlanError, match="would give 1000000000 keys; 100000 is the limit"):
        planned({"a": (10**9, 0)}, [{"op": "unstack", "pattern": "a", "into": "a.{index}"}])


@pytest.mark.parametrize("size", [3 * 10**9, 1 << 60])
def test_undoing_a_plan_counts_to_no_number_that_the_plan_names(size: int, tmp_path: Path) -> None:
    """G5, G6: a plan is input like any other."""
    sliced = planned({"a": (size,)}, [{"op": "slice", "keys": ["a"], "step": size}], "uint8")
    document = json.loads(json.dumps(sliced.to_json()))
    document["outputs"][0]["shape"] = []
    document["outputs"][0]["expr"] = {"op": "select", "dim": 0, "index": 2, "of": [{"read": "a"}]}
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(PlanError, match=rf"only some of its {size} entries"):
        sliced.invert()
    with pytest.raises(PlanError, match=rf"entries 0, 1, 3, 4, ... \({size - 1} of them\) of {size}"):
        load_plan(tmp_path / "p.json").invert()


def test_slices_by_steps_that_are_all_there_are_woven_together() -> None:
    rules: Rules = [
        {"op": "copy", "key": "a", "into": "b"},
        {"op": "copy", "key": "a", "into": "c"},
        *({"op": "slice", "keys": [key], "start": start, "step": 3} for start, key in enumerate("abc")),
    ]
    state = {"a": torch.arange(12)}
    plan = ckptkit.plan(state, rules)
    assert ckptkit.remap(ckptkit.remap(state, plan), plan.invert())["a"].equal(state["a"])


@pytest.mark.parametrize(
    ("before", "after"), [("float4_e2m1fn_x2", "float32"), ("float32", "float4_e2m1fn_x2")]
)
def test_packed_numbers_are_not_cast(before: str, after: str, tmp_path: Path) -> None:
    """G3: torch cannot take them apart; by a rule, or by a plan that somebody wrote."""
    if before != "float32":
        with pytest.raises(PlanError, match=r"packs several numbers into one element"):
            planned({"a": (2,)}, [{"op": "cast", "dtype": after, "keys": ["a"]}], before)
    document = planned({"a": (2,)}, [], before).to_json()
    document["outputs"][0].update(dtype=after, expr={"op": "cast", "dtype": after, "of": [{"read": "a"}]})
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"packs several numbers into one element"):
        load_plan(tmp_path / "p.json")


LONG = "k" * 5000
LOUD: dict[str, Rules] = {
    "collision": [{"op": "rename", "pattern": "k+", "replacement": "a"}],
    "no match": [{"op": "drop", "keys": ["*" + "x" * 9000]}],
    "nothing touched": [{"op": "strip_prefix", "prefix": LONG + "x"}],
    "shape": [{"op": "reshape", "keys": [LONG], "shape": [5]}],
    "parts": [{"op": "split", "pattern": "k+", "into": ["x"] * 1000, "sizes": [1] * 1000}],
    "dimension": [{"op": "unstack", "pattern": "(k+)", "into": r"\1.{index}", "dim": 7}],
    "a part missing": [{"op": "concat", "patterns": ["(k+)", r"(k+)x"], "into": r"\1z"}],
    "lost": [{"op": "drop", "keys": [LONG]}],
}


@pytest.mark.parametrize("name", LOUD)
def test_errors_of_plans_quote_a_part_of_a_long_key(name: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned({LONG: (2, 3), "a": (2, 3)}, LOUD[name]).invert()
    assert "kkk" in caught.value.message
    assert len(caught.value.message) < 3000


GROWING: dict[str, dict[str, Any]] = {
    "each character": {"op": "rename", "pattern": ".", "replacement": "x" * 10_000},
    "the rest at each character": {"op": "rename", "pattern": "(?=(.*)).", "replacement": r"\1"},
    "many groups": {"op": "rename", "pattern": "(k+)k", "replacement": r"\1" * 5000},
    "pairs": {"op": "rename", "pairs": [["(k+)k", r"\1" * 5000]]},
    "copy": {"op": "copy", "pattern": "(k+)", "into": r"\1" * 5000},
    "split": {"op": "split", "pattern": "(k+)", "into": [r"\1" * 5000, "x"]},
    "unstack": {"op": "unstack", "pattern": "(k+)", "into": r"\1" * 4000 + "{index}"},
    "concat": {"op": "concat", "patterns": ["(k+)"], "into": r"\1" * 5000},
}


@pytest.mark.parametrize("name", GROWING)
def test_a_replacement_that_grows_without_end_is_refused_before_it_is_made(name: str) -> None:
    """G6: a config of some kilobytes made keys of gigabytes."""
    planned({"a": (2,)}, [{**GROWING[name], "required": False}])
    tracemalloc.start()
    try:
        with pytest.raises(PlanError, match=r"would become a key of \d+ characters; 100000 is the limit"):
            planned({LONG: (2, 3)}, [GROWING[name]])
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_replacement_is_as_long_as_a_pattern_may_be() -> None:
    with pytest.raises(ConfigError, match="10001 characters long; 10000 is the limit"):
        planned({"a": (2,)}, [{"op": "copy", "key": "a", "into": "x" * 10_001}])


def test_long_keys_are_rewritten_as_short_ones_are() -> None:
    plan = planned({LONG: (2, 3)}, [{"op": "rename", "pattern": "k(k*)k", "replacement": r"a\1"}])
    assert plan.outputs[0].key == "a" + LONG[2:]


SHAPES = st.sampled_from(
    [(), (0,), (3,), (0, 3), (3, 0), (2, 3), (1 << 31, 0), (0, 1 << 40), (2, 0, 1 << 58), (1,) * 9]
)
NUMBER = st.sampled_from([0, 1, -1, 2, 3, 64, 1 << 31, 1 << 62, (1 << 63) - 1])
RULE = st.one_of(
    st.fixed_dictionaries({"op": st.just("transpose"), "dims": st.lists(NUMBER, min_size=2, max_size=2)}),
    st.fixed_dictionaries({"op": st.just("reshape"), "shape": st.lists(NUMBER, max_size=3)}),
    st.fixed_dictionaries({"op": st.just("slice"), "dim": NUMBER, "start": NUMBER, "step": NUMBER}),
    st.fixed_dictionaries({"op": st.just("permute"), "dims": st.just([1, 0]),
                           "view": st.lists(NUMBER, min_size=2, max_size=2)}),
)  # fmt: skip


@given(shape=SHAPES, rules=st.lists(RULE, min_size=1, max_size=3), dtype=st.sampled_from(["float32", "bool"]))
def test_what_is_planned_for_odd_shapes_torch_carries_out(
    shape: tuple[int, ...], rules: Rules, dtype: str
) -> None:
    """G3: empty tensors may have sizes that nothing else has."""
    try:
        plan = planned({"a": shape}, [{**rule, "keys": ["a"]} for rule in rules], dtype)
    except ckptkit.CkptkitError:
        return
    (output,) = plan.outputs
    made = evaluate(output.expr, lambda _: torch.empty(shape, dtype=getattr(torch, dtype), device="meta"))
    assert tuple(made.shape) == output.info.shape
