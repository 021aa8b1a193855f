"""Checkpoints of one model in the layout of another: the outputs are those of the original."""

from __future__ import annotations

from typing import Any

import torch
import yaml
from torch import nn

import ckptkit
from strategies import content

from real_models import import_transformers

transformers = import_transformers()


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).logits
    return logits


def test_fused_projections_become_split_ones_and_the_outputs_stay() -> None:
    """Phi-3 fuses q, k, v and gate, up; Llama has them apart, and computes the same otherwise."""
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
    }
    phi = randomised(transformers.Phi3ForCausalLM(transformers.Phi3Config(**sizes)))
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    rules = yaml.safe_load(r"""
- {op: split, pattern: '(.*)\.qkv_proj\.weight', sizes: [16, 8, 8],
    into: ['\1.q_proj.weight', '\1.k_proj.weight', '\1.v_proj.weight']}
- {op: split, pattern: '(.*)\.gate_up_proj\.weight', into: ['\1.gate_proj.weight', '\1.up_proj.weight']}
""")
    report = ckptkit.load(llama, phi, {"rules": rules})
    assert report.coverage.parameters == 1.0
    torch.testing.assert_close(outputs(llama), outputs(phi))
    assert ckptkit.verify_roundtrip(phi, rules).ok


class LinearGPT2(nn.Module):
    """GPT-2 written with Linear layers."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.blocks = nn.ModuleList(LinearBlock(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            hidden = block(hidden)
        logits: torch.Tensor = self.ln_f(hidden) @ self.wte.weight.T
        return logits


class LinearBlock(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.n_embd
        self.heads = config.n_head
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, eps=config.layer_norm_epsilon) for _ in range(2))
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        x = self.ln_1(hidden)
        q, k, v = (
            layer(x).view(batch, length, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden = hidden + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        x = nn.functional.gelu(self.up(self.ln_2(hidden)), approximate="tanh")
        result: torch.Tensor = hidden + self.down(x)
        return result


def test_conv1d_weights_become_linear_ones_and_the_outputs_stay() -> None:
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32, n_positions=12)
    gpt = randomised(transformers.GPT2LMHeadModel(config))
    model = LinearGPT2(config).eval()
    rules = yaml.safe_load(r"""
