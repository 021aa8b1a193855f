"""The same numbers in other tensors, tensors in parts, and parts of a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from . import models as m
from .breaks import Broken, Make, State, case, changed, each, seeded, substituted, tensors

# ---- the same numbers in other tensors


def fuse(state: State, parts: tuple[str, ...], whole: str) -> State:
    found = {}
    for key, value in state.items():
        first = next((part for part in parts if f".{part}." in key), None)
        if first is None:
            found[key] = value
        elif first == parts[0]:
            found[key.replace(first, whole)] = torch.cat([state[key.replace(first, part)] for part in parts])
    return found


def unstacked(pattern: str, name: str) -> Callable[[State], State]:
    return each(
        pattern,
        lambda key, value: {
            key.replace("experts.", f"experts.{i}.") + name: value[i] for i in range(len(value))
        },
    )


SPLIT = ("fused_split",)
changed(
    "query, key, value in one",
    m.LLAMA,
    lambda s: fuse(s, ("q_proj", "k_proj", "v_proj"), "qkv_proj"),
    SPLIT,
    "equal",
    fix_from="objects",
)
changed(
    "gate and up in one",
    m.LLAMA,
    lambda s: fuse(s, ("gate_proj", "up_proj"), "gate_up_proj"),
    SPLIT,
    "equal",
    fix_from="objects",
)
changed(
    "qkv apart",
    m.VIT,
    each(
        r"\.qkv\.",
        lambda key, value: {
            key.replace("qkv", n): part for n, part in zip(("q", "k", "v"), value.chunk(3), strict=True)
        },
    ),
    SPLIT,
    "equal",
    fix_from="objects",
)
changed(
    "experts apart",
    m.MIXTRAL,
    unstacked(r"experts\.(?:gate_up|down)_proj", ".weight"),
    SPLIT,
    "equal",
    fix_from="objects",
)
LAYOUT = ("layout",)
changed(
    "linear for conv1d",
    m.GPT2,
    each(r"(?:c_attn|c_fc|c_proj)\.weight", lambda k, v: {k: v.t().contiguous()}),
    LAYOUT,
    "equal",
    fix_from="objects",
    signal="shapes",
)
changed(
    "pointwise convolutions",
    m.BERT,
    each(r"dense\.weight", lambda k, v: {k: v[:, :, None, None]}),
    LAYOUT,
    "equal",
    signal="shapes",
)
changed(
    "kernels of another framework",
    m.Unet,
    each(r"conv\w*\.weight", lambda k, v: {k: v.permute(2, 3, 1, 0).contiguous()}),
    LAYOUT,
    "equal",
    fix_from="nobody",
    signal="shapes",
)

# ---- tensors in parts


def treated(
    name: str,
    make: Make,
    treat: Callable[[nn.Module], object],
    cause: str,
    *,
    model: bool = False,
    **truth: object,
) -> None:
    """One side with its layers pruned, normalised or adapted, the other side plain; no config can repair that."""

    def apply(seed: int) -> nn.Module:
        built = seeded(make, seed)
        treat(built)
        return built

    def build(name: str) -> Broken:
        source, target = (seeded(make, 1), apply(2)) if model else (apply(1), seeded(make, 2))
        return Broken(name, (cause,), target, copy.deepcopy(dict(source.state_dict())), "none", **truth)  # type: ignore[arg-type]

    case(name, (cause,), build)


def layers(change: Callable[[nn.Module], object]) -> Callable[[nn.Module], None]:
    def treat(model: nn.Module) -> None:
        for module in list(model.modules()):
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                change(module)

    return treat


def lora(model: nn.Module, **options: object) -> nn.Module:
    import peft

    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **options))  # type: ignore[no-any-return,arg-type]


PARTS = "parametrization"
PRUNE = layers(lambda layer: prune.l1_unstructured(layer, "weight", 0.5))
NORM = layers(parametrizations.weight_norm)
treated("a pruned resnet", m.RESNET, PRUNE, PARTS)
treated("a pruned bert", m.BERT, PRUNE, PARTS)
treated("into a pruned model", m.Speech, PRUNE, PARTS, model=True)
treated("weight norm on one side", m.Gan, layers(nn.utils.weight_norm), PARTS)
treated("weight norm of the model", m.Unet, NORM, PARTS, model=True)
treated("spectral norm on one side", m.RESNET, layers(nn.utils.spectral_norm), PARTS)
treated("spectral norm of the model", m.Unet, layers(parametrizations.spectral_norm), PARTS, model=True)
treated(
    "orthogonal layers",
    m.BERT,
    layers(lambda layer: parametrizations.orthogonal(layer) if isinstance(layer, nn.Linear) else None),
    PARTS,
)


def norm_renamed(name: str) -> Broken:
    source, target = seeded(m.Gan, 1), seeded(m.Gan, 2)
    for model, apply in ((source, parametrizations.weight_norm), (target, nn.utils.weight_norm)):
        layers(apply)(model)
        for up in model.ups:
            apply(up)
    state = tensors(source)
    names = substituted(
        (r"parametrizations\.weight\.original0", "weight_g"),
        (r"parametrizations\.weight\.original1", "weight_v"),
    )
    return Broken(
        name, (PARTS,), target, state, "equal", {names(k): v for k, v in state.items()}, simple=True
    )


case("weight norm under its other names", (PARTS,), norm_renamed)


def adapter(
    name: str, build: Callable[[], tuple[nn.Module, State]], outcome: str = "none", **truth: object
) -> None:
    def make(name: str) -> Broken:
        model, state = build()
        return Broken(name, ("lora_adapter",), model, state, outcome, **truth)  # type: ignore[arg-type]

    case(name, ("lora_adapter",), make)


def adapter_alone(model: nn.Module) -> State:
    import peft

    return dict(peft.get_peft_model_state_dict(model))


adapter(
    "an adapted model into a plain one",
    lambda: (seeded(m.LLAMA, 2), tensors(seeded(lambda: lora(m.LLAMA()), 1))),
)
adapter(
    "a plain model into an adapted one",
    lambda: (seeded(lambda: lora(m.LLAMA()), 2), tensors(seeded(m.LLAMA, 1))),
)
adapter(
    "an adapter's file into a plain model",
    lambda: (seeded(m.LLAMA, 2), adapter_alone(seeded(lambda: lora(m.LLAMA()), 1))),
)
adapter(
    "an adapter of another rank",
    lambda: (
        seeded(lambda: lora(m.LLAMA()), 2),
        tensors(seeded(lambda: lora(m.LLAMA(), rank_pattern={"q_proj": 4, "v_proj": 4}), 1)),
    ),
    signal="shapes",
)


def int8(values: str, *scales: str) -> Callable[[State], State]:
    def pack(key: str, value: torch.Tensor) -> State:
        stem = key.removesuffix("weight")
        scale = value.abs().amax(1, keepdim=True) / 127
        packed = {stem + values: (value / scale).round().to(torch.int8), stem + scales[0]: scale}
        return packed | {stem + more: torch.zeros(value.shape[0], dtype=torch.int32) for more in scales[1:]}

    return each(r"(?:proj|dense|query|value|fc\d)\.weight", pack)


QUANT = ("quantized",)
changed("gptq", m.LLAMA, int8("qweight", "scales", "qzeros", "g_idx"), QUANT, "none")
changed("eight bits of bitsandbytes", m.LLAMA, int8("weight", "SCB"), QUANT, "none", signal="unexpected")
changed("fp8 and its scales", m.LLAMA, int8("weight", "weight_scale_inv"), QUANT, "none", signal="unexpected")
changed("compressed tensors", m.BERT, int8("weight_packed", "weight_scale", "weight_shape"), QUANT, "none")

# ---- parts of a checkpoint


def shards(count: int) -> Callable[[State], State]:
    def cut(key: str, value: torch.Tensor) -> State:
        return {key: value.chunk(count, 1 if "o_proj" in key or "down_proj" in key else 0)[0].contiguous()}

    return each(r"proj\.weight|embed_tokens|lm_head", cut)


changed("one of two tensor-parallel shards", m.LLAMA, shards(2), ("sharding",), "none", signal="shapes")
changed("one of four", m.MIXTRAL, shards(4), ("sharding",), "none", signal="shapes")
changed(
    "empty parameters of ZeRO",
    m.BERT,
    each("weight|bias", lambda k, v: {k: v.new_empty(0)}),
    ("sharding",),
    "none",
    signal="shapes",
)
