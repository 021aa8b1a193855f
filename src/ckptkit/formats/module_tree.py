"""A live module's tree and its state_dict: what torch cannot walk is refused, and a hook that fails is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import CkptkitError, IncompatibleKeysError, UsageError
from ..text import quoted

if TYPE_CHECKING:
    import torch

BESIDE = 100  # calls that are left for what torch and hooks call at the lowest module


class HookError(IncompatibleKeysError):
    """Code of the model itself that failed; its own error is the cause."""


def check_tree(module: torch.nn.Module) -> None:
    """Refuse a tree that torch itself cannot walk.

    Raises:
        UsageError: a module holds itself, or they are nested too deeply; names the place.
    """
    allowed = levels()
    heights: dict[int, int] = {}
    path = [("", module, iter(module._modules.items()))]
    tallest = [0]
    places = {id(module): 0}
    while path:
        name, here, children = path[-1]
        for name, child in children:
            if child is None:
                continue
            if id(child) in places:
                raise _cycle([each for each, _, _ in path[1:]], name, child, places[id(child)])
            if id(child) not in heights:
                if len(path) > allowed:
                    raise _too_deep(module, allowed)
                places[id(child)] = len(path)
                path.append((name, child, iter(child._modules.items())))
                tallest.append(0)
                break
            tallest[-1] = max(tallest[-1], 1 + heights[id(child)])
            if len(path) + heights[id(child)] > allowed:
                raise _too_deep(module, allowed)
        else:
            path.pop()
            heights[id(here)] = height = tallest.pop()
            del places[id(here)]
            if tallest:
                tallest[-1] = max(tallest[-1], 1 + height)


def _cycle(names: list[str], name: str, child: torch.nn.Module, place: int) -> UsageError:
    where, again = ".".join([*names, name]), ".".join(names[:place])
    return UsageError(
        f"{quoted(where)} is {_place(again)} again ({type(child).__name__}): torch can neither save nor load a module that "
        "holds itself; keep the way back out of the modules, in a list or set by object.__setattr__"
    )


def _place(path: str) -> str:
    return f"the module {quoted(path)}" if path else "the model itself"


def _too_deep(module: torch.nn.Module, allowed: int) -> UsageError:
    return UsageError(
        f"{type(module).__name__} has modules in modules on more than {allowed} levels, which torch cannot walk; put them "
        "side by side, in a ModuleList, or allow more calls in calls with sys.setrecursionlimit"
    )


def levels() -> int:
    """How many levels of modules torch can walk from here: by calls in calls, of which Python allows so many."""
    used, frame = 0, sys._getframe()
    while (above := frame.f_back) is not None:
        used, frame = used + 1, above
    return max(0, sys.getrecursionlimit() - used - BESIDE)


@contextmanager
def running(
    hook: Any, module: torch.nn.Module, prefix: str, *, but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Say whose code it was that failed.

    Args:
        hook: the user's function, or its name.
        module, prefix: the module that runs it, and the prefix of its keys.
        but: errors that pass as they are.

    Raises:
        HookError: it raised anything but an error of ours; the cause is kept.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (CkptkitError, *but)):
            raise
        raise failed(_name(hook), module, prefix, error) from error


def failed(what: str, module: torch.nn.Module, prefix: str, error: Exception) -> HookError:
    """The error for a user's code that raised one."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = _place(prefix.rstrip(".")).removeprefix("the module ")
    return HookError(
        f"{what} of {type(module).__name__} at {where} failed: {told}; it is the model's own code: repair it, or remove it "
        "and try again"
    )


def _name(hook: Any) -> str:
    if isinstance(hook, str):
        return hook
    name: str = getattr(hook, "__qualname__", None) or type(hook).__qualname__
    return f"the hook {name.rpartition('<locals>.')[2]}"


def saved_state(module: torch.nn.Module, *, keep_vars: bool) -> Mapping[str, Any]:
    """`module.state_dict()`.

    Args:
        module: or what has such a method, too.
        keep_vars: as torch takes it: the parameters themselves instead of detached ones.

    Raises:
        UsageError: the tree of modules has a cycle, or too many levels.
        HookError: a state_dict hook or another part of the module's own code failed; names it.
    """
    import torch

    if isinstance(module, torch.nn.Module):
        check_tree(module)
    try:
        state: Mapping[str, Any] = module.state_dict(keep_vars=keep_vars)
    except CkptkitError:
        raise
    except Exception as error:
        raise _located(module, error) from error
    return state


def _located(module: torch.nn.Module, error: Exception) -> HookError:
    """Which module was at work, and in which function of its own, by torch's frames in the traceback."""
    import torch

    walk = torch.nn.Module.state_dict.__code__
    owner, prefix, what = module, "", "state_dict"
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code is walk:
            owner = trace.tb_frame.f_locals.get("self", owner)
            prefix = trace.tb_frame.f_locals.get("prefix", prefix)
            what = ""
        elif not what and code.co_filename != walk.co_filename:
            what = code.co_qualname.rpartition("<locals>.")[2]
        trace = trace.tb_next
    return failed(f"the state_dict hook or method {what}" if what else "state_dict", owner, prefix, error)
