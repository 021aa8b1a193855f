"""A law over real models: no fix that is offered loads a tensor in parts so that the model computes something else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import ckptkit
from ckptkit.composing import composed
from ckptkit.findings import Fix

from real_models import import_timm, import_transformers

timm = import_timm()
import_transformers()
import peft  # noqa: E402 - after it is known where the real models are
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM  # noqa: E402

State = Mapping[str, Any]


@dataclass(frozen=True)
class Family:
    """A model, and something that it computes."""

    build: Callable[[], nn.Module]
    inputs: dict[str, Any]
    adapted: tuple[str, ...]  # where peft puts an adapter

    def output(self, model: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            given = model.eval()(**self.inputs)
        return given if isinstance(given, torch.Tensor) else next(iter(given.values()))


TOKENS = {"input_ids": torch.arange(8)[None]}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 32,
}
FAMILIES = {
    "timm vit": Family(
        lambda: timm.create_model(
            "vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=3, num_classes=5),
        {"x": torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)}, ("qkv", "fc1")),
    "timm resnet": Family(
        lambda: timm.create_model("test_resnet", num_classes=5),
        {"x": torch.linspace(-1, 1, 3072).view(1, 3, 32, 32)}, ("fc",)),
    "bert": Family(lambda: BertModel(BertConfig(**SMALL)), TOKENS, ("query", "value")),
    "llama": Family(lambda: LlamaForCausalLM(LlamaConfig(**SMALL)), TOKENS, ("q_proj", "v_proj")),
    "torch": Family(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
        {"input": torch.linspace(-1, 1, 12).view(2, 6)}, ("0", "2")),
}  # fmt: skip


def layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def each_layer(change: Callable[[nn.Module], object]) -> Callable[[Family], nn.Module]:
    def built(family: Family) -> nn.Module:
        model = family.build()
        for layer in layers(model):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls the older functions deprecated
                change(layer)
        return model

    return built


class Halves(nn.Module):
    """A parametrization that nobody knows: a weight that is the sum of two."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + 2 * right

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 3 * weight, -weight


