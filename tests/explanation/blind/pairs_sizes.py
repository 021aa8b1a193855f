"""Failures of sizes, and keys that only one side has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from . import models as m
from .breaks import Make, beside, changed, differing, without

# ---- sizes


def with_classes(make: Callable[..., nn.Module], **options: object) -> Make:
    return lambda: make(**options)


HEAD = ("head_mismatch",)
differing(
    "classes of a resnet",
    m.RESNET,
    m.timm_model("test_resnet", num_classes=3),
    HEAD,
    "loads",
    r"^fc\.",
    signal="shapes",
)
differing(
    "classes of a vit",
    m.VIT,
    m.timm_model("test_vit", num_classes=100),
    HEAD,
    "loads",
    r"^head\.",
    signal="shapes",
)
differing(
    "labels of bert",
    m.BERT_CLASSIFIER,
    m.hugging("BertForSequenceClassification", **m.SMALL, num_labels=9),
    HEAD,
    "loads",
    r"^classifier\.",
    signal="shapes",
)
differing(
    "symbols of a recogniser",
    m.Speech,
    with_classes(m.Speech, classes=29),
    HEAD,
    "loads",
    "^classifier",
    signal="shapes",
)
differing(
    "a larger vocabulary",
    m.GPT2,
    m.hugging("GPT2LMHeadModel", n_embd=16, n_layer=2, n_head=2, vocab_size=128, n_positions=32),
    ("vocab_resize",),
    "loads",
    "wte|lm_head",
    signal="shapes",
)
differing(
    "a smaller vocabulary",
    m.LLAMA,
    m.hugging("LlamaForCausalLM", **{**m.SMALL, "vocab_size": 112}, tie_word_embeddings=False),
    ("vocab_resize",),
    "loads",
    "embed_tokens|lm_head",
    signal="shapes",
)
differing(
    "words of t5",
    m.T5,
    m.hugging(
        "T5ForConditionalGeneration", d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=132
    ),
    ("vocab_resize",),
    "loads",
    "shared|embed_tokens|lm_head",
    signal="shapes",
)
differing(
    "another image size",
    m.VIT,
    m.timm_model("test_vit", num_classes=7, img_size=224),
    ("pos_embed",),
    "loads",
    "pos_embed",
    signal="shapes",
)
differing(
    "another image size of transformers",
    m.VIT_HF,
    m.hugging("ViTForImageClassification", **m.VISION, image_size=64, num_labels=4),
    ("pos_embed",),
    "loads",
    "position_embeddings",
    signal="shapes",
)
differing(
    "fewer positions of gpt2",
    m.GPT2,
    m.hugging("GPT2LMHeadModel", n_embd=16, n_layer=2, n_head=2, vocab_size=120, n_positions=16),
    ("pos_embed",),
    "loads",
    "wpe",
    signal="shapes",
)
differing(
    "grey images",
    m.RESNET,
    m.timm_model("test_resnet", num_classes=7, in_chans=1),
    ("input_channels",),
    "loads",
    r"^conv1\.0\.weight",
    signal="shapes",
)
differing(
    "a mask beside the image",
    m.Unet,
    with_classes(m.Unet, channels=9),
    ("input_channels",),
    "loads",
    "conv_in",
    signal="shapes",
)
ARCH = ("arch_mismatch",)
differing(
    "another width",
    m.CONVNEXT,
    m.timm_model("test_convnext", num_classes=7, dims=(40, 48, 64, 80)),
    ARCH,
    "none",
    signal="shapes",
)
differing(
    "twice as wide",
    m.LLAMA,
    m.hugging(
        "LlamaForCausalLM",
        **{**m.SMALL, "hidden_size": 32, "intermediate_size": 48},
        tie_word_embeddings=False,
    ),
    ARCH,
    "none",
    signal="shapes",
)
differing(
    "deeper than the checkpoint",
    m.BERT,
    m.hugging("BertModel", **{**m.SMALL, "num_hidden_layers": 5}),
    ARCH,
    "none",
    signal="missing",
)
differing(
    "shallower than the checkpoint",
    m.GPT2,
    m.hugging("GPT2LMHeadModel", n_embd=16, n_layer=1, n_head=2, vocab_size=120, n_positions=32),
    ARCH,
    "none",
    signal="unexpected",
)
differing("two directions", m.Speech, with_classes(m.Speech, directions=2), ARCH, "none")
differing("another network", m.RESNET, m.VIT, ARCH, "none")
differing("a network of another library", m.T5, m.LLAMA, ARCH, "none")
differing("other kernels", m.Unet, lambda: _kernels(m.Unet()), ARCH, "none", signal="shapes")


def _kernels(unet: m.Unet) -> nn.Module:
    for block in unet.down_blocks:
        block["conv1"] = nn.Conv2d(8, 8, 5)
    return unet


# ---- one side only

changed(
    "masks of old gpt2",
    m.GPT2,
    lambda s: {**s, **{f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in (0, 1)}},
    ("extra_buffers",),
    "equal",
    signal="unexpected",
    simple=True,
)
changed(
    "position ids",
    m.BERT,
    lambda s: {**s, "embeddings.position_ids": torch.arange(32)[None]},
    ("extra_buffers",),
    "equal",
    signal="unexpected",
    simple=True,
)
changed(
    "frequencies",
    m.LLAMA,
    lambda s: {**s, **{f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}},
    ("extra_buffers",),
    "equal",
    signal="unexpected",
    simple=True,
)


class Ids(nn.Module):
    """A module that keeps ids and frequencies of its own."""

    def __init__(self, buffers: bool = True) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 8)
        if buffers:
            self.register_buffer("position_ids", torch.arange(16))
            self.out.register_buffer("inv_freq", torch.ones(4))


differing(
    "a model with ids of its own",
    lambda: Ids(buffers=False),
    Ids,
    ("missing_buffers",),
    "loads",
    signal="missing",
    simple=True,
)
changed(
    "a counter is missing",
    lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Attn()),
    without(r"attn_mask$"),
    ("missing_buffers",),
    "loads",
    r"attn_mask$",
    signal="missing",
    simple=True,
)


class Attn(nn.Module):
    """An attention with its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.register_buffer("attn_mask", torch.zeros(4, 4))