- {op: strip_prefix, prefix: transformer.}
- {op: drop, keys: [lm_head.weight]}
- {op: transpose, keys: ["*.attn.c_*.weight", "*.mlp.c_*.weight"]}
- {op: split, pattern: 'h\.(\d+)\.attn\.c_attn\.(weight|bias)', into: ['blocks.\1.q.\2', 'blocks.\1.k.\2', 'blocks.\1.v.\2']}
- {op: rename, pattern: '^h\.', replacement: 'blocks.'}
- {op: rename, pairs: [['\.attn\.c_proj\.', '.out.'], ['\.mlp\.c_fc\.', '.up.'], ['\.mlp\.c_proj\.', '.down.']]}
""")
    report = ckptkit.load(model, gpt, {"rules": rules})
    assert report.coverage.parameters == 1.0
    with torch.no_grad():
        mine = model(torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]))
    torch.testing.assert_close(mine, outputs(gpt))
    plan = ckptkit.plan(gpt, rules)
    assert content(ckptkit.remap(ckptkit.remap(gpt, plan), plan.invert())) == content(gpt.state_dict())


def rotated_pairs(x: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    """Rotary embedding as the paper writes it (Su et al. 2021): neighbours 2i, 2i+1 of a head turn together.

    Args:
        x: [length, heads, head_dim].
    """
    length, _, size = x.shape
    angles = torch.arange(length)[:, None] * base ** (-torch.arange(0, size, 2) / size)[None]
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * turn).flatten(-2)


def rotated_halves(x: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    """The same with i and i + head_dim / 2 as the pair, as Hugging Face computes it."""
    length, _, size = x.shape
    angles = torch.arange(length)[:, None] * base ** (-torch.arange(0, size, 2) / size)[None]
    cos, sin = (torch.cat([f(angles)] * 2, -1)[:, None] for f in (torch.cos, torch.sin))
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def test_the_rotary_rule_changes_between_pairs_and_halves() -> None:
    torch.manual_seed(0)
    heads, groups, width = 4, 2, 32
    size = width // heads
    state = {
        "layers.0.wq.weight": torch.randn(width, width),
        "layers.0.wk.weight": torch.randn(groups * size, width),
        "layers.0.wk.bias": torch.randn(groups * size),
    }
    rules = [
        {"op": "rotary", "keys": ["*.wq.*"], "heads": heads, "to": "half"},
        {"op": "rotary", "keys": ["*.wk.*"], "heads": groups, "to": "half"},
    ]
    made = ckptkit.remap(state, rules)
    x = torch.randn(6, width)

    def scores(weights: dict[str, torch.Tensor], rotate: Any) -> torch.Tensor:
        q = rotate((x @ weights["layers.0.wq.weight"].T).view(6, heads, size))
        k = (x @ weights["layers.0.wk.weight"].T + weights["layers.0.wk.bias"]).view(6, groups, size)
        return torch.einsum("qhd,khd->hqk", q, rotate(k).repeat_interleave(heads // groups, 1))

    torch.testing.assert_close(scores(made, rotated_halves), scores(state, rotated_pairs))
    assert not torch.allclose(scores(state, rotated_halves), scores(state, rotated_pairs))
    back = [{**rule, "to": "interleaved"} for rule in rules]
    assert content(ckptkit.remap(made, back)) == content(state)
    assert ckptkit.verify_roundtrip(state, rules).ok


def test_metas_llama_layout_becomes_hugging_faces() -> None:
    """Reference: the published names, and the rows of q and k taken in the order 0, 2, 4, ..., 1, 3, 5, ... per head."""
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=32, tie_word_embeddings=False,
    )  # fmt: skip
    llama = randomised(transformers.LlamaForCausalLM(config))
    meta: dict[str, torch.Tensor] = {
        "tok_embeddings.weight": llama.model.embed_tokens.weight.detach(),
        "norm.weight": llama.model.norm.weight.detach(),
        "output.weight": llama.lm_head.weight.detach(),
    }
    order = [0, 2, 1, 3]  # of a head of four: where the halves' rows come from among the pairs'
    inverse = [order.index(row) for row in range(4)]
    for i, layer in enumerate(llama.model.layers):
        for ours, theirs in (("wq", "q_proj"), ("wk", "k_proj"), ("wv", "v_proj"), ("wo", "o_proj")):
            weight = getattr(layer.self_attn, theirs).weight.detach()
            if ours in ("wq", "wk"):
                rows = [4 * head + row for head in range(weight.shape[0] // 4) for row in inverse]
                weight = weight[rows]
            meta[f"layers.{i}.attention.{ours}.weight"] = weight
        for ours, theirs in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
            meta[f"layers.{i}.feed_forward.{ours}.weight"] = getattr(layer.mlp, theirs).weight.detach()
        meta[f"layers.{i}.attention_norm.weight"] = layer.input_layernorm.weight.detach()
        meta[f"layers.{i}.ffn_norm.weight"] = layer.post_attention_layernorm.weight.detach()
    rules = yaml.safe_load(r"""
- {op: rotary, keys: ["*.wq.weight"], heads: 4, to: half}
- {op: rotary, keys: ["*.wk.weight"], heads: 2, to: half}
- {op: rename, pairs: [['\.attention\.w([qkvo])\.', '.self_attn.\1_proj.'], ['\.feed_forward\.w1\.', '.mlp.gate_proj.'],
    ['\.feed_forward\.w2\.', '.mlp.down_proj.'], ['\.feed_forward\.w3\.', '.mlp.up_proj.'],
    ['\.attention_norm\.', '.input_layernorm.'], ['\.ffn_norm\.', '.post_attention_layernorm.']]}
- {op: rename, pattern: '^tok_embeddings\.', replacement: 'embed_tokens.'}
- {op: add_prefix, prefix: model., keys: ["embed_tokens.*", "layers.*", "norm.*"]}
- {op: rename, pattern: '^output\.', replacement: 'lm_head.'}
""")
    assert content(ckptkit.remap(meta, rules)).items() == content(llama.state_dict()).items()
    copy = transformers.LlamaForCausalLM(config).eval()
    ckptkit.load(copy, meta, {"rules": rules})
    assert torch.equal(outputs(copy), outputs(llama))
    assert ckptkit.verify_roundtrip(meta, rules).ok
