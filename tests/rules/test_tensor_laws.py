"""Laws of the tensor rules over generated state_dicts and rules: what is planned is what is made, and it goes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.config import RemapConfig
from ckptkit.errors import CastError, PlanError
from ckptkit.expr import evaluate, from_json, infer
from ckptkit.expr import runs as runs_module
from ckptkit.expr import streams as streams_module
from ckptkit.plans import Plan, make_plan
from strategies import bits, content

SIZE = st.integers(1, 4)
DTYPES = st.sampled_from(
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8]
)
DIM = st.integers(-3, 3)


@st.composite
def sources(draw: Any) -> dict[str, torch.Tensor]:
    """Two blocks with experts, a fused projection, a tied pair, an odd one."""
    rows, columns, heads, experts = draw(SIZE), draw(SIZE), draw(SIZE), draw(SIZE)
    dtype = draw(DTYPES)
    seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def values(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=seed) * 8).to(dtype)

    state = {}
    for block in range(draw(st.integers(1, 2))):
        for expert in range(experts):
            for name in ("w1", "w3"):
                state[f"h.{block}.experts.{expert}.{name}"] = values(rows, columns)
        state[f"h.{block}.qkv"] = values(3 * heads * 2, columns)
        state[f"h.{block}.norm"] = values(rows)
    state["embed"] = values(rows, 2, columns)
    state["out"] = state["embed"] if draw(st.booleans()) else values(rows, 2, columns)
    return state


def one_rule(draw: Any) -> dict[str, Any]:
    keys = draw(
        st.sampled_from([["embed"], ["*.qkv"], ["*.w1"], ["*"], ["h.*"], ["out"], ["*.a"], ["*.w13"]])
    )
    dim = draw(DIM)
    sizes, groups = draw(st.sampled_from([[1, 1], [0, 2], [2, 1]])), draw(st.integers(1, 2))
    dims = draw(st.permutations(range(draw(st.integers(1, 3)))))
    menu: list[dict[str, Any]] = [
        {"op": "transpose", "keys": keys, "dims": [dim, draw(DIM)]},
        {"op": "permute", "keys": keys, "dims": list(dims)},
        {"op": "permute", "keys": ["*.qkv"], "view": [-1, 3, 2], "dims": [1, 0, 2]},
        {"op": "reshape", "keys": keys, "shape": draw(st.sampled_from([[-1], [1, -1], [-1, 1], [-1, 2]]))},
        {"op": "rotary", "keys": ["*.qkv"], "heads": 3, "to": draw(st.sampled_from(["half", "interleaved"]))},
        {"op": "rotary", "keys": ["*.qkv"], "heads": 1, "to": "half", "rotary_dim": 4},
        {"op": "split", "pattern": r"(.*)\.qkv", "into": [r"\1.a", r"\1.b", r"\1.c"], "dim": dim},
        {"op": "split", "pattern": r"(.*)\.qkv", "into": [r"\1.a", r"\1.b", r"\1.c"], "groups": 2},
        {"op": "split", "pattern": "embed", "into": ["e1", "e2"], "dim": 1, "sizes": sizes},
        {"op": "concat", "patterns": [r"(.*)\.w1", r"(.*)\.w3"], "into": r"\1.w13", "dim": dim},
        {"op": "concat", "patterns": [r"(.*)\.a", r"(.*)\.b", r"(.*)\.c"], "into": r"\1.qkv", "dim": dim, "groups": groups},
        {"op": "stack", "pattern": r"(.*)\.experts\.(?P<index>\d+)\.w13", "into": r"\1.w13", "dim": dim},
        {"op": "stack", "pattern": r"(.*)\.experts\.(?P<index>\d+)\.w1", "into": r"\1.w1", "dim": dim},
        {"op": "unstack", "pattern": "(embed)", "into": r"\1.{index}", "dim": dim},
        {"op": "slice", "keys": keys, "dim": dim, "start": draw(st.integers(-2, 2)), "step": draw(st.integers(1, 2))},
        {"op": "cast", "dtype": draw(st.sampled_from(["float64", "float32", "bfloat16", "int64"])), "keys": keys},
        {"op": "resize", "keys": ["*.norm"], "shape": [6], "method": "pad", "fill": "zero"},
        {"op": "resize", "keys": ["embed"], "shape": [-1, 4, -1], "method": "repeat", "dims": [1]},
        {"op": "copy", "pattern": r"(.*)\.norm", "into": r"\1.twin"},
        {"op": "copy", "key": "out", "into": "again", "tie": draw(st.booleans())},
        {"op": "rename", "pattern": r"^h\.", "replacement": "layers."},
        {"op": "drop", "keys": draw(st.sampled_from([["out"], ["*.b"], ["embed"]]))},
    ]  # fmt: skip
    chosen: dict[str, Any] = draw(st.sampled_from(menu))
    return {**chosen, "required": False}


@st.composite
def planned(draw: Any) -> tuple[dict[str, torch.Tensor], Plan]:
    """A state_dict and a plan for it; rules that do not suit are left out."""
    state = draw(sources())
    signature = ckptkit.signature(state)
    rules: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 5))):
        rule = one_rule(draw)
        try:
            make_plan(signature, RemapConfig(rules=[*rules, rule]))
        except PlanError:
            continue
        rules.append(rule)
    assume(rules)
    plan = make_plan(signature, RemapConfig(rules=rules))
    for use in plan.rules:
        if use.matched:
            event(use.op)
    return state, plan


LAWS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@given(planned())
@LAWS
def test_what_is_planned_is_what_is_made(case: tuple[dict[str, torch.Tensor], Plan]) -> None:
    state, plan = case
    made = ckptkit.remap(state, plan)
    assert {k: (tuple(v.shape), str(v.dtype)) for k, v in made.items()} == {
        k: (info.shape, f"torch.{info.dtype}") for k, info in plan.signature.tensors.items()
    }
    tied = {frozenset(group) for group in plan.signature.tied}
    assert tied == {frozenset(group) for group in ckptkit.signature(made).tied}


@given(planned())
@LAWS
def test_shapes_and_dtypes_are_those_that_torch_gives_on_the_meta_device(
    case: tuple[dict[str, torch.Tensor], Plan],
) -> None:
    state, plan = case
    meta = {key: value.to("meta") for key, value in state.items()}
    for output in plan.outputs:
        if "cast" in str(output.expr.to_json()):  # whether values fit cannot be known without them
            continue
        result = evaluate(output.expr, meta.__getitem__)
        assert (tuple(result.shape), str(result.dtype)) == (output.info.shape, f"torch.{output.info.dtype}")


@given(planned())
@LAWS
def test_the_inverse_gives_every_byte_back_or_names_the_rule_that_loses_it(
    case: tuple[dict[str, torch.Tensor], Plan],
) -> None:
    state, plan = case
    try:
        back = plan.invert()
    except PlanError as error:
        event("refused")
        lossy = {use.index for use in plan.rules if use.op in ("drop", "slice", "cast", "resize", "split")}
        places = {problem.location for problem in error.problems}
        assert places <= {f"rules.{index}" for index in lossy}
        assert places
        return
    event("inverted")
    made = ckptkit.remap(state, plan)
    again = ckptkit.remap(made, back)
    assert list(again) == list(state)
    assert content(again) == content(state)
    assert ckptkit.signature(again).tied == ckptkit.signature(state).tied
    assert ckptkit.verify_roundtrip(state, plan).ok


@given(planned(), st.sampled_from([1, 1 << 40]), st.sampled_from([1, 3, 1 << 18]))
@settings(LAWS, max_examples=80)
def test_files_hold_the_same_bytes_however_the_work_is_cut(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[dict[str, torch.Tensor], Plan],
    shortest: int,
    piece: int,
) -> None:
    state, plan = case
    folder = tmp_path_factory.mktemp("cut")
    made = ckptkit.remap(state, plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "_SHORTEST", shortest)
        patch.setattr(streams_module, "PIECE", piece)
        for source in ("a.pt", "a.safetensors"):
            ckptkit.save(state, folder / source)
            for target in ("b.pt", "b.safetensors"):
                with ckptkit.open(folder / source) as checkpoint:
                    ckptkit.save(ckptkit.remap(checkpoint, plan), folder / target, overwrite=True)
                with ckptkit.open(folder / target) as result:
                    assert content(result) == content(made)


@given(planned())
@settings(LAWS, max_examples=60)
def test_a_plan_survives_its_file(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    state, plan = case
    path = tmp_path_factory.mktemp("plan") / "p.json"
    ckptkit.save_plan(plan, path)
    again = ckptkit.load_plan(path)
    assert again.outputs == plan.outputs
    assert again.to_json() == plan.to_json()
    assert content(ckptkit.remap(state, again)) == content(ckptkit.remap(state, plan))
    for output in plan.outputs:
        assert from_json(output.expr.to_json()) == output.expr
        assert infer(output.expr, plan.source) == output.info


@given(st.lists(st.integers(0, 3), max_size=3).map(tuple), st.lists(DIM, min_size=1, max_size=3), DIM, DIM)
@settings(max_examples=200, deadline=None)
def test_an_operation_is_refused_exactly_when_torch_refuses_it(
    shape: tuple[int, ...], dims: list[int], one: int, other: int
) -> None:
    value = torch.empty(shape, device="meta")
    source = ckptkit.signature({"x": torch.zeros(shape)})
    for document, apply in (
        ({"op": "transpose", "dims": [one, other]}, lambda: value.transpose(one, other)),
        ({"op": "permute", "dims": dims}, lambda: value.permute(dims)),
        ({"op": "reshape", "shape": dims}, lambda: value.reshape(dims)),
        ({"op": "concat", "dim": one}, lambda: torch.cat([value], one)),
        ({"op": "stack", "dim": one}, lambda: torch.stack([value], one)),
    ):
        expr = from_json({**document, "of": [{"read": "x"}]})
        try:
            wanted = tuple(apply().shape)  # type: ignore[no-untyped-call]
        except (RuntimeError, IndexError):
            wanted = None
        if value.dim() == 0 and wanted is not None and document["op"] == "transpose":
            continue  # torch lets a scalar pass with dim 0 and -1
        if shape == (0,) and document["op"] == "concat":
            continue  # torch skips such parts, whatever the dimension
        try:
            found = infer(expr, source).shape
        except PlanError:
            found = None
        assert found == wanted, document


def test_values_that_overflow_stop_a_cast_unless_it_is_allowed(tmp_path: Path) -> None:
    state = {"w": torch.tensor([1.0, 70000.0, 1e-30]), "i": torch.tensor([300])}
    rule = {"op": "cast", "dtype": "float16", "keys": ["w"]}
    text = r"'w': 1 value of float32 cannot be held by float16 \(the largest is 70000, the limit 65504\)"
    with pytest.raises(CastError, match=text):
        ckptkit.remap(state, [rule])
    ckptkit.save(state, tmp_path / "a.safetensors")
    with pytest.raises(CastError, match=text):
        ckptkit.save(ckptkit.remap(tmp_path / "a.safetensors", [rule]), tmp_path / "b.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    allowed = ckptkit.remap(tmp_path / "a.safetensors", [{**rule, "allow_overflow": True}])
    written = ckptkit.save(allowed, tmp_path / "b.safetensors")
    assert written.notes[-2:] == (
        "casting: 1 value overflowed in 1 tensor (w)",
        "casting: 1 value became zero in 1 tensor (w)",
    )
    with pytest.raises(CastError, match=r"the largest is 300, the limit 255"):
        ckptkit.remap(state, [{"op": "cast", "dtype": "uint8", "keys": ["i"]}])


def test_infinities_and_nan_are_values_like_others_in_a_cast() -> None:
    state = {"w": torch.tensor([float("inf"), float("-inf"), float("nan"), 1.0])}
    made = ckptkit.remap(state, [{"op": "cast", "dtype": "bfloat16"}])
    assert bits(made["w"]) == bits(state["w"].to(torch.bfloat16))


def test_two_copies_that_were_changed_apart_stop_the_inverse() -> None:
    state = {"w": torch.ones(2)}
    plan = ckptkit.plan(state, [{"op": "copy", "key": "w", "into": "v"}])
    made = {k: v.clone() for k, v in ckptkit.remap(state, plan).items()}
    assert content(ckptkit.remap(made, plan.invert())) == content(state)
    made["v"] += 1
    with pytest.raises(
        PlanError, match="'w', 'v' stand for one tensor .*must be equal, but their bytes differ"
    ):
        ckptkit.remap(made, plan.invert())


def test_a_copy_that_was_cast_is_compared_too() -> None:
    state = {"w": torch.tensor([1.0, 1.001])}
    rules = [{"op": "copy", "key": "w", "into": "v"}, {"op": "cast", "dtype": "bfloat16", "keys": ["v"]}]
    plan = ckptkit.plan(state, rules)
    made = ckptkit.remap(state, plan)
    assert content(ckptkit.remap(made, plan.invert())) == content(state)
    made["v"] = made["v"] + 1
    with pytest.raises(PlanError, match="must be equal"):
        ckptkit.remap(made, plan.invert())


MISSING = [
    (
        {"op": "stack", "pattern": r"(.*)\.(?P<index>\d+)\.w1", "into": r"\1.w1"},
        ["moe.0.w1", "moe.1.w1", "moe.3.w1"],
        "'moe.w1' lacks a part: there is no 'moe.2.w1', but there is 'moe.3.w1'; renumber: true stacks what is there",
    ),
    (
        {"op": "concat", "patterns": [r"(.*)\.w1", r"(.*)\.w3"], "into": r"\1.w13"},
        ["moe.16.w1", "moe.16.w3", "moe.17.w3"],
        "'moe.17.w13' lacks a part: there is no 'moe.17.w1', beside 'moe.17.w3'",
    ),
    (
        {"op": "concat", "patterns": [r"(.*)\.w\d", r"(.*)\.w3"], "into": r"\1.w13"},
        ["moe.0.w1", "moe.0.w3"],
        "'moe.0.w1' and 'moe.0.w3' both match",
    ),
    (
        {"op": "split", "pattern": "(.*)", "into": [r"\1.a", r"\1.b"]},
        ["x"],
        "'x': split: dimension 0 has 3 entries, which 2 equal parts do not divide; give sizes",
    ),
]


@pytest.mark.parametrize(("rule", "keys", "text"), MISSING)
def test_a_group_that_lacks_a_part_is_an_error_that_names_it(
    rule: dict[str, Any], keys: list[str], text: str
) -> None:
    with pytest.raises(PlanError) as caught:
        ckptkit.plan({key: torch.ones(3) for key in keys}, [rule])
    assert text in caught.value.message
    assert caught.value.message.startswith(f"rules.0 ({rule['op']}): ")


@pytest.mark.parametrize("target", ["b.pt", "b.safetensors", "folder"])
def test_a_copy_can_be_tied_and_stays_one_tensor_in_every_format(tmp_path: Path, target: str) -> None:
    rule = {"op": "copy", "key": "embed.weight", "into": "head.weight", "tie": True}
    state = {"embed.weight": torch.randn(3, 2), "norm": torch.ones(2)}
    made = ckptkit.remap(state, [rule, {"op": "rename", "pattern": "^", "replacement": "m."}])
    assert made["m.embed.weight"] is made["m.head.weight"]
    ckptkit.save(ckptkit.remap(ckptkit.open(state), [rule]), tmp_path / target)
    with ckptkit.open(tmp_path / target) as back:
        assert back.signature.tied == (("embed.weight", "head.weight"),)


def test_ties_that_a_rule_takes_apart_are_reported() -> None:
    weight = torch.randn(3, 2)
    plan = ckptkit.plan({"embed": weight, "head": weight}, [{"op": "transpose", "keys": ["head"]}])
    assert plan.untied == (("embed", "head"),)
    assert str(plan).endswith("no longer tied, each with a copy of its own:\n  embed, head")
    both = ckptkit.plan({"embed": weight, "head": weight}, [{"op": "transpose", "keys": ["*"]}])
    assert (both.untied, both.ties) == ((), (("embed", "head"),))


def test_a_plan_is_made_for_a_signature_alone() -> None:
    state = {"a": torch.ones(2)}
    rules = [{"op": "add_prefix", "prefix": "m."}]
    assert ckptkit.plan(ckptkit.signature(state), rules).to_json() == ckptkit.plan(state, rules).to_json()
