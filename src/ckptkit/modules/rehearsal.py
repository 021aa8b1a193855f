"""What a module's own load hooks will do, found out on the meta device before anything changes.

Registered pre-hooks and overrides of `_load_from_state_dict` may rename, add or remove keys, give buffers
another shape, or refuse while a model loads (`torch.nn.Module.load_state_dict` runs them from the root
down). They are run here on stand-ins of the modules (`shadows.py`) and on shapes without data (single numbers
have theirs: hooks look at versions and counters), so that the match is made on what they leave.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import CkptkitError, IncompatibleKeysError
from ..formats.base import Source
from ..formats.module_tree import failed, running
from ..signatures import TensorInfo
from .keeping import Kept
from .shadows import Shadows
from .walking import overrides, recursion, special

if TYPE_CHECKING:
    import torch


@dataclass
class Rehearsal:
    """The outcome.

    Args:
        names: source key to the key under which the model's modules will look for its tensor.
        made: keys that the hooks add, with the shapes of their own tensors.
        hooked: names of modules with pre-hooks.
        overriding: (name, class) of modules that override `_load_from_state_dict`.
        reshaped: target keys that take another shape while they load, with that shape.
        forgiven: target keys whose module is content without them.
        missing, unexpected, refusals: what hooks and overrides report of themselves.
    """

    names: dict[str, str]
    made: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    hooked: tuple[str, ...] = ()
    overriding: tuple[tuple[str, str], ...] = ()
    reshaped: dict[str, TensorInfo] = field(default_factory=dict)
    forgiven: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def rehearse(module: torch.nn.Module, source: Source, metadata: dict[str, Any] | None) -> Rehearsal:
    """Run every hook and override on meta tensors.

    Args:
        module: the model, without wrappers; it is not changed.
        source: keys and shapes after the rules.
        metadata: the state_dict's ``_metadata``.

    Raises:
        IncompatibleKeysError: a hook refuses the checkpoint; carries its words.
    """
    result = Rehearsal({key: key for key in source.signature})
    result.hooked = tuple(name for name, m in module.named_modules() if m._load_state_dict_pre_hooks)
    result.overriding = tuple((name, type(m).__name__) for name, m in module.named_modules() if overrides(m))
    if not result.hooked and not result.overriding:
        return result
    state: OrderedDict[str, Any] = OrderedDict((key, _stand_in(source, key)) for key in source.signature)
    if metadata is not None:
        metadata = dict(metadata)  # hooks may change it
        state._metadata = metadata  # type: ignore[attr-defined]
    origin = {id(value): key for key, value in state.items()}
    before = list(state.values())  # keeps the ids alive
    shadows = Shadows(module)
    # Where a hook knows the model by itself, the model is put back; not else, since others may be loading it.
    kept = Kept(module) if shadows.known_to_hooks else None
    if kept is not None:
        kept.copy()
    try:
        with warnings.catch_warnings():
            # torch warns that copying to the meta device does nothing: so it should.
            warnings.simplefilter("ignore")
            for prefix, each in recursion(module):
                if special(each):
                    local = dict((metadata or {}).get(prefix[:-1], {}))
                    _run(each, shadows.of(each), prefix, state, local, result)
    finally:
        if kept is not None:
            kept.restore()
    del before
    result.names = {origin[id(value)]: key for key, value in state.items() if id(value) in origin}
    result.made = {key: _shape(value) for key, value in state.items() if id(value) not in origin}
    result.forgiven |= _taken(module, source, result)
    return result


def _taken(module: torch.nn.Module, source: Source, result: Rehearsal) -> set[str]:
    """Keys that modules of their own ways have taken out of the state: what they save beside parameters and buffers."""
    ways = {prefix: each for prefix, each in recursion(module) if overrides(each)}
    gone = [key for key in source.signature if key not in result.names and key not in result.missing]
    taken = set()
    for key in gone:
        head, dot, name = key.rpartition(".")
        owner = ways.get(head + dot)
        if owner is not None and name not in owner._parameters and name not in owner._buffers:
            taken.add(key)
    return taken


def _stand_in(source: Source, key: str) -> Any:
    """A tensor without data; the real one where it is a single number."""
    import torch

    info = source.signature[key]
    dtype = getattr(torch, info.dtype, None)
    if info.kind != "tensor" or not isinstance(dtype, torch.dtype):
        return object()
    if info.numel == 1:
        try:
            return source.loaded(key).clone()
        except (CkptkitError, RuntimeError):
            pass  # a signature without data, or a tensor that cannot be read: the load will say so
    return torch.empty(info.shape, dtype=dtype, device="meta")


# What a hook raises that looks at data, or does not find what it wants.
_LOOKED = (NotImplementedError, RuntimeError, KeyError, AttributeError, TypeError, ValueError, IndexError)


def _run(
    module: torch.nn.Module,
    shadow: torch.nn.Module,
    prefix: str,
    state: OrderedDict[str, Any],
    local: dict[str, Any],
    result: Rehearsal,
) -> None:
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []
    where = prefix[:-1] or "the top"
    try:
        if overrides(module):
            # torch asks strictly here, always; what is permitted is decided above.
            shadow._load_from_state_dict(state, prefix, local, True, missing, unexpected, errors)
        else:
            for number, hook in shadow._load_state_dict_pre_hooks.items():
                with running(module._load_state_dict_pre_hooks[number], module, prefix, but=_LOOKED):
                    hook(state, prefix, local, True, missing, unexpected, errors)
    except IncompatibleKeysError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        if "meta" in str(error).lower() or isinstance(error, NotImplementedError):
            return  # it looks at data, which only the real load has; it is guarded there
        raise IncompatibleKeysError(
            f"{type(module).__name__} at {where!r} refuses the checkpoint while loading: {error}"
        ) from error
    except (KeyError, AttributeError, TypeError, ValueError, IndexError):
        # It does not find what it wants; the match says what is missing in plainer words.
        return
    except Exception as error:
        raise failed("_load_from_state_dict", module, prefix, error) from error
    finally:
        result.reshaped |= _reshaped(shadow, module, prefix)
    _take_down(module, prefix, state, (missing, unexpected, errors), result)


def _take_down(
    module: torch.nn.Module,
    prefix: str,
    state: OrderedDict[str, Any],
    said: tuple[list[str], list[str], list[str]],
    result: Rehearsal,
) -> None:
    """What the module reports, without what stock code says of its own keys."""
    missing, unexpected, errors = said
    own = {prefix + name for name in (*module._parameters, *module._buffers)}
    if overrides(module):
        result.forgiven |= {key for key in own if key not in state and key not in missing}
    result.missing += [key for key in missing if key not in own]
    result.unexpected += [key for key in unexpected if key not in state]
    result.refusals += [
        f"{type(module).__name__} at {prefix[:-1] or 'the top'!r} refuses the checkpoint: {text}"
        for text in errors
        if "size mismatch" not in text
    ]


def _reshaped(shadow: torch.nn.Module, module: torch.nn.Module, prefix: str) -> dict[str, TensorInfo]:
    """Parameters and buffers that have another shape now than in the model."""
    found = {}
    for table in ("_parameters", "_buffers"):
        for name, value in getattr(shadow, table).items():
            old = getattr(module, table).get(name)
            if value is not None and old is not None and value.shape != old.shape:
                dtype = str(old.dtype).removeprefix("torch.")
                found[prefix + name] = TensorInfo(tuple(value.shape), dtype)
    return found


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None
