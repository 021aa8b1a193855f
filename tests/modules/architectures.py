"""Real architectures, small, built from configs without downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from real_models import import_timm, import_transformers


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_timm()
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=5, **options)
        return model

    return build


def _hf(kind: str, head: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        transformers = import_transformers()
        config = getattr(transformers, f"{kind}Config")(**options)
        model: nn.Module = getattr(transformers, f"{kind}{head}")(config)
        return model

    return build


class Parametrised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.new = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
        self.old = nn.utils.weight_norm(nn.Linear(4, 4))
        self.spectral = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.orthogonal = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.BatchNorm2d(3)
        self.register_buffer("table", torch.arange(5.0))
        self.register_buffer("scratch", torch.ones(2), persistent=False)


class TiedHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 6, num_layers=2, bidirectional=True)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight


_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "vit": _timm("vit_tiny_patch16_224", embed_dim=48, depth=2, num_heads=3),
    "deit-distilled": _timm("deit_tiny_distilled_patch16_224", embed_dim=48, depth=2, num_heads=3),
    "resnet": _timm("resnet10t"),
    "resnet26d": _timm("resnet26d"),
    "convnext": _timm("convnext_atto"),
    "swin": _timm("swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1), num_heads=(2, 4)),
    "efficientnet": _timm("efficientnet_lite0"),
    "mobilenetv3": _timm("mobilenetv3_small_050"),
    "mixer": _timm("mixer_s32_224"),
    "densenet": _timm("densenet121", block_config=(1, 1, 1, 1)),
    "regnet": _timm("regnetx_002"),
    "beit": _timm("beit_base_patch16_224", embed_dim=48, depth=2, num_heads=3),
    "bert": _hf("Bert", "ForMaskedLM", **_SMALL),
    "distilbert": _hf("DistilBert", "Model", dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=99),
    "roberta": _hf("Roberta", "ForSequenceClassification", **_SMALL),
    "gpt2": _hf("GPT2", "LMHeadModel", n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=64),
    "t5": _hf("T5", "ForConditionalGeneration", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=99),
    "llama": _hf("Llama", "ForCausalLM", **_GROUPED),
    "mistral": _hf("Mistral", "ForCausalLM", **_GROUPED),
    "qwen2-tied": _hf("Qwen2", "ForCausalLM", **_GROUPED, tie_word_embeddings=True),
    "gemma": _hf("Gemma", "ForCausalLM", **_GROUPED, head_dim=8),
    "mixtral": _hf("Mixtral", "ForCausalLM", **_GROUPED, num_local_experts=4),
    "whisper": _hf(
        "Whisper", "ForConditionalGeneration", d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=99,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_source_positions=20, max_target_positions=20, num_mel_bins=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    ),
    "clip": _hf(
        "CLIP", "Model",
        text_config={**_SMALL, "projection_dim": 16},
        vision_config={**{k: v for k, v in _SMALL.items() if k != "vocab_size"}, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    ),
    "phi3": _hf("Phi3", "ForCausalLM", **_GROUPED, pad_token_id=0),
    "parametrised": Parametrised,
    "tied-lstm": TiedHead,
}  # fmt: skip
