"""Small models of real libraries, and modules as users write them; each is built anew with other weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from real_models import import_timm, import_transformers

timm = import_timm()
transformers = import_transformers()

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 120,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 8,
}


class Attention(nn.Module):
    """As diffusers names it, or as it did before."""

    def __init__(self, width: int, old: bool = False) -> None:
        super().__init__()
        names = ("query", "key", "value") if old else ("to_q", "to_k", "to_v")
        for name in names:
            setattr(self, name, nn.Linear(width, width))
        out = nn.Linear(width, width)
        if old:
            self.proj_attn = out
        else:
            self.to_out = nn.ModuleList([out, nn.Dropout(0.0)])
        self.group_norm = nn.GroupNorm(2, width)


class Unet(nn.Module):
    """The middle of an autoencoder, with blocks up and down."""

    def __init__(self, width: int = 8, channels: int = 3, old: bool = False, depth: int = 2) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3)
        self.down_blocks = nn.ModuleList(
            nn.ModuleDict({"conv1": nn.Conv2d(width, width, 3), "norm1": nn.GroupNorm(2, width)})
            for _ in range(depth)
        )
        self.mid_block = nn.ModuleDict({"attentions": nn.ModuleList(Attention(width, old) for _ in range(2))})
        self.conv_out = nn.Conv2d(width, 3, 3)


class Speech(nn.Module):
    """A recogniser as users write them: convolutions, a recurrent network, a classifier."""

    def __init__(self, classes: int = 11, layers: int = 1, directions: int = 1) -> None:
        super().__init__()
        self.frontend = nn.Sequential(nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8))
        self.rnn = nn.LSTM(8, 8, layers, bidirectional=directions == 2)
        self.classifier = nn.Linear(8 * directions, classes)


class Tower(nn.Module):
    """Two encoders, as contrastive models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 8, 4), nn.Flatten(), nn.Linear(8, 8))
        self.text = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
        self.logit_scale = nn.Parameter(torch.ones(()))


class Gan(nn.Module):
    """A generator of transposed convolutions."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ups = nn.ModuleList(nn.ConvTranspose1d(width, width, 4) for _ in range(3))
        self.conv_post = nn.Conv1d(width, 1, 7)


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **options)


def hugging(name: str, **config: Any) -> Callable[[], nn.Module]:
    """A model of transformers by its class's name, of a small size."""

    def build() -> nn.Module:
        cls = getattr(transformers, name)
        model: nn.Module = cls(cls.config_class(**config))
        return model

    return build


BERT = hugging("BertModel", **SMALL)
BERT_CLASSIFIER = hugging("BertForSequenceClassification", **SMALL, num_labels=3)
LLAMA = hugging("LlamaForCausalLM", **SMALL, tie_word_embeddings=False)
GPT2 = hugging("GPT2LMHeadModel", n_embd=16, n_layer=2, n_head=2, vocab_size=120, n_positions=32)
ROBERTA = hugging("RobertaForMaskedLM", **SMALL)
VIT_HF = hugging("ViTForImageClassification", **VISION, image_size=32, num_labels=4)
MIXTRAL = hugging("MixtralForCausalLM", **SMALL, num_key_value_heads=2, num_local_experts=3)
T5 = hugging(
    "T5ForConditionalGeneration", d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=120
)
VIT = timm_model("test_vit", num_classes=7)
RESNET = timm_model("test_resnet", num_classes=7)
CONVNEXT = timm_model("test_convnext", num_classes=7)
EFFICIENTNET = timm_model("test_efficientnet", num_classes=7)
TOWER: Callable[[], nn.Module] = Tower
