"""What torch files of DeepSpeed and Megatron say of themselves: how many parts their checkpoint has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from ...signatures import Part
from ..base import Source
from ..pickled import Opaque
from .numbers import number


def by_content(source: Source) -> Iterator[Part]:
    """DeepSpeed and Megatron say in each file how many there are."""
    path = source.files[0] if source.files else source.path or ""
    name = os.path.basename(path)
    tree = getattr(source, "tree", None)
    if not isinstance(tree, dict):
        return
    if "ds_version" in tree or "param_shapes" in tree:
        rank = re.search(r"zero_pp_rank_(\d+)", name)
        count = number(tree.get("dp_world_size"))
        if any(info.shape == (0,) for info in source.signature.tensors.values()) and _promises_more(
            tree, source
        ):
            yield Part("DeepSpeed ZeRO-3 checkpoint", int(rank[1]) if rank else None, count)
        parallel = number(tree.get("mp_world_size"))
        if parallel is not None and parallel > 1:
            model = re.search(r"mp_rank_(\d+)", name)
            yield Part("DeepSpeed tensor-parallel checkpoint", int(model[1]) if model else None, parallel)
    arguments = tree.get("args")
    if type(arguments) is Opaque and isinstance(arguments.state, dict):
        sizes = [
            number(arguments.state.get(f"{axis}_model_parallel_size")) or 1 for axis in ("tensor", "pipeline")
        ]
        if sizes[0] * sizes[1] > 1:
            where = re.search(r"mp_rank_(\d+)(?:_(\d+))?", path)
            index = None if where is None else int(where[1]) * sizes[1] + int(where[2] or 0)
            yield Part("Megatron checkpoint", index, sizes[0] * sizes[1])


def _promises_more(tree: dict[Any, Any], source: Source) -> bool:
    """Whether ``param_shapes`` (a dict, or a list of them) gives an empty tensor a shape with elements."""
    shapes = tree.get("param_shapes")
    groups = shapes if isinstance(shapes, list) else [shapes]
    named = {key: shape for group in groups if isinstance(group, dict) for key, shape in group.items()}
    empty = [key for key, info in source.signature.tensors.items() if info.shape == (0,)]
    return any(_elements(named.get(key)) != 0 for key in empty if key in named) or not named


def _elements(shape: Any) -> int | None:
    sizes = getattr(shape, "sizes", shape)
    if not isinstance(sizes, tuple | list):
        return None
    total = 1
    for size in sizes:
        total *= size if type(size) is int else 1
    return total
