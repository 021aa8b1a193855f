"""A live module as the target of a load: its keys, its ties, and the wrappers around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checkpoint import Checkpoint
from ..errors import UsageError
from ..formats.memory import MemorySource
from ..formats.module_tree import check_tree
from ..signatures import Signature
from ..text import quote_list
from .walking import expected_state

if TYPE_CHECKING:
    import torch

# Wrappers keep the module they wrap under one attribute, which shows up in every key.
_INNER = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
}


@dataclass(frozen=True)
class Target:
    """A module to load into.

    Args:
        module: without its wrappers.
        signature: the keys that a load looks for: parameters, persistent buffers, extra state; ties by identity.
        state: the same keys with the parameters and buffers themselves.
        what: its class, for messages.
        wrapped: what stands before the keys of a checkpoint that was saved from the model with its wrappers, or
            with the inner ones of them: ``module._orig_mod.``, ``_orig_mod.``.
    """

    module: torch.nn.Module
    signature: Signature
    state: Mapping[str, Any]
    what: str
    wrapped: tuple[str, ...] = ()


def unwrap(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile, however they nest."""
    return _unwrapped(module)[0]


def _unwrapped(module: torch.nn.Module) -> tuple[torch.nn.Module, list[str]]:
    """The module inside, and the attributes that lead to it."""
    path = []
    while (attribute := _INNER.get(type(module).__name__)) is not None and hasattr(module, attribute):
        path.append(attribute)
        module = getattr(module, attribute)
    return module, path


def describe(model: torch.nn.Module) -> Target:
    """Look at a module without changing it.

    Raises:
        UsageError: it is no module, torch cannot walk its modules, or it has lazily initialised parameters, whose
            shapes nobody knows yet; names the modules.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"a checkpoint is loaded into an nn.Module, not a value of type {type(model).__name__}"
        )
    module, path = _unwrapped(model)
    check_tree(module)
    lazy = [
        name
        for name, value in [*module.named_parameters(), *module.named_buffers()]
        if torch.nn.parameter.is_lazy(value)
    ]
    if lazy:
        raise UsageError(
            f"{type(module).__name__} is not initialised yet: {quote_list(lazy)} have no shape; "
            "run the model once on an example (lazy modules learn their shapes then), and try again after that"
        )
    state = expected_state(module)
    source = MemorySource(state)
    wrapped = tuple("".join(f"{name}." for name in path[start:]) for start in range(len(path)))
    return Target(module, source.signature, state, type(module).__name__, wrapped)


def target_signature(target: Any) -> Signature | None:
    """The signature of a target that is no live module; None for a module."""
    if isinstance(target, Signature):
        return target
    if isinstance(target, Checkpoint):
        return target.signature
    return None
