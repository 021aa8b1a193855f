"""Optimizer states beside the weights of a torch file: where they are, and what they say of their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import OptimizerState
from .pickled import TensorNode
from .torch_places import place, walk

Shape = tuple[int, ...]
# What the optimizers of torch keep in the shape of the parameter itself.
_MOMENTS = (
    "exp_avg",
    "exp_avg_sq",
    "momentum_buffer",
    "square_avg",
    "sum",
    "acc_delta",
    "exp_inf",
    "step_size",
)


def optimizer_states(tree: Any, root: dict[Any, Any]) -> Iterator[OptimizerState]:
    """Every optimizer's state in a tree, in lists too; what lies in the root is not looked at.

    Args:
        tree: what a torch file's pickle describes.
        root: the dictionary of the weights in it.
    """
    stack: list[tuple[tuple[Any, ...], Any]] = [((), tree)]
    seen: set[int] = set()
    while stack:
        path, node = stack.pop()
        if id(node) in seen or node is root:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            if isinstance(node.get("state"), dict) and isinstance(node.get("param_groups"), list):
                yield _described(place(path), node["state"], node["param_groups"])
                continue
            if _called_optimizer(path) and any(type(value) is TensorNode for value in node.values()):
                yield OptimizerState(place(path), frozenset(_names(node)))
                continue
            inner = [((*path, key), value) for key, value in node.items()]
        elif isinstance(node, list | tuple):
            inner = [((*path, number), value) for number, value in enumerate(node)]
        else:
            continue
        stack.extend(reversed(inner))


def _called_optimizer(path: tuple[Any, ...]) -> bool:
    return any("optim" in part.lower() for part in path if type(part) is str)


def _names(node: dict[Any, Any]) -> Iterator[str]:
    """What could name a parameter: `name`, or the flattened `state.name.exp_avg`."""
    for key in node:
        if type(key) is str:
            yield key
            yield key.partition(".")[2].rpartition(".")[0]
            yield key.rpartition(".")[0]


def _described(where: str, state: dict[Any, Any], groups: list[Any]) -> OptimizerState:
    held = [
        group["params"]
        for group in groups
        if isinstance(group, dict) and isinstance(group.get("params"), list)
    ]
    ids = [each for params in held for each in params]
    names = frozenset(each for each in (*ids, *state) if type(each) is str)
    shapes = [_shape(state.get(each)) for each in ids if type(each) in (int, str)]
    known = tuple(shape for shape in shapes if shape is not None)
    return OptimizerState(
        where,
        names,
        len(ids) if len(held) == len(groups) else None,
        known if len(known) == len(ids) else None,
    )


def _shape(entry: Any) -> Shape | None:
    if not isinstance(entry, dict):
        return None
    moments = (entry.get(name) for name in _MOMENTS)
    return next(
        (tuple(part.size) for value in moments for part in walk(value) if type(part) is TensorNode), None
    )
