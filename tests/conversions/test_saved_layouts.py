"""What transformers saves, remapped, is what its models hold, bit for bit, and the inverse is what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ckptkit
from strategies import content

from real_models import import_transformers

transformers = import_transformers()

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
EXPERTS = r"""
- {op: concat, into: '\1.gate_up',
    patterns: ['(.*\.experts\.\d+)\.gate_proj\.weight', '(.*\.experts\.\d+)\.up_proj\.weight']}
- {op: stack, pattern: '(.*\.experts)\.(?P<index>\d+)\.gate_up', into: '\1.gate_up_proj'}
- {op: stack, pattern: '(.*\.experts)\.(?P<index>\d+)\.down_proj\.weight', into: '\1.down_proj'}
"""
BLOCK_SPARSE = r"""
- {op: rename, pattern: '\.block_sparse_moe\.', replacement: '.mlp.'}
- {op: rename, pairs: [['\.w1\.weight$', '.gate_proj.weight'], ['\.w3\.weight$', '.up_proj.weight'],
    ['\.w2\.weight$', '.down_proj.weight']]}
"""


def causal(name: str, **more: Any) -> torch.nn.Module:
    config = getattr(transformers, f"{name}Config")(**SIZES, **more)
    model: torch.nn.Module = getattr(transformers, f"{name}ForCausalLM")(config)
    return model


def llava() -> torch.nn.Module:
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = transformers.LlamaConfig(**SIZES)
    model: torch.nn.Module = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(vision_config=vision, text_config=text)
    )
    return model


def detr() -> torch.nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage2"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        backbone=None,
        use_pretrained_backbone=False,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=4,
    )
    model: torch.nn.Module = transformers.DetrForObjectDetection(config)
    return model


def qwen2_vl() -> torch.nn.Module:
    scaling = {"type": "mrope", "mrope_section": [1, 1, 0]}
    config = transformers.Qwen2VLConfig(
        text_config={**SIZES, "rope_scaling": scaling},
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 2},
        tie_word_embeddings=True,
    )
    model: torch.nn.Module = transformers.Qwen2VLForConditionalGeneration(config)
    return model


ARCHITECTURES: dict[str, tuple[Any, str]] = {
    "mixtral": (lambda: causal("Mixtral", num_local_experts=3), BLOCK_SPARSE + EXPERTS),
    "phimoe": (
        lambda: causal("Phimoe", num_local_experts=3),
        BLOCK_SPARSE + r"- {op: rename, pattern: '\.mlp\.gate\.', replacement: '.mlp.router.'}" + EXPERTS,
    ),
    "qwen2_moe": (
        lambda: causal("Qwen2Moe", moe_intermediate_size=8, shared_expert_intermediate_size=12, num_experts=3),
        EXPERTS,
    ),
    "qwen3_moe": (lambda: causal("Qwen3Moe", moe_intermediate_size=8, num_experts=3, head_dim=4), EXPERTS),
    "olmoe": (lambda: causal("Olmoe", num_experts=12), EXPERTS),
    "jamba": (
        lambda: causal("Jamba", num_experts=2, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=4),
        EXPERTS,
    ),
    "llava": (
        llava,
        r"""
- {op: rename, pairs: [['^language_model\.model\.', 'model.language_model.'], ['^language_model\.lm_head\.', 'lm_head.'],
    ['^(vision_tower|multi_modal_projector)\.', 'model.\1.']]}
""",
    ),
    "qwen2_vl": (
        qwen2_vl,
        r"- {op: rename, pairs: [['^model\.', 'model.language_model.'], ['^visual\.', 'model.visual.']]}",
    ),
    "detr": (
        detr,
        r"""
- {op: rename, pattern: '\.conv_encoder\.', replacement: '.'}
- {op: rename, pattern: '\.out_proj\.', replacement: '.o_proj.'}
- {op: rename, pattern: '(\.layers\.\d+)\.(fc\d)\.', replacement: '\1.mlp.\2.'}
""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_saved_checkpoint_becomes_the_models_state_and_back(name: str, tmp_path: Path) -> None:
    build, rules = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = build()
    model.save_pretrained(tmp_path / "saved")
    with ckptkit.open(tmp_path / "saved") as saved:
        wanted = model.state_dict()
        assert set(saved) != set(wanted), "nothing to convert"
        plan = ckptkit.plan(saved, yaml.safe_load(rules))
        before = content(saved)
        ckptkit.save(ckptkit.remap(saved, plan), tmp_path / "model.safetensors")
    with ckptkit.open(tmp_path / "model.safetensors") as made:
        tied = {key for group in ckptkit.signature(model).tied for key in group[1:]}
        assert content(made) == {k: v for k, v in content(wanted).items() if k in made or k not in tied}
        back = ckptkit.remap(made, plan.invert())
        assert list(back) == list(before)
        assert content(back) == before
    assert ckptkit.verify_roundtrip(tmp_path / "saved", plan).ok
