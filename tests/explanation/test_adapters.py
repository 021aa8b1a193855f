"""Models inside real peft adapters: what torch says, and that no advice drops what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from torch import nn

import ckptkit

from real_models import import_transformers

import_transformers()
import peft  # noqa: E402 - after it is known where the real models are
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402


def base() -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=2, **sizes))


def wrapped(rank: int = 4) -> nn.Module:
    return peft.get_peft_model(base(), peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj"]))


def refused(model: nn.Module, state: Mapping[str, Any]) -> ckptkit.Explanation:
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    return ckptkit.explain(str(caught.value))


def rules(explanation: ckptkit.Explanation) -> list[dict[str, Any]]:
    return [rule for finding in explanation.findings if finding.fix for rule in finding.fix.remap]


CASES = {
    "a wrapped model's weights in the plain one": (base, lambda: wrapped().state_dict(), "merge_and_unload"),
    "plain weights in a wrapped model": (wrapped, lambda: base().state_dict(), "before get_peft_model"),
    "an adapter alone in the plain model": (
        base, lambda: peft.get_peft_model_state_dict(wrapped()), "PeftModel.from_pretrained"),
    "an adapter of another rank": (wrapped, lambda: wrapped(rank=8).state_dict(), "adapter_config.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_is_called_one_and_nothing_of_it_is_dropped(name: str) -> None:
    build, give, words = CASES[name]
    explanation = refused(build(), give())
    assert explanation.findings[0].cause == "lora_adapter"
    assert explanation.findings[0].fix is not None
    assert words in explanation.findings[0].fix.advice
    assert rules(explanation) == []


def test_an_adapter_file_gets_its_names_in_the_wrapped_model_and_loads() -> None:
    trained, model = wrapped(), wrapped()
    nn.init.ones_(
        trained.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight")
    )
    state = peft.get_peft_model_state_dict(trained)
    explanation = refused(model, state)
    assert explanation.findings[0].cause == "lora_adapter"
    ckptkit.load(model, state, {"rules": rules(explanation), "allow_missing": ["*"]})
    assert (
        model.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight").sum()
        == 64
    )
