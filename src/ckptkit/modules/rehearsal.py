"""What a module's own load hooks will do, found out on the meta device before anything changes.

Registered pre-hooks and overrides of `_load_from_state_dict` may rename, add or remove keys while a
model loads (`torch.nn.Module.load_state_dict` runs them from the root down). They are run here on
shapes without data, and on shadows of the modules, so that the match is made on what they leave.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import IncompatibleKeysError
from ..signatures import Signature

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rehearsal:
    """The outcome.

    Args:
        names: source key to the key under which the model's modules will look for its tensor.
        made: keys that the hooks add, with tensors of their own.
        gone: source keys that the hooks take away.
        hooked: names of modules with pre-hooks.
        overriding: (name, class) of modules that override `_load_from_state_dict`.
    """

    names: dict[str, str]
    made: tuple[str, ...]
    gone: tuple[str, ...]
    hooked: tuple[str, ...]
    overriding: tuple[tuple[str, str], ...]


def special(module: torch.nn.Module) -> bool:
    """Whether a module does anything of its own while it loads."""
    return bool(module._load_state_dict_pre_hooks) or overrides(module)


def overrides(module: torch.nn.Module) -> bool:
    """Whether its class overrides `_load_from_state_dict`."""
    import torch

    return type(module)._load_from_state_dict is not torch.nn.Module._load_from_state_dict


def rehearse(module: torch.nn.Module, source: Signature, metadata: dict[str, Any] | None) -> Rehearsal:
    """Run every hook and override on meta tensors.

    Args:
        module: the model, without wrappers; it is not changed.
        source: keys and shapes after the rules.
        metadata: the state_dict's ``_metadata``.

    Raises:
        IncompatibleKeysError: a hook refuses the checkpoint; carries its words.
    """
    names = {key: key for key in source}
    hooked = tuple(name for name, m in module.named_modules() if m._load_state_dict_pre_hooks)
    overriding = tuple((name, type(m).__name__) for name, m in module.named_modules() if overrides(m))
    if not hooked and not overriding:
        return Rehearsal(names, (), (), (), ())
    import torch

    state: OrderedDict[str, Any] = OrderedDict()
    for key, info in source.tensors.items():
        dtype = getattr(torch, info.dtype, None)
        if info.kind == "tensor" and isinstance(dtype, torch.dtype):
            state[key] = torch.empty(info.shape, dtype=dtype, device="meta")
        else:
            state[key] = object()
    if metadata is not None:
        state._metadata = metadata  # type: ignore[attr-defined]
    origin = {id(value): key for key, value in state.items()}
    before = list(state.values())  # keeps the ids alive
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch warns that copying to the meta device does nothing: so it should
        for name, each in module.named_modules(remove_duplicate=False):
            if special(each):
                _run(each, name, state, metadata)
    del before
    after = {origin[id(value)]: key for key, value in state.items() if id(value) in origin}
    made = tuple(key for key, value in state.items() if id(value) not in origin)
    gone = tuple(key for key in source if key not in after)
    return Rehearsal(after, made, gone, hooked, overriding)


def _run(
    module: torch.nn.Module, name: str, state: OrderedDict[str, Any], metadata: dict[str, Any] | None
) -> None:
    prefix = f"{name}." if name else ""
    local = dict((metadata or {}).get(name, {}))
    try:
        if overrides(module):
            _shadow(module)._load_from_state_dict(state, prefix, local, False, [], [], [])
        else:
            for hook in module._load_state_dict_pre_hooks.values():
                hook(state, prefix, local, False, [], [], [])
    except (NotImplementedError, RuntimeError) as error:
        if "meta" in str(error).lower() or isinstance(error, NotImplementedError):
            return  # it looks at data, which only the real load has; it is guarded there
        raise IncompatibleKeysError(
            f"{type(module).__name__} at {name or 'the top'!r} refuses the checkpoint while loading: {error}"
        ) from None
    except (KeyError, AttributeError, TypeError, ValueError):
        # It does not find what it wants; the match says what is missing in plainer words.
        return


def _shadow(module: torch.nn.Module) -> torch.nn.Module:
    """A stand-in with the module's attributes and meta tensors; loading into it changes nothing."""
    shadow = copy.copy(module)
    shadow._parameters = {k: _meta(v) for k, v in module._parameters.items()}
    shadow._buffers = {k: _meta(v) for k, v in module._buffers.items()}
    shadow._modules = dict(module._modules)
    return shadow


def _meta(value: Any) -> Any:
    import torch

    if value is None:
        return None
    empty = torch.empty(value.shape, dtype=value.dtype, device="meta")
    return torch.nn.Parameter(empty, requires_grad=False) if isinstance(value, torch.nn.Parameter) else empty


def recursion(module: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Modules with their key prefix, in the order in which torch loads them."""
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from recursion(child, f"{prefix}{name}.")