def adapted(**options: Any) -> Callable[[Family], nn.Module]:
    def built(family: Family) -> nn.Module:
        config = peft.LoraConfig(r=2, target_modules=list(family.adapted), **options)
        model: nn.Module = peft.get_peft_model(family.build(), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                nn.init.uniform_(parameter, 0.5, 1.0)
        return model

    return built


def ia3(family: Family) -> nn.Module:
    config = peft.IA3Config(target_modules=list(family.adapted), feedforward_modules=[])
    model: nn.Module = peft.get_peft_model(family.build(), config)
    for name, parameter in model.named_parameters():
        if "ia3_l" in name:
            nn.init.uniform_(parameter, 0.5, 1.0)
    return model


SCHEMES: dict[str, Callable[[Family], nn.Module]] = {
    "pruned": each_layer(lambda m: prune.l1_unstructured(m, "weight", 0.5)),
    "weight norm": each_layer(nn.utils.weight_norm),
    "weight norm of torch 2.1": each_layer(parametrizations.weight_norm),
    "spectral norm": each_layer(nn.utils.spectral_norm),
    "spectral norm of torch 1.9": each_layer(parametrizations.spectral_norm),
    "a parametrization of one's own": each_layer(
        lambda m: parametrize.register_parametrization(m, "weight", Halves())
    ),
    "lora": adapted(),
    "dora": adapted(use_dora=True),
    "ia3": ia3,
}


def int8(state: State, values: str, scale: str) -> State:
    """As quantisers of weights write them."""
    found: dict[str, Any] = {}
    for key, tensor in state.items():
        if tensor.dim() != 2 or not key.endswith("weight"):
            found[key] = tensor
            continue
        module = key.removesuffix("weight")
        scales = tensor.abs().amax(1, keepdim=True).clamp(min=1e-6) / 127
        found[module + values] = (tensor / scales).round().to(torch.int8)
        found[module + scale] = scales
    return found


QUANTISED = {
    "int8 and scale": ("weight", "scale"), "int8 and SCB": ("weight", "SCB"),
    "int8 and weight_scale": ("weight", "weight_scale"),
    "qweight and scales": ("qweight", "scales"), "weight_q and weight_scale": ("weight_q", "weight_scale"),
    "quanto": ("weight._data", "weight._scale"), "a layout of one's own": ("weight_levels", "weight_steps"),
}  # fmt: skip


@cache
def written(family: str, scheme: str) -> tuple[State, torch.Tensor]:
    """A checkpoint, and what the model that wrote it computes."""
    torch.manual_seed(len(family) + len(scheme))
    made = FAMILIES[family]
    if scheme in QUANTISED:
        model = made.build()
        output = made.output(model)
        return int8(model.state_dict(), *QUANTISED[scheme]), output
    model = SCHEMES[scheme](made) if scheme != "plain" else made.build()
    output = made.output(model)  # before the state: spectral norm moves its vectors
    return copy.deepcopy(model.state_dict()), output


def fixes(model: nn.Module, state: State) -> Iterator[tuple[str, Fix]]:
    """Everything that check, load and explain offer, one by one and together."""
    report = ckptkit.check(model, state)
    sources = {"check": report.findings}
    if not report.ok:
        with pytest.raises(ckptkit.IncompatibleKeysError) as caught:
            ckptkit.load(model, state)
        sources["load"] = tuple(caught.value.findings)
    words = ""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        words = str(error)
    if words:
        sources["explain"] = ckptkit.explain(words).findings
        for list_of_one in ("Missing key(s)", "Unexpected key(s)"):
            at = words.find(list_of_one)
            if at >= 0:
                line = words[at:].split("\n")[0]
                sources[f"explain, {list_of_one} alone"] = ckptkit.explain(line).findings
    for who, findings in sources.items():
        for finding in findings:
            if finding.fix is not None and finding.fix.offers:
                yield f"{who}: {finding.cause}", finding.fix
        _, together = composed(findings)
        if together is not None:
            yield f"{who}: together", together


def harm(family: Family, model: nn.Module, state: State, wanted: torch.Tensor, fix: Fix) -> str:
    """What is wrong with a fix; nothing when it does not load, or loads what the other model computes."""
    try:
        ckptkit.load(model, state, fix.config())
    except ckptkit.CkptkitError:
        return ""
    given = family.output(model)
    return (
        ""
        if torch.allclose(given, wanted, atol=1e-5)
        else f"loads, and is off by {(given - wanted).abs().max():.3f}"
    )


CASES = [
    *((scheme, "plain") for scheme in (*SCHEMES, *QUANTISED)),
    *(("plain", scheme) for scheme in SCHEMES),
    *((one, other) for one in SCHEMES for other in SCHEMES if one != other and one[0] in "pws" and other[0] in "pws"),
    ("lora", "dora"), ("dora", "lora"), ("lora", "ia3"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), CASES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_no_fix_that_is_offered_loads_other_outputs(source: str, target: str, wrapped: bool) -> None:
    for name, family in FAMILIES.items():
        if wrapped and name not in ("torch", "bert"):
            continue
        state, wanted = written(name, source)
        if wrapped:
            state = {f"module.{key}": value for key, value in state.items()}
        torch.manual_seed(0)
        model = SCHEMES[target](family) if target != "plain" else family.build()
        fresh = copy.deepcopy(model.state_dict())
        for offer, fix in fixes(model, state):
            model.load_state_dict(fresh)
            wrong = harm(family, model, state, wanted, fix)
            assert not wrong, f"{name}, {source} into {target}: {offer} {wrong}: {fix.config()}"


@pytest.mark.parametrize("source", [*SCHEMES, *QUANTISED])
def test_the_scheme_is_named_and_no_part_of_it_is_for_a_config(source: str) -> None:
    for name, family in FAMILIES.items():
        state, _ = written(name, source)
        state = {key.removeprefix("base_model.model."): tensor for key, tensor in state.items()}
        cause = "quantized" if source in QUANTISED else "parametrization"
        if source in ("lora", "dora", "ia3"):
            cause = "lora_adapter"
        model = family.build()
        shown = ckptkit.check(model, state).findings
        told = ckptkit.explain(_error(model, state)).findings
        assert shown[0].cause == cause or source == "a layout of one's own", f"{name}: {shown[0]}"
        if source not in (
            "a layout of one's own",
            "int8 and scale",
        ):  # a text does not tell what a scale scales
            assert told[0].cause == cause, f"{name}: {told[0]}"
        for findings in (shown, told):
            assert not [f for f in findings if f.fix is not None and f.fix.offers]


def _error(model: nn.Module, state: State) -> str:
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    return str(caught.value)


@pytest.mark.parametrize(
    "old_to_new",
    [("weight norm of torch 2.1", "weight norm"), ("spectral norm", "spectral norm of torch 1.9")],
)
def test_the_same_parts_under_their_other_names_are_renamed_and_compute_the_same(
    old_to_new: tuple[str, str],
) -> None:
    source, target = old_to_new
    for name, family in FAMILIES.items():
        state, wanted = written(name, source)
        for look in ("check", "explain"):
            model = SCHEMES[target](family)
            found = {offer: fix for offer, fix in fixes(model, state) if offer.startswith(look)}
            assert found, f"{name}: {look} offers nothing"
            assert ckptkit.load(model, state, found[f"{look}: together"].config()).ok
            assert torch.allclose(family.output(model), wanted, atol=1e-5)


HARMFUL = Fix(
    "what was offered before",
    (
        {"op": "rename", "pattern": r"\.weight_orig$", "replacement": ".weight"},
        {"op": "drop", "keys": ["*.weight_mask"]},
    ),
)


def test_the_law_sees_a_fix_that_does_harm() -> None:
    family = FAMILIES["bert"]
    state, wanted = written("bert", "pruned")
    assert "off by" in harm(family, family.build(), state, wanted, HARMFUL)
