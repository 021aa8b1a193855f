"""Checkpoints of several files, or of JSON alone, and the damages that are their own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import save

from . import pieces

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def sharded() -> dict[str, bytes]:
    """Two shards and their index, which is opened."""
    parts = (
        {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)},
        {"b.weight": torch.ones(2, 2, dtype=torch.float16), "bérd": torch.arange(3)},
    )
    weight_map = {key: name for name, part in zip(SHARDS, parts, strict=True) for key in part}
    index = {"metadata": {"total_size": 92}, "weight_map": weight_map}
    return {
        INDEX: json.dumps(index, indent=2).encode(),
        **{name: bytes(save(part, {"format": "pt"})) for name, part in zip(SHARDS, parts, strict=True)},
    }


def signature() -> dict[str, bytes]:
    """A signature file."""
    tensors = [
        {"key": "a.weight", "shape": [3, 4], "dtype": "float32"},
        {"key": "a.tied", "shape": [3, 4], "dtype": "float32"},
        {"key": "n", "shape": [], "dtype": "int64"},
        {"key": "bérd", "shape": [0, 2], "dtype": "bfloat16"},
    ]
    document = {
        "format": "ckptkit.signature",
        "version": 1,
        "tensors": tensors,
        "tied": [["a.weight", "a.tied"]],
        "metadata": {"format": "pt"},
    }
    return {"model.json": json.dumps(document).encode()}


FILES: dict[str, Callable[[], dict[str, bytes]]] = {
    "sharded": sharded,
    "signature": signature,
    "distributed": pieces.folder,
}


def in_json(blob: bytes, rng: random.Random) -> bytes:
    """JSON still, with one value, key or item that is another, is gone, or stands twice."""
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError):
        return blob
    parent, step = rng.choice(list(_places(document)) or [({"": document}, "")])
    how = rng.choice(("value", "value", "swap", "gone", "key", "twice"))
    if how == "value":
        parent[step] = rng.choice((*_ODD, len(blob)))
    elif how == "swap":
        other, where = rng.choice(list(_places(document)))
        parent[step], other[where] = other[where], parent[step]
        if _loops(document):
            return blob
    elif how == "gone":
        del parent[step]
    elif isinstance(parent, dict):
        parent[rng.choice(("", "x", "\ud800", "../x", str(step) + " "))] = parent[step]
        if how == "key":
            del parent[step]
    else:
        parent.insert(step, parent[step])
    text = json.dumps(document)
    if how == "twice" and isinstance(parent, dict):
        text = text.replace("{", '{"a.weight": 1, "a.weight": 2, ', 1)
    return text.encode()


_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**400, float("nan"), "", "x", "../x", "/etc/passwd", "CON.bin",
    "\ud800", [], {}, [[]], {"a": 1}, SHARDS[0], SHARDS[1], SHARDS[0].upper(), INDEX, "float32", "F32",
)  # fmt: skip


def _places(node: Any) -> Any:
    """Every (container, key or position) below a value."""
    steps = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for step in steps:
        yield node, step
        yield from _places(node[step])


def _loops(document: Any) -> bool:
    try:
        json.dumps(document)
    except (ValueError, RecursionError):
        return True
    return False
