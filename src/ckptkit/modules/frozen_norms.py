"""Norm layers that stay in evaluation mode, whatever ``model.train()`` says, until they are released.

``nn.Module.train`` calls ``child.train(mode)`` on every child, so an attribute ``train`` on one instance decides for
that instance alone: no class is patched, its type and its state_dict keys stay what they were, and nothing of it lies
in ``forward``, where ``torch.compile`` would have to trace it. The attribute lives in the instance's ``__dict__``, and
so goes wherever deepcopy and pickle take the instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class HeldInEval:
    """Stands in the place of a module's ``train`` method.

    A bound function cannot: pickle would look it up on the class by its name. This object is pickled as data, and
    its reference to the module becomes one to the copy.

    Args:
        module: the one whose ``train`` it replaces.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.mode = module.training
        self.before: Callable[[bool], Any] | None = vars(module).get("train")

    def __call__(self, mode: bool = True) -> torch.nn.Module:
        """Note the mode for later, pass it on to the module's children, and stay in evaluation mode."""
        if self.before is not None:
            self.before(mode)
        else:
            type(self.module).train(self.module, mode)
        self.mode = mode
        self.module.training = False
        return self.module


def is_held(module: torch.nn.Module) -> bool:
    """Whether `hold` keeps the module in evaluation mode."""
    return isinstance(vars(module).get("train"), HeldInEval)


def hold(module: torch.nn.Module) -> None:
    """Keep a module in evaluation mode; its children follow ``train()`` as before. Holding twice is holding once."""
    if not is_held(module):
        vars(module)["train"] = HeldInEval(module)
        module.training = False


def release(module: torch.nn.Module) -> None:
    """Undo `hold`: the module takes the mode it was last asked for, and follows ``train()`` again."""
    held = vars(module).get("train")
    if not isinstance(held, HeldInEval):
        return
    if held.before is None:
        del vars(module)["train"]
    else:
        vars(module)["train"] = held.before
    module.training = held.mode


def has_statistics(module: torch.nn.Module) -> bool:
    """Whether a module is a norm layer with statistics that training mode updates.

    By structure, so that norm layers of other libraries count: a buffer of its own called ``running_*`` as torch
    calls them, or buffers in a class without children whose name, or a base's, says that it is a norm (spectral
    norm keeps its vectors so). LayerNorm and its like have no buffers, and behave alike in both modes.
    """
    own = [name for name, _ in module.named_buffers(recurse=False)]
    if any(name.startswith("running_") for name in own):
        return True
    names = [cls.__name__.lower() for cls in type(module).__mro__ if cls.__module__ != "builtins"]
    return bool(own) and not any(module.children()) and any("norm" in name for name in names)
