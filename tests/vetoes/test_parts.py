"""Which names are parts of a tensor, and which only look like one."""

from __future__ import annotations

import pytest

from ckptkit.vetoes import named, parts_of

# keys of one side, keys that it lacks, those that are parts
PARTS = {
    "pruning": (["a.weight_orig", "a.weight_mask", "a.bias"], ["a.weight"], 2),
    "pruning of another parameter": (["a.in_proj_orig", "a.in_proj_mask"], ["a.in_proj"], 2),
    "weight norm": (["a.weight_g", "a.weight_v"], ["a.weight"], 2),
    "weight norm since torch 2.1": (
        ["a.parametrizations.weight.original0", "a.parametrizations.weight.original1"], ["a.weight"], 2),
    "weight norm, the text cut": (["a.weight_v"], [], 1),
    "spectral norm": (["a.weight_orig", "a.weight_u", "a.weight_v"], ["a.weight"], 3),
    "any parametrization": (["a.parametrizations.weight.original", "a.parametrizations.weight.0.base"], [], 2),
    "lora of peft": (
        ["a.base_layer.weight", "a.lora_A.default.weight", "a.lora_B.default.weight"], ["a.weight"], 3),
    "lora without an adapter's name": (["a.lora_A.weight", "a.lora_B.weight"], [], 2),
    "lora of kohya": (
        ["lora_unet_x_to_q.lora_down.weight", "lora_unet_x_to_q.lora_up.weight", "lora_unet_x_to_q.alpha"], [], 3),
    "lora of diffusers": (["a.to_q_lora.down.weight", "a.to_q_lora.up.weight"], [], 2),
    "dora": (["a.lora_A.weight", "a.lora_B.weight", "a.lora_magnitude_vector.default.weight"], [], 3),
    "ia3": (["a.ia3_l.default"], [], 1),
    "vera": (["a.vera_lambda_b.default", "a.vera_lambda_d.default"], [], 2),
    "modules to save": (["a.original_module.weight", "a.modules_to_save.default.weight"], ["a.weight"], 2),
    "gptq": (["a.qweight", "a.qzeros", "a.scales", "a.g_idx"], ["a.weight"], 4),
    "bitsandbytes, 4 bits": (
        ["a.weight", "a.weight.absmax", "a.weight.quant_map", "a.weight.quant_state.bitsandbytes__nf4",
         "a.weight.nested_absmax"], [], 5),
    "bitsandbytes, 8 bits": (["a.weight", "a.SCB"], [], 2),
    "fp8": (["a.weight", "a.weight_scale_inv"], [], 2),
    "int8 and a scale": (["a.weight", "a.scale"], [], 2),
    "compressed tensors": (["a.weight_packed", "a.weight_scale", "a.weight_shape"], ["a.weight"], 3),
    "mxfp4": (["e.gate_up_proj_blocks", "e.gate_up_proj_scales", "e.gate_up_proj_bias"], ["e.gate_up_proj"], 3),
    "quanto": (["a.weight._data", "a.weight._scale", "a.input_scale"], ["a.weight"], 3),
    "a scheme that nobody knows": (["a.weight_left", "a.weight_right", "a.bias"], ["a.weight"], 2),
    "one more, with a companion": (["a.q_weight", "a.scale"], ["a.weight"], 2),
}  # fmt: skip

WHOLES = {
    "a norm's scale": (["norm.scale"], ["norm.weight"]),
    "gamma and beta": (["norm.gamma", "norm.beta"], ["norm.weight", "norm.bias"]),
    "an attention mask": (["attn.attn_mask", "attn.causal_mask"], []),
    "the weights of a recurrent network": (["r.weight_ih_l0", "r.weight_hh_l0"], ["r.weight_ih", "r.weight_hh"]),
    "a module in the place of a parameter": (["proj.weight", "proj.bias"], ["proj"]),
    "experts": (["e.0.w1.weight", "e.1.w1.weight"], ["e.w1.weight"]),
    "query, key and value": (["a.q.weight", "a.k.weight", "a.v.weight"], ["a.qkv.weight"]),
    "one longer name": (["head.weight_new"], ["head.weight"]),
    "a learned temperature": (["logit_scale"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("prefix", ["", "module.", "model.layers.11."])
def test_the_parts_of_a_tensor_are_known(name: str, prefix: str) -> None:
    keys, lacking, count = PARTS[name]
    found = parts_of([prefix + key for key in keys], [prefix + key for key in lacking])
    assert len(found) == count, found
    assert all(part.base.startswith(prefix) for part in found.values())
    assert len({part.base for part in found.values()}) == 1


@pytest.mark.parametrize("name", WHOLES)
def test_whole_tensors_are_no_parts(name: str) -> None:
    keys, lacking = WHOLES[name]
    assert parts_of(keys, lacking) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.weight_g", "a.parametrizations.weight.original0"),
        ("a.weight_v", "a.parametrizations.weight.original1"),
        ("a.weight_u", "a.parametrizations.weight.0._u"),
        ("a.lora_A.weight", "a.lora_A.default.weight"),
        ("a.lora_A_0.weight", "a.lora_A.weight"),
        ("a.lora_down.weight", "a.lora_A.weight"),
    ],
)
def test_a_part_has_one_base_and_one_role_however_it_is_spelled(one: str, other: str) -> None:
    first, second = named(one), named(other)
    assert first is not None
    assert second is not None
    assert (first.base, first.role) == (second.base, second.role)
    assert first.spelled != second.spelled
