"""What the answers say about single situations."""

from __future__ import annotations

import json

import pytest

import ckptkit
from ckptkit.signatures import Signature, TensorInfo

from . import generated as g

BASE = g.transformer(3)


def infer(source: g.Shapes, target: g.Shapes) -> ckptkit.Inference:
    return ckptkit.infer(g.signature(source), g.signature(target))


def by_key(found: ckptkit.Inference) -> dict[str, tuple[object, str]]:
    return {o.key: (o.expr.to_json(), o.confidence) for o in found.outputs}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.encoder."])
def test_a_prefix_on_either_side_is_one_rule_and_certain(prefix: str) -> None:
    longer = {prefix + key: shape for key, shape in BASE.items()}
    for source, target in ((longer, BASE), (BASE, longer)):
        found = infer(source, target)
        assert found.complete
        assert len(found.config.rules) == 1
        assert sum(o.confidence == "certain" for o in found.outputs) >= 0.7 * len(target)


def test_a_wrapper_in_the_middle_of_the_keys_is_found() -> None:
    wrapped = {key.replace("self_attn.", "self_attn.inner."): shape for key, shape in BASE.items()}
    found = infer(wrapped, BASE)
    assert {o.key: o.expr.reads()[0] for o in found.outputs} == {
        key.replace("self_attn.inner.", "self_attn."): key for key in wrapped
    }


def test_parts_that_only_one_side_has_are_listed() -> None:
    target = {k: s for k, s in BASE.items() if not k.startswith("lm_head")} | g.linear("classifier", 7, 32)
    found = infer(BASE, target)
    assert set(found.missing) == {"classifier.weight", "classifier.bias"}
    assert found.unused == ("lm_head.weight",)
    assert not found.complete


def test_a_key_of_the_same_name_and_another_shape_is_no_source() -> None:
    target = BASE | {"lm_head.weight": (9, 32)}
    found = infer(BASE, target)
    assert found.missing == ("lm_head.weight",)
    assert "lm_head.weight" not in by_key(found)


def test_stacked_experts_are_stacks_of_concats() -> None:
    source = {"norm.weight": (8,)}
    target = {"norm.weight": (8,)}
    for n in range(2):
        for e in range(4):
            block = f"layers.{n}.experts.{e}."
            source |= {f"{block}gate_proj.weight": (12, 8), f"{block}up_proj.weight": (12, 8)}
            source |= {f"{block}down_proj.weight": (8, 12)}
        target |= {
            f"layers.{n}.experts.gate_up_proj": (4, 24, 8),
            f"layers.{n}.experts.down_proj": (4, 8, 12),
        }
    found = infer(source, target)
    assert found.complete
    expr = by_key(found)["layers.1.experts.gate_up_proj"][0]
    assert expr == {
        "op": "stack",
        "dim": 0,
        "of": [
            {
                "op": "concat",
                "dim": 0,
                "of": [{"read": f"layers.1.experts.{e}.{part}_proj.weight"} for part in ("gate", "up")],
            }
            for e in range(4)
        ],
    }
    back = infer(target, source)
    assert back.complete
    assert by_key(back)["layers.1.experts.2.up_proj.weight"][0] == {
        "op": "slice",
        "dim": 0,
        "start": 12,
        "stop": 24,
        "of": [{"op": "select", "dim": 0, "index": 2, "of": [{"read": "layers.1.experts.gate_up_proj"}]}],
    }


def test_a_square_matrix_beside_transposed_ones_is_transposed_but_never_certain() -> None:
    source = {}
    target = {}
    for n in range(3):
        source |= {f"h.{n}.attn.c_proj.weight": (8, 8), f"h.{n}.mlp.c_fc.weight": (8, 32)}
        target |= {f"h.{n}.attn.c_proj.weight": (8, 8), f"h.{n}.mlp.c_fc.weight": (32, 8)}
    answers = by_key(infer(source, target))
    expr, confidence = answers["h.0.attn.c_proj.weight"]
    assert expr == {"op": "transpose", "dims": [0, 1], "of": [{"read": "h.0.attn.c_proj.weight"}]}
    assert confidence == "likely"


