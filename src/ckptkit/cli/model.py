"""``--model PACKAGE.MODULE:FACTORY``: build a model on the meta device, where it costs nothing."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

from ..errors import UsageError
from .output import print_note


def build_model(spec: str) -> Any:
    """Call a class or function without arguments; the current folder is importable.

    Args:
        spec: ``package.module:factory``.

    Returns:
        An `nn.Module`, on the meta device, or on the CPU when that fails.

    Raises:
        UsageError: it cannot be imported or called, or gives no `nn.Module`.
    """
    name, colon, attribute = spec.partition(":")
    if not colon or not name or not attribute:
        raise UsageError(
            f"--model {spec!r}: write it as PACKAGE.MODULE:FACTORY, e.g. my_project.models:build"
        )
    import torch

    # What the user's code prints must not get into the result.
    with contextlib.redirect_stdout(sys.stderr):
        factory = _find(spec, name, attribute)
        try:
            with torch.device("meta"), _no_random_values():
                model = factory()
        except (Exception, SystemExit) as first:  # the user's code may fail on meta in any way
            print_note(f"{spec} cannot be built on the meta device ({_words(first)}); building it on the CPU")
            try:
                model = factory()
            except (Exception, SystemExit) as error:  # likewise
                raise UsageError(f"--model {spec}: calling it failed: {_words(error)}") from None
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"--model {spec}: gives a {type(model).__name__}, not an nn.Module")
    return model


def _no_random_values() -> contextlib.AbstractContextManager[Any]:
    """Initialisation does nothing on the meta device, but the first random number there makes torch import its
    compiler, which takes longer than building a large model does.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    names = (
        "normal_",
        "uniform_",
        "exponential_",
        "cauchy_",
        "log_normal_",
        "geometric_",
        "bernoulli_",
        "random_",
    )
    random = {getattr(torch.Tensor, name) for name in names}

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            arguments = kwargs or {}
            if func in random or getattr(func, "__module__", "") == "torch.nn.init":
                tensor = args[0] if args else arguments.get("tensor")
                if getattr(tensor, "is_meta", False):
                    return tensor
            return func(*args, **arguments)

    return Mode()


def _find(spec: str, name: str, attribute: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"--model {spec}: no module named {error.name!r} (looked in {folder} too)") from None
    except (Exception, SystemExit) as error:  # the module is the user's code
        raise UsageError(f"--model {spec}: importing {name} failed: {_words(error)}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"--model {spec}: {name} has no {attribute!r}; check the name")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"--model {spec}: {attribute!r} is a {type(found).__name__}; name a class or a function"
        )
    return found


def _words(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
