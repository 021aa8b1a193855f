"""What a freeze or an unfreeze changes of a model, put back when it cannot be finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import CkptkitError, UsageError

if TYPE_CHECKING:
    import torch

# What freeze did to one module, in the module's own __dict__, so that copies know it too: plain data.
RECORD = "_ckptkit_frozen"
_ENTRIES = (RECORD, "train")


@contextmanager
def all_or_nothing(modules: Iterable[torch.nn.Module], tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """Put back what was changed of modules and tensors when anything stops the work; signals wait meanwhile (`Held`).

    Args:
        modules: their record, ``train`` and mode may change.
        tensors: their ``requires_grad`` and ``grad`` may change.

    Raises:
        UsageError: a tensor refused; says so where one cannot be put back either.
    """
    modes = [
        (each, each.training, {name: vars(each)[name] for name in _ENTRIES if name in vars(each)})
        for each in modules
    ]
    grads = [(each, each.requires_grad, each.grad if each.is_leaf else None) for each in tensors]
    try:
        yield
    except BaseException as error:
        stuck = _put_back(modes, grads)
        if stuck:
            raise UsageError(
                f"stopped by {_told(error)}, and {stuck} tensor{'' if stuck == 1 else 's'} of {len(grads)} could not be "
                "put back to the requires_grad of before; build the model anew"
            ) from error
        if isinstance(error, CkptkitError) or not isinstance(error, Exception):
            raise
        raise UsageError(
            f"what trains could not be changed ({_told(error)}), and the model is as it was; where a parameter refuses "
            "requires_grad_, leave it out by its pattern, or make it an ordinary parameter first"
        ) from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _put_back(
    modes: list[tuple[torch.nn.Module, bool, dict[str, Any]]],
    grads: list[tuple[torch.Tensor, bool, torch.Tensor | None]],
) -> int:
    """How many tensors could not be put back."""
    stuck = 0
    for tensor, trained, grad in grads:
        try:
            if tensor.requires_grad != trained:
                tensor.requires_grad_(trained)
            if tensor.is_leaf and tensor.grad is not grad:
                tensor.grad = grad
        except Exception:
            stuck += 1
    for module, training, entries in modes:
        for name in _ENTRIES:
            vars(module).pop(name, None)
        vars(module).update(entries)
        module.training = training
    return stuck
