"""What the formats' own libraries do with a file, for the table of ``docs/reliability.md``.

Each reader gives as many tensors as it can, and every one is copied, so that what a mapping hides comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def by_torch(path: str) -> int:
    """``torch.load`` as it advises."""
    import torch

    return _copied(torch.load(path, weights_only=True, map_location="cpu"))


def by_safetensors(path: str) -> int:
    """The reference reader."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return _copied({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118


def by_huggingface_hub(path: str) -> int:
    """Its loader of one file; torch files need ``safe=False``, and go through torch as above."""
    from huggingface_hub import load_state_dict_from_file

    safe = path.endswith(".safetensors")
    return _copied(load_state_dict_from_file(path, map_location="cpu", weights_only=True, safe=safe))


def _copied(tree: Any) -> int:
    return sum(tensor.to_dense().clone().numel() >= 0 for tensor in _tensors(tree, 0))


def _tensors(tree: Any, depth: int) -> Iterator[Any]:
    import torch

    if isinstance(tree, torch.Tensor):
        yield tree
    elif depth < 20:
        children = (
            tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
        )
        for child in children:
            yield from _tensors(child, depth + 1)
