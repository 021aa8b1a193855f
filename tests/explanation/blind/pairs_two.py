"""Two causes at once, as most failures are."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from . import models as m
from .breaks import (
    Broken,
    Make,
    State,
    beside,
    case,
    chained,
    each,
    seeded,
    substituted,
    tensors,
    under,
    without,
)
from .pairs_tensors import fuse, int8

# ---- two causes at once


def both(
    name: str,
    make: Make,
    target: Make,
    edit: Callable[[State], State],
    causes: tuple[str, ...],
    outcome: str,
    new: str = r"$.",
    fix_from: str = "text",
) -> None:
    def build(name: str) -> Broken:
        state, model = tensors(seeded(make, 1)), seeded(target, 2)
        wanted = model.state_dict()
        fits = {
            k: v
            for k, v in state.items()
            if outcome != "none" and k in wanted and v.shape == wanted[k].shape and not re.search(new, k)
        }
        return Broken(
            name, causes, model, edit(dict(state)), outcome, fits, together=causes, fix_from=fix_from
        )  # type: ignore[arg-type]

    case(name, causes, build)


def names(*pairs: tuple[str, str]) -> Callable[[State], State]:
    change = substituted(*pairs)
    return lambda state: {change(key): value for key, value in state.items()}


both(
    "ddp and other classes",
    m.RESNET,
    m.timm_model("test_resnet", num_classes=3),
    under("module."),
    ("prefix_strip", "head_mismatch"),
    "loads",
    r"^fc\.",
)
both(
    "ddp and another image size",
    m.VIT,
    m.timm_model("test_vit", num_classes=7, img_size=224),
    under("module."),
    ("prefix_strip", "pos_embed"),
    "loads",
    "pos_embed",
)
both(
    "lightning and a criterion",
    m.Speech,
    m.Speech,
    chained(under("model."), beside(criterion__weight=(11,))),
    ("prefix_strip", "extra_modules"),
    "equal",
)
both(
    "compiled and old masks",
    m.GPT2,
    m.GPT2,
    chained(lambda s: {**s, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}, under("_orig_mod.")),
    ("prefix_strip", "extra_buffers"),
    "equal",
)
both(
    "other names and other classes",
    m.VIT,
    m.timm_model("test_vit", num_classes=3),
    names((r"^blocks\.", "layers.")),
    ("rename", "head_mismatch"),
    "loads",
    r"^head\.",
)
both(
    "gamma and a wrapper",
    m.BERT,
    m.BERT,
    names((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"), (r"^", "bert.")),
    ("prefix_strip", "rename"),
    "equal",
)
both(
    "a wrapper and no head",
    m.RESNET,
    m.RESNET,
    chained(without(r"^fc\."), under("module.")),
    ("prefix_strip", "partial_model"),
    "loads",
    r"^fc\.",
)
both(
    "ddp and a smaller vocabulary",
    m.LLAMA,
    m.hugging("LlamaForCausalLM", **{**m.SMALL, "vocab_size": 112}, tie_word_embeddings=False),
    under("module."),
    ("prefix_strip", "vocab_resize"),
    "loads",
    "embed_tokens|lm_head",
)
both(
    "ddp around pruning",
    m.BERT,
    m.BERT,
    chained(
        each(r"dense\.weight", lambda k, v: {f"{k}_orig": v, f"{k}_mask": (v > 0).float()}), under("module.")
    ),
    ("parametrization", "prefix_strip"),
    "none",
)
both(
    "a wrapper and quantised weights",
    m.LLAMA,
    m.LLAMA,
    chained(int8("qweight", "scales", "qzeros"), under("model.")),
    ("quantized", "prefix_strip"),
    "none",
)
both(
    "other words and fused",
    m.LLAMA,
    m.LLAMA,
    chained(
        lambda s: fuse(s, ("q_proj", "k_proj", "v_proj"), "qkv_proj"), names((r"self_attn", "attention"))
    ),
    ("fused_split", "rename"),
    "equal",
    fix_from="objects",
)
both(
    "ddp and grey images",
    m.RESNET,
    m.timm_model("test_resnet", num_classes=7, in_chans=1),
    under("module."),
    ("prefix_strip", "input_channels"),
    "loads",
    r"^conv1\.0\.weight",
)
both(
    "ddp and twice as wide",
    m.LLAMA,
    m.hugging("LlamaForCausalLM", **{**m.SMALL, "hidden_size": 32}, tie_word_embeddings=False),
    under("module."),
    ("prefix_strip", "arch_mismatch"),
    "none",
)
both(
    "a head and a criterion",
    m.RESNET,
    m.timm_model("test_resnet", num_classes=3),
    beside(criterion__weight=(7,)),
    ("head_mismatch", "extra_modules"),
    "loads",
    r"^fc\.",
)
