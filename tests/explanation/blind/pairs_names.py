"""Failures of names: wrappers, and modules that are called otherwise."""

from __future__ import annotations

from torch import nn

from . import models as m
from .breaks import prefix, renamed, substituted

STRIP, ADD, RENAME = ("prefix_strip",), ("prefix_add",), ("rename",)
KNOWN = {"signal": "unexpected", "simple": True}

# ---- wrappers

renamed("ddp on a resnet", m.RESNET, prefix("module."), STRIP, **KNOWN)
renamed("compiled bert", m.BERT, prefix("_orig_mod."), STRIP, **KNOWN)
renamed("ddp around compile", m.VIT, prefix("module._orig_mod."), STRIP, **KNOWN)
renamed("ddp twice", m.CONVNEXT, prefix("module.module."), STRIP, **KNOWN)
renamed("lightning", m.EFFICIENTNET, prefix("model."), STRIP, simple=True)
renamed("a name of one's own", m.Speech, prefix("asr_net."), STRIP, simple=True)
renamed("backbone of a detector", m.RESNET, prefix("detector.backbone."), STRIP, simple=True)
renamed(
    "checkpoint wrappers",
    m.LLAMA,
    substituted((r"(layers\.\d+)\.", r"\1._checkpoint_wrapped_module.")),
    ("prefix_strip", "rename"),
    **KNOWN,
)
renamed(
    "a compiled part",
    m.TOWER,
    substituted((r"^text\.", "text._orig_mod.")),
    ("prefix_strip", "rename"),
    **KNOWN,
)
renamed(
    "fsdp wrappers",
    m.GPT2,
    substituted((r"(h\.\d+)\.", r"\1._fsdp_wrapped_module.")),
    ("prefix_strip", "rename"),
    **KNOWN,
)
renamed("a model in ddp", m.BERT, prefix("module."), ADD, into=True, signal="missing", simple=True)
renamed("a compiled model", m.TOWER, prefix("_orig_mod."), ADD, into=True, signal="missing", simple=True)
renamed("bert inside a classifier", m.BERT, prefix("bert."), ADD, into=True, simple=True)
renamed("a network under net", m.Unet, prefix("net."), ADD, into=True, simple=True)

# ---- other names

renamed(
    "gamma and beta",
    m.BERT,
    substituted((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta")),
    RENAME,
    signal="unexpected",
    simple=True,
)
renamed(
    "attention of old diffusers",
    m.Unet,
    substituted(
        (r"to_q\.", "query."), (r"to_k\.", "key."), (r"to_v\.", "value."), (r"to_out\.0\.", "proj_attn.")
    ),
    RENAME,
)
renamed("blocks are layers", m.VIT, substituted((r"^blocks\.", "layers.")), RENAME, simple=True)
renamed(
    "encoder in the middle",
    m.BERT,
    substituted((r"^encoder\.layer\.", "encoder.layers.")),
    RENAME,
    simple=True,
)
renamed("self_attn is attention", m.LLAMA, substituted((r"self_attn", "attention")), RENAME, simple=True)
renamed(
    "many words change",
    m.LLAMA,
    substituted(
        (r"self_attn", "attention"),
        (r"mlp", "feed_forward"),
        (r"input_layernorm", "attention_norm"),
        (r"post_attention_layernorm", "ffn_norm"),
    ),
    RENAME,
)
renamed(
    "a leaf is called otherwise",
    m.RESNET,
    substituted((r"\bbn1\.", "norm1."), (r"\bbn2\.", "norm2.")),
    RENAME,
)
renamed("a cell's weights in a layer", lambda: nn.LSTM(6, 8), substituted((r"_l0$", "")), RENAME)
renamed(
    "numbers from one",
    m.GPT2,
    lambda key: ".".join(str(int(part) + 1) if part.isdecimal() else part for part in key.split(".")),
    RENAME,
    fix_from="objects",
)
renamed(
    "two towers change names",
    m.TOWER,
    substituted((r"^visual\.", "image_encoder."), (r"^text\.", "text_encoder.")),
    RENAME,
)
renamed(
    "a head called fc", m.RESNET, substituted((r"^fc\.", "head.fc.")), ("rename", "prefix_strip"), simple=True
)
renamed("slashes for dots", m.Speech, lambda key: key.replace(".", "/"), RENAME)
