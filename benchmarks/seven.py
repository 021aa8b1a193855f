"""A model of 7 billion parameters, and a checkpoint of that size that takes no space: the shards are sparse files."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LAYERS, WIDTH, HIDDEN, VOCABULARY, SHARDS = 32, 4096, 11008, 32000, 4


def shapes() -> dict[str, tuple[int, ...]]:
    """The keys of a decoder with 6.7 billion parameters."""
    found: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        found |= {f"{at}.attn.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        found |= {f"{at}.mlp.{name}_proj.weight": (HIDDEN, WIDTH) for name in ("gate", "up")}
        found[f"{at}.mlp.down_proj.weight"] = (WIDTH, HIDDEN)
        found |= {f"{at}.{name}_norm.weight": (WIDTH,) for name in ("input", "post")}
    return found | {"norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def model() -> torch.nn.Module:
    """A factory for ``--model benchmarks.seven:model``."""
    import torch
    from torch import nn

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False)

    layers = nn.ModuleList(
        nn.ModuleDict(
            {
                "attn": nn.ModuleDict({f"{name}_proj": linear(WIDTH, WIDTH) for name in "qkvo"}),
                "mlp": nn.ModuleDict(
                    {
                        "gate_proj": linear(WIDTH, HIDDEN),
                        "up_proj": linear(WIDTH, HIDDEN),
                        "down_proj": linear(HIDDEN, WIDTH),
                    }
                ),
                "input_norm": torch.nn.RMSNorm(WIDTH),
                "post_norm": torch.nn.RMSNorm(WIDTH),
            }
        )
        for _ in range(LAYERS)
    )
    top = {"embed_tokens": nn.Embedding(VOCABULARY, WIDTH), "layers": layers, "norm": torch.nn.RMSNorm(WIDTH)}
    return nn.ModuleDict({**top, "lm_head": linear(WIDTH, VOCABULARY)})


def write(folder: Path) -> None:
    """The checkpoint: an index and sparse shards of bfloat16."""
    folder.mkdir()
    every = list(shapes().items())
    weight_map = {}
    for number in range(SHARDS):
        name = f"model-{number + 1:05d}-of-{SHARDS:05d}.safetensors"
        header, offset = {}, 0
        for key, shape in every[number::SHARDS]:
            end = offset + 2 * prod(shape)
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
            weight_map[key], offset = name, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + offset)
    index = {"metadata": {"total_size": 2 * sum(map(prod, shapes().values()))}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
