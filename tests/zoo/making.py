"""What the families share: small states, and savers that make the folders on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed import checkpoint as dcp

# In the order in which safetensors writes them, so that one order holds for every format.
STATE = {
    "norm.num_batches_tracked": torch.tensor(7),
    "embed.weight": torch.arange(12.0).reshape(4, 3),
    "layers.0.bias": torch.tensor([float("nan"), -0.0]),
    "layers.0.weight": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
}
OTHER = {"disc.bias": torch.zeros(3), "disc.weight": torch.ones(3, 3)}


def shifted(state: Mapping[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    """The same keys with other values."""
    return {key: value + 1 for key, value in state.items()}


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(path: Path, content: Any) -> Path:
    return text(path, json.dumps(content))


def pt(path: Path, value: Any = STATE, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, **how)
    return path


def st(path: Path, state: Mapping[str, torch.Tensor] = STATE, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), path, metadata={"format": "pt"} if metadata is None else metadata)
    return path


def saved_dcp(path: Path, state: Any = STATE) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    dcp.save(state, checkpoint_id=str(path), no_dist=True)
    return path


def sharded(
    folder: Path,
    state: Mapping[str, torch.Tensor] = STATE,
    frame: str = "model-{n:05d}-of-{count:05d}.safetensors",
    index: str | None = "model.safetensors.index.json",
) -> dict[str, str]:
    """One shard for each half of a state, with an index; gives the weight map."""
    keys = list(state)
    halves = [keys[: len(keys) // 2], keys[len(keys) // 2 :]]
    weight_map = {}
    for n, half in enumerate(halves, 1):
        name = frame.format(n=n, count=len(halves))
        save = st if name.endswith(".safetensors") else pt
        save(folder / name, {key: state[key] for key in half})
        weight_map |= dict.fromkeys(half, name)
    if index is not None:
        as_json(folder / index, {"metadata": {"total_size": 1}, "weight_map": weight_map})
    return weight_map


def trainer_files(folder: Path, ranks: int = 2) -> None:
    """What transformers' Trainer puts beside the weights."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    pt(folder / "optimizer.pt", optimizer.state_dict())
    pt(folder / "scheduler.pt", {"last_epoch": 3, "_last_lr": [0.1]})
    for rank in range(ranks):
        pt(folder / f"rng_state_{rank}.pth", {"cpu": torch.get_rng_state(), "python": (3, (1, 2), None)})
    pt(folder / "training_args.bin", {"output_dir": "out", "x": torch.ones(2)})
    as_json(folder / "trainer_state.json", {"global_step": 10})


def tree(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Small files by their paths."""
    for name, content in files.items():
        text(folder / name, content)