changed(
    "a criterion",
    m.Speech,
    beside(criterion__weight=(11,), criterion__centers=(11, 8)),
    ("extra_modules",),
    "equal",
    signal="unexpected",
    simple=True,
)
changed(
    "a discriminator",
    m.Gan,
    beside(
        discriminator__0__weight=(8, 1, 3), discriminator__0__bias=(8,), discriminator__1__weight=(1, 8, 3)
    ),
    ("extra_modules",),
    "equal",
    signal="unexpected",
    simple=True,
)
changed(
    "an auxiliary head",
    m.RESNET,
    beside(aux_head__conv__weight=(4, 8, 1, 1), aux_head__fc__weight=(7, 4)),
    ("extra_modules",),
    "equal",
    signal="unexpected",
    simple=True,
)
changed(
    "a body without its head",
    m.RESNET,
    without(r"^fc\."),
    ("partial_model",),
    "loads",
    r"^fc\.",
    signal="missing",
)
differing(
    "bert into a classifier",
    m.hugging("BertForPreTraining", **m.SMALL),
    m.BERT_CLASSIFIER,
    ("partial_model",),
    "loads",
    "^classifier|^bert.pooler$",
)
differing(
    "a tagger into a classifier",
    m.hugging("RobertaForMaskedLM", **m.SMALL),
    m.hugging("RobertaForSequenceClassification", **m.SMALL),
    ("partial_model",),
    "loads",
    "^classifier",
)
changed(
    "an output that is the embedding",
    m.GPT2,
    without(r"^lm_head"),
    ("tied_weights",),
    "equal",
    signal="missing",
)
changed(
    "an output of its own is missing",
    m.LLAMA,
    without(r"^lm_head"),
    ("tied_weights", "partial_model"),
    "loads",
    "^lm_head",
    signal="missing",
)
changed(
    "an output beside a tied model",
    m.BERT,
    lambda s: {**s, "cls.predictions.decoder.weight": s["embeddings.word_embeddings.weight"].clone()},
    ("tied_weights", "extra_modules"),
    "equal",
    signal="unexpected",
)
