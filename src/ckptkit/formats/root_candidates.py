"""What in a tree could hold the weights: dictionaries of which at least half of the values are tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import RootError
from .described.numpy_values import SCALAR
from .pickled import Opaque, TensorNode, parts

Path = tuple[Any, ...]
MAX_NAMES = 1 << 24  # characters of the paths that are offered, together
LONG_NAME = 1 << 12
IsTensor = Callable[[Any], bool]
_EMA = frozenset(["ema", "swa", "shadow", "averaged", "polyak"])
OPTIMIZER = frozenset(
    ["optimizer", "optimizers", "optim", "optims", "opt", "opts", "scheduler", "schedulers", "scaler"]
)
# Words that say "the weights" without saying of what; they break ties.
GENERIC = frozenset(
    [
        "state_dict",
        "model_state_dict",
        "model_state",
        "model",
        "model_dict",
        "model_weights",
        "module",
        "net",
        "network",
        "net_state_dict",
        "weights",
        "weight",
        "params",
        "parameters",
        "state",
    ]
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dictionary that could be the root.

    Args:
        path: the keys that lead to it.
        node: the dictionary.
        kind: ``weights``, ``ema`` or ``optimizer``.
        tensors: how many of its values are tensors.
        listed: whether the way to it leads through a list.
        arrays: whether its tensors are arrays of numpy.
    """

    path: Path
    node: dict[Any, Any]
    kind: str
    tensors: int
    listed: bool = False
    arrays: bool = False

    @property
    def generic(self) -> bool:
        """Whether its name says "the weights" and not of what."""
        return bool(self.path) and self.path[-1] in GENERIC


def dotted(path: Path) -> str:
    """A path as it is written in configs and messages."""
    return ".".join(part.label if type(part) is Opaque else str(part) for part in path)


def is_described(value: Any) -> bool:
    return type(value) is TensorNode and value.origin != SCALAR


def has_parts(node: Any) -> bool:
    return isinstance(node, dict) or type(node) is list or type(node) is tuple


def candidates(tree: Any, is_tensor: IsTensor, file: str) -> Iterator[Candidate]:
    named = 0
    for candidate in _dictionaries(tree, is_tensor):
        named += sum(len(part) if type(part) is str else 8 for part in candidate.path)
        if named > MAX_NAMES:
            raise RootError(
                f"{file}: the names of its dictionaries of tensors take more than {MAX_NAMES} characters; save the "
                "state_dict by itself where the file was made",
                file=file,
            )
        yield candidate


def _dictionaries(tree: Any, is_tensor: IsTensor) -> Iterator[Candidate]:
    known: dict[Any, frozenset[str]] = {}
    stack: list[tuple[Path, Any, bool]] = [((), tree, False)]
    seen: set[int] = set()
    while stack:
        path, node, listed = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, dict):
            items = [((*path, number), value, True) for number, value in enumerate(node) if has_parts(value)]
            stack.extend(reversed(items))
            continue
        if "state" in node and isinstance(node.get("param_groups"), list):
            yield Candidate(path, node, "optimizer", count(node, is_tensor, set()), listed)
            continue
        tensors = sum(1 for value in node.values() if is_tensor(value))
        if tensors and 2 * tensors >= len(node):
            arrays = all(getattr(value, "origin", "") for value in node.values() if is_tensor(value))
            yield Candidate(path, node, kind_of(path, known), tensors, listed, arrays)
        inner = [((*path, key), value, listed) for key, value in node.items() if has_parts(value)]
        stack.extend(reversed(inner))


def kind_of(path: Path, known: dict[Any, frozenset[str]]) -> str:
    words: set[str] = set()
    for part in path:
        if part not in known:
            spelled = dotted((part,)).lower()[:LONG_NAME]
            known[part] = frozenset(re.split(r"[^a-z0-9]+", spelled)) & (OPTIMIZER | _EMA)
        words |= known[part]
    return "optimizer" if words & OPTIMIZER else "ema" if words & _EMA else "weights"


def count(node: Any, is_tensor: IsTensor, seen: set[int]) -> int:
    total, stack = 0, [node]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        total += is_tensor(part)
        stack.extend(parts(part))
    return total
