"""A module tree as torch loads it: in which order, and which modules do something of their own meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EXTRA = "_extra_state"  # torch.nn.modules.module._EXTRA_STATE_KEY_SUFFIX


def recursion(module: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Modules with their key prefix, in the order in which torch loads them."""
    waiting = [(prefix, module)]
    while waiting:
        path, here = waiting.pop()
        yield path, here
        below = [(f"{path}{name}.", child) for name, child in here._modules.items() if child is not None]
        waiting += reversed(below)


def special(module: torch.nn.Module) -> bool:
    """Whether a module runs code of its own while it loads."""
    return bool(module._load_state_dict_pre_hooks) or own_way(module)


def own_way(module: torch.nn.Module) -> bool:
    """Whether the copying itself may do more than to copy."""
    return overrides(module) or sets_extra(module)


def overrides(module: torch.nn.Module) -> bool:
    """Whether its class overrides `_load_from_state_dict`."""
    import torch

    return type(module)._load_from_state_dict is not torch.nn.Module._load_from_state_dict


def sets_extra(module: torch.nn.Module) -> bool:
    """Whether its class takes an extra state."""
    import torch

    return type(module).set_extra_state is not torch.nn.Module.set_extra_state


def runs_foreign_code(modules: Iterable[torch.nn.Module], tensors: Iterable[Any]) -> bool:
    """Whether a load of these modules runs code that is neither torch's nor ckptkit's, and may do anything.

    Args:
        modules: all of a model.
        tensors: what is filled; subclasses may bring code of their own.
    """
    code: list[Any] = []
    for module in modules:
        hooks = (*module._load_state_dict_pre_hooks.values(), *module._load_state_dict_post_hooks.values())
        code += [getattr(hook, "hook", hook) for hook in hooks]
        code += [type(module)._load_from_state_dict, type(module).set_extra_state]
    return not all(map(_known, (*code, *map(type, tensors))))


def _known(code: Any) -> bool:
    room = getattr(code, "__module__", None) or ""
    return room.partition(".")[0] in ("torch", "ckptkit", "builtins")


def expected_state(module: torch.nn.Module) -> dict[str, Any]:
    """The keys that a load looks for, with the parameters and buffers themselves.

    `state_dict()` would be another list where state_dict hooks rename keys on the way out, and would run
    every `get_extra_state`. Extra states stand here as objects of no meaning.
    """
    state: dict[str, Any] = {}
    for prefix, each in recursion(module):
        state |= _saved(each, prefix) or _own(each, prefix)
        if sets_extra(each):
            state[prefix + EXTRA] = object()
    return state


def _own(module: torch.nn.Module, prefix: str) -> dict[str, Any]:
    kept: list[tuple[str, Any]] = [*module._parameters.items()]
    kept += [(k, v) for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set]
    return {prefix + name: value for name, value in kept if value is not None}


def _saved(module: torch.nn.Module, prefix: str) -> dict[str, Any] | None:
    """What a class that saves in its own way saves; None for all others."""
    import torch

    if type(module)._save_to_state_dict is torch.nn.Module._save_to_state_dict:
        return None
    own: OrderedDict[str, Any] = OrderedDict()
    try:
        module._save_to_state_dict(own, prefix, True)
    except Exception:
        return None  # it cannot be saved as it is now; its parameters are what is known
    own.pop(prefix + EXTRA, None)
    return own
