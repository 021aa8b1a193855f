"""``--model MODULE:FACTORY`` or ``FILE.py:FACTORY``: build a model on the meta device, where it costs nothing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import UsageError
from .output import print_note


def build_model(spec: str) -> Any:
    """Call a class or function without arguments; the current folder is importable.

    Args:
        spec: ``package.module:factory``, or ``path/to/file.py:factory``.

    Returns:
        An `nn.Module`, on the meta device, or on the CPU when that fails.

    Raises:
        UsageError: it cannot be imported or called, or gives no `nn.Module`.
    """
    name, colon, attribute = spec.rpartition(":")
    if not colon or not name or not attribute:
        raise UsageError(
            f"--model {spec!r}: write it as PACKAGE.MODULE:FACTORY or FILE.py:FACTORY, e.g. my_project.models:build or "
            "../models.py:Net"
        )
    import torch

    with stdout_to_stderr():
        factory = _find(spec, name, attribute)
        try:
            with torch.device("meta"), _no_random_values():
                model = factory()
        except KeyboardInterrupt:
            raise
        except BaseException as first:  # the user's code may fail on meta in any way
            print_note(f"{spec} cannot be built on the meta device ({_words(first)}); building it on the CPU")
            try:
                model = factory()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # likewise
                raise UsageError(
                    f"--model {spec}: calling it failed: {_words(error)}{_arguments(error)}"
                ) from None
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"--model {spec}: gives a {type(model).__name__}, not an nn.Module")
    return model


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """While the user's code runs, nothing it prints gets into the result, whichever way it prints."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):  # closed, or no real file behind it
        kept = -1
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


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


def _arguments(error: BaseException) -> str:
    wants = isinstance(error, TypeError) and "required" in str(error)
    return (
        "; it is called without arguments: write a function that gives them, and name that" if wants else ""
    )


def _find(spec: str, name: str, attribute: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    by_path = name.endswith(".py") or os.sep in name
    if by_path and not os.path.isfile(name):
        with_suffix = f"; did you mean {name}.py:{attribute}?" if os.path.isfile(f"{name}.py") else ""
        raise UsageError(f"--model {spec}: there is no file {name}{with_suffix}")
    try:
        found: Any = _from_file(name) if by_path else importlib.import_module(name)
    except ModuleNotFoundError as error:
        where = os.path.dirname(os.path.abspath(name)) if by_path else folder
        file = (
            ""
            if by_path
            else f"; a file elsewhere is given as FOLDER/{name.replace('.', '/')}.py:{attribute}"
        )
        raise UsageError(
            f"--model {spec}: no module named {error.name!r} (looked in {where} too){file}"
        ) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module is the user's code
        raise UsageError(
            f"--model {spec}: importing {name} failed: {_words(error)}{_in_package(error)}"
        ) from None
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"--model {spec}: {name} has no {attribute!r}; check the name") from None
        except Exception as error:  # a module's own __getattr__
            raise UsageError(f"--model {spec}: {name}.{part} cannot be had: {_words(error)}") from None
    if not callable(found):
        raise UsageError(
            f"--model {spec}: {attribute!r} is a value of type {type(found).__name__}; name a class or a function"
        )
    return found


def _from_file(path: str) -> Any:
    """The module in a file, as ``python FILE`` has it: what lies beside it is importable."""
    beside, file = os.path.split(os.path.abspath(path))
    if beside not in sys.path:
        sys.path.insert(0, beside)
    name = file.removesuffix(".py")
    if name in sys.modules:
        name = f"_model_in_{name}"
    spec = importlib.util.spec_from_file_location(name, os.path.join(beside, file))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles look for it
    spec.loader.exec_module(module)
    return module


def _in_package(error: BaseException) -> str:
    if isinstance(error, ImportError) and "relative import" in str(error):
        return (
            "; it is part of a package: write PACKAGE.MODULE:FACTORY, from the folder that holds the package"
        )
    return ""


def _words(error: BaseException) -> str:
    try:
        lines = str(error).splitlines()
    except Exception:  # an exception of the user's whose text cannot be made
        lines = []
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
