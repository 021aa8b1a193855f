"""Checkpoints like those that people have, of any size."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from .seven import write as write_seven

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "module._orig_mod."
MANY_KEYS = 100_000


def shapes(size: int) -> dict[str, tuple[int, ...]]:
    """The keys of a transformer with about `size` bytes of float32 weights."""
    width = 1024 if size >= 256 << 20 else 64
    found: dict[str, tuple[int, ...]] = {"embed.weight": (256, width)}
    total, layer = 256 * width * 4, 0
    while total < size:
        for name, shape in (
            ("attn.qkv.weight", (3 * width, width)),
            ("attn.qkv.bias", (3 * width,)),
            ("attn.out.weight", (width, width)),
            ("mlp.up.weight", (4 * width, width)),
            ("mlp.down.weight", (width, 4 * width)),
            ("norm.weight", (width,)),
        ):
            found[f"blocks.{layer}.{name}"] = shape
            total += 4 * prod(shape)
        layer += 1
    return found


def transformer(size: int) -> dict[str, Tensor]:
    """The weights of `shapes`, in the transformer's training wrappers."""
    import torch

    torch.manual_seed(0)
    return {f"{PREFIX}{key}": torch.rand(shape) for key, shape in shapes(size).items()}


def moe(size: int) -> dict[str, Tensor]:
    """About `size` bytes of a mixture of experts in two layers, every expert's three matrices apart."""
    import torch

    torch.manual_seed(0)
    wide, narrow = (2048, 1024) if size >= 256 << 20 else (32, 16)
    count = max(size // (2 * 3 * wide * narrow * 4), 2)
    return {
        f"layers.{layer}.experts.{expert}.{name}.weight": torch.rand(shape)
        for layer in range(2)
        for expert in range(count)
        for name, shape in (("w1", (wide, narrow)), ("w3", (wide, narrow)), ("w2", (narrow, wide)))
    }


FUSE = [
    {
        "op": "concat",
        "patterns": [r"(.*)\.w1\.weight", r"(.*)\.w3\.weight"],
        "into": r"\1.w13",
    },
    {"op": "stack", "pattern": r"(.*)\.experts\.(?P<index>\d+)\.w13", "into": r"\1.gate_up"},
    {"op": "stack", "pattern": r"(.*)\.experts\.(?P<index>\d+)\.w2\.weight", "into": r"\1.down"},
]


def make(kind: str, path: Path, size: int) -> None:
    """Write one fixture.

    Args:
        kind: ``weights`` (a transformer's), ``headers`` (300 tensors, little data), ``keys`` (100000 small
            tensors; 1000 when `size` is at most 1 MiB), ``rules`` (a config of 20 rules for ``keys``),
            ``moe`` (a mixture of experts), ``fuse`` (a config that stacks them), ``seven`` (an index of 7
            billion parameters), ``experts`` and ``stacked`` (signatures of one mixture of experts in two
            layouts, about `size` keys in the first), ``error`` (what torch says of a wrapped model).
        path: its suffix decides the format; in a torch file the tensors are nested beside an epoch.
        size: in bytes; about.
    """
    if kind in ("experts", "stacked"):
        path.write_text(experts_text(size, stacked=kind == "stacked"), encoding="utf-8")
        return
    import torch
    from safetensors.torch import save_file

    if kind == "rules":
        path.write_text(rules_text(), encoding="utf-8")
        return
    if kind == "error":
        path.write_text(error_text(), encoding="utf-8")
        return
    if kind == "seven":
        write_seven(path)
        return
    if kind == "fuse":
        path.write_text(json.dumps({"version": 1, "rules": FUSE}, indent=1), encoding="utf-8")
        return
    if kind == "weights":
        state = transformer(size)
    elif kind == "moe":
        state = moe(size)
    elif kind == "headers":
        state = {f"layers.{i // 6}.part{i % 6}.weight": torch.rand(64, 64) for i in range(300)}
    else:
        state = {key: torch.full((4,), float(i)) for i, key in enumerate(many_keys(size))}
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)


def many_keys(size: int) -> list[str]:
    """Keys of a large mixture of experts: layers, experts and projections."""
    count = MANY_KEYS if size > 1 << 20 else 1000
    parts = ("gate_proj", "up_proj", "down_proj", "scale", "zero")
    return [
        f"model.layers.{i // 1000}.mlp.experts.{i // 5 % 200}.{parts[i % 5]}.weight" for i in range(count)
    ]


def replacements() -> list[tuple[str, str]]:
    """20 renames as conversions have them: a few that touch every key, many that touch some."""
    pairs = [
        (r"^model\.", "transformer."),
        (r"\.layers\.(\d+)\.", r".h.\1."),
        (r"\.mlp\.experts\.(\d+)\.", r".moe.\1."),
        (r"\.gate_proj\.", ".w1."),
        (r"\.up_proj\.", ".w3."),
        (r"\.down_proj\.", ".w2."),
        (r"\.scale\.weight$", ".weight_scale"),
        (r"\.zero\.weight$", ".weight_zero"),
    ]
    return pairs + [(rf"\.h\.{i}\.moe\.", f".h.{i}.experts.") for i in range(12)]


def rules_text() -> str:
    """The renames as a config of ckptkit (JSON)."""
    rules = [
        {"op": "rename", "pattern": pattern, "replacement": replacement, "required": False}
        for pattern, replacement in replacements()
    ]
    return json.dumps({"version": 1, "rules": rules}, indent=1)


def experts_text(keys: int, *, stacked: bool) -> str:
    """The signature of a mixture of experts: one tensor per expert under old names, or stacked under new ones."""
    experts, width, inner = (128, 2048, 768) if keys > 1000 else (4, 512, 192)
    own = 4 + 2 + 1 + 3 * experts
    shapes: dict[str, list[int]] = {
        "model.embed_tokens.weight": [32000, width],
        "lm_head.weight": [32001, width],
    }
    for n in range(max(1, keys // own)):
        block = f"model.{'blocks' if stacked else 'layers'}.{n}."
        for part in (
            ("query", "key", "value", "output") if stacked else ("q_proj", "k_proj", "v_proj", "o_proj")
        ):
            shapes[f"{block}self_attn.{part}.weight"] = [width, width]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{block}{norm}.weight"] = [width]
        shapes[f"{block}mlp.gate.weight"] = [experts, width]
        if stacked:
            shapes[f"{block}mlp.experts.gate_up_proj"] = [experts, 2 * inner, width]
            shapes[f"{block}mlp.experts.down_proj"] = [experts, width, inner]
        else:
            for e in range(experts):
                for part, shape in (
                    ("gate", [inner, width]),
                    ("up", [inner, width]),
                    ("down", [width, inner]),
                ):
                    shapes[f"{block}mlp.experts.{e}.{part}_proj.weight"] = shape
    tensors = [{"key": key, "shape": shape, "dtype": "bfloat16"} for key, shape in shapes.items()]
    return json.dumps({"format": "ckptkit.signature", "version": 1, "tensors": tensors})


def error_text() -> str:
    """torch's error for 300 keys that carry a wrapper's prefix."""
    keys = [f"layers.{i // 6}.part{i % 6}.weight" for i in range(300)]
    missing, unexpected = (", ".join(f'"{prefix}{key}"' for key in keys) for prefix in ("", "module."))
    return (
        "RuntimeError: Error(s) in loading state_dict for Net:\n"
        f"\tMissing key(s) in state_dict: {missing}. \n\tUnexpected key(s) in state_dict: {unexpected}. \n"
    )