def test_of_two_equal_copies_none_is_certain_and_the_one_that_is_trained_is_taken() -> None:
    source = {f"{tower}.{key}": shape for tower in ("net", "ema") for key, shape in BASE.items()}
    found = infer(source, BASE)
    assert {o.expr.reads()[0].split(".")[0] for o in found.outputs} == {"net"}
    assert {o.confidence for o in found.outputs} == {"likely"}
    assert all("ema" in o.why for o in found.outputs)


def test_one_source_fills_two_equal_towers() -> None:
    target = {f"{tower}.{key}": shape for tower in ("left", "right") for key, shape in BASE.items()}
    found = infer(BASE, target)
    assert found.complete
    assert {o.key.split(".", 1)[1] for o in found.outputs} == set(BASE)
    assert all(o.expr.reads() == (o.key.split(".", 1)[1],) for o in found.outputs)
    assert any(rule.op == "copy" for rule in found.config.rules)


def test_a_tied_target_gets_no_copy_and_is_explained() -> None:
    source = {"embed_tokens.weight": (500, 8), "norm.weight": (8,)}
    tensors = {**source, "lm_head.weight": (500, 8)}
    target = Signature(
        {k: TensorInfo(s, "float32") for k, s in tensors.items()},
        (("embed_tokens.weight", "lm_head.weight"),),
    )
    found = ckptkit.infer(g.signature(source), target)
    assert found.tied == (("lm_head.weight", "embed_tokens.weight"),)
    assert found.complete
    untied = infer(source, tensors)
    assert by_key(untied)["lm_head.weight"] == ({"read": "embed_tokens.weight"}, "likely")


def test_blocks_that_run_backwards_are_matched_by_what_they_hold() -> None:
    widths = (8, 16, 32)
    source = {}
    target = {}
    for n, width in enumerate(widths):
        for side, number in ((source, n), (target, 2 - n)):
            side[f"up.{number}.conv.weight"] = (width, 4, 3, 3)
            side[f"up.{number}.norm.weight"] = (width,)
    found = infer(source, target)
    assert by_key(found)["up.0.conv.weight"][0] == {"read": "up.2.conv.weight"}


def test_layers_inserted_into_a_sequence_shift_the_rest() -> None:
    shapes: list[g.Shape] = [(8, 3, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3)]
    source = {f"features.{n}.weight": s for n, s in zip((0, 2, 4, 6), shapes, strict=True)}
    target = {f"features.{n}.weight": s for n, s in zip((0, 3, 6, 9), shapes, strict=True)}
    found = infer(source, target)
    assert by_key(found)["features.9.weight"][0] == {"read": "features.6.weight"}


def test_two_unrelated_models_have_no_mapping() -> None:
    found = infer(g.residual(), BASE)
    assert found.outputs == ()
    assert "no mapping" in str(found)


@pytest.mark.parametrize(("source", "target"), [({}, {}), ({}, BASE), (BASE, {})])
def test_nothing_is_inferred_from_nothing(source: g.Shapes, target: g.Shapes) -> None:
    found = infer(source, target)
    assert found.outputs == ()
    assert found.missing == tuple(target)
    assert found.unused == tuple(source)


def test_one_key_is_enough_for_an_answer() -> None:
    found = infer({"w": (3, 4)}, {"module.w": (3, 4)})
    assert by_key(found)["module.w"][0] == {"read": "w"}


def test_thousands_of_unrelated_names_of_one_shape_stay_quick_and_open() -> None:
    source = {f"a{n}.weight": (4, 4) for n in range(3000)}
    target = {f"b{n}.weight": (4, 4) for n in range(3000)}
    found = infer(source, target)
    assert all(o.confidence != "certain" for o in found.outputs)


def test_the_document_can_be_read_back_as_a_config() -> None:
    found = infer({"module." + k: s for k, s in BASE.items()}, BASE)
    document = json.loads(json.dumps(found.to_json()))
    assert document["format"] == "ckptkit.inference"
    assert ckptkit.RemapConfig.parse(document["config"]) == found.config
