"""Stand-ins for the modules of a model, on which load hooks are tried out: nothing that they do reaches the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import CellType, MethodType
from typing import TYPE_CHECKING, Any, cast

from .walking import overrides, own_way, recursion

if TYPE_CHECKING:
    import torch

_FEW = 1 << 10  # elements: counters, versions and scales, at which hooks look


class Shadows:
    """A tree of modules like that of a model: same classes and attributes, own tables, tensors without data.

    Of modules that copy as torch does, small tensors have their values, since hooks may look at them. Hooks that are
    methods of the model's modules, or are given one, get its stand-in.

    Args:
        root: the model; it is not changed.

    Attributes:
        known_to_hooks: whether a hook holds on to modules or tensors by other ways, which may be the model's own.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        self.known_to_hooks = False
        modules = {id(module): module for _, module in recursion(root)}
        self._of = {number: _bare(module) for number, module in modules.items()}
        for number, module in modules.items():
            if (shadow := self._of[number]) is not module:
                self._furnish(module, shadow)

    def of(self, module: torch.nn.Module) -> torch.nn.Module:
        """The stand-in of a module of the model."""
        return self._of[id(module)]

    def _furnish(self, module: torch.nn.Module, shadow: torch.nn.Module) -> None:
        fields: dict[str, Any] = {
            name: value.copy() if type(value) in (dict, OrderedDict, list, set) else value
            for name, value in module.__dict__.items()
        }
        few = -1 if overrides(module) else _FEW
        for table in ("_parameters", "_buffers"):
            fields[table] = {k: _stand_in(v, few) for k, v in module.__dict__[table].items()}
        fields["_modules"] = {k: self._of.get(id(v), v) for k, v in module._modules.items()}
        fields["_load_state_dict_pre_hooks"] = OrderedDict(
            (number, self._rebound(hook, shadow))
            for number, hook in module._load_state_dict_pre_hooks.items()
        )
        if own_way(module):
            fields["set_extra_state"] = lambda state: None  # it may reach what both share
        shadow.__dict__.update(fields)

    def _rebound(self, hook: Any, shadow: torch.nn.Module) -> Callable[..., Any]:
        """A hook of torch's table, as a function of what torch gives to it, that sees the stand-in."""
        own = getattr(hook, "hook", hook)
        if isinstance(own, MethodType) and id(own.__self__) in self._of:
            own = MethodType(own.__func__, self._of[id(own.__self__)])
        elif any(map(_of_a_model, _held_by(own))):
            self.known_to_hooks = True
        if getattr(hook, "with_module", False):
            return lambda *arguments: own(shadow, *arguments)
        return cast(Callable[..., Any], own)


def _held_by(hook: Any) -> list[Any]:
    """What a function, a method, a partial call or a callable object holds on to."""
    if isinstance(hook, partial):
        return [*_held_by(hook.func), *hook.args, *hook.keywords.values()]
    if isinstance(hook, MethodType):
        return [hook.__self__, *vars(hook.__self__).values()] if hasattr(hook.__self__, "__dict__") else []
    held = [*getattr(hook, "__dict__", {}).values(), *(getattr(hook, "__defaults__", None) or ())]
    cells = getattr(hook, "__closure__", None) or ()
    return [*held, *(cell.cell_contents for cell in cells if cell != _EMPTY)]


_EMPTY = CellType()


def _of_a_model(value: Any) -> bool:
    import torch

    inside = (
        (*value.values(),) if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    )
    return any(isinstance(each, torch.nn.Module | torch.Tensor) for each in (value, *inside))


def _bare(module: torch.nn.Module) -> torch.nn.Module:
    """An instance of its class without any attribute; itself where its tables are no attributes (TorchScript)."""
    if "_parameters" not in module.__dict__:
        return module
    bare: torch.nn.Module = object.__new__(type(module))
    return bare


def _stand_in(value: Any, few: int) -> Any:
    import torch

    if value is None:
        return None
    if value.numel() <= few and not value.is_meta and type(value.data) is torch.Tensor:
        like = value.detach().clone()
    else:
        like = torch.empty(value.shape, dtype=value.dtype, device="meta")
    return torch.nn.Parameter(like, requires_grad=False) if isinstance(value, torch.nn.Parameter) else like
