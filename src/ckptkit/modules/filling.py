"""Fill a model, in an order in which whatever fails can be undone.

First runs what may fail: modules with code of their own, values that must be computed, tensor subclasses. All that
is written meanwhile has been copied before. Then come the copies that cannot fail (`copying.py`), during which
signals wait; they need no memory. Of a small model, and where foreign code runs, everything is kept, to the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..config.load import LoadConfig
from ..distributed.agreement import together
from ..errors import CkptkitError, IncompatibleKeysError, Problem
from ..formats.module_tree import HookError, running
from ..load_report import LoadReport
from ..matching import Match
from ..planned import PlannedSource
from ..text import folded
from ..threads import one_thread
from .checking import Prepared
from .copying import Step, settled, step
from .interrupts import Held
from .keeping import Kept
from .lazy_state import LazyState
from .targets import Target
from .values import retype
from .walking import own_way, recursion, runs_foreign_code, special

if TYPE_CHECKING:
    import torch

SMALL = 64 << 20  # bytes of a model that is always kept whole, so that an interrupt is answered at once


def fill(
    target: Target,
    source: PlannedSource,
    prepared: Prepared,
    config: LoadConfig,
    state: LazyState,
    held: Held,
) -> None:
    """Fill a model from a state, all or nothing.

    Args:
        target: the model.
        source: the checkpoint after the rules, from which the state is made.
        prepared: what fills what.
        config: of the load.
        state: what `load_state_dict` would be given.
        held: keeps signals away, except where it is opened.

    Raises:
        CkptkitError: something refused; the model is as it was, or the error names what is not.
    """
    import torch

    run = _Run(target, source, prepared, config, state)
    with torch.no_grad():
        kept = None
        try:
            with together(target.state.values()), held.opened():
                kept = Kept(target.module)
                run.prepare(kept)
                if run.undoable:
                    run.finish(kept)
            if not run.undoable:
                run.finish(kept)
        except BaseException as error:
            _undo(kept, error, target)


def _undo(kept: Kept | None, error: BaseException, target: Target) -> None:
    """Put the model back, and raise what a person should read."""
    what, lost = target.what, kept.restore() if kept is not None else []
    for group in target.signature.tied:  # what one name is not, the others are not
        if not set(group).isdisjoint(lost):
            lost = list(dict.fromkeys((*lost, *group)))
    if lost:
        words = (
            f"{what} is not as it was before: {folded(lost)} may hold values of the checkpoint, wholly or in part. "
            "Load again, or take the model from where it came from"
        )
        if not isinstance(error, Exception):
            error.add_note(words)
            raise error
        raise IncompatibleKeysError(
            f"{words}. What stopped the load: {_words(error)}",
            problems=[Problem(name, "may not be as it was before") for name in lost],
        ) from error
    own = isinstance(error, CkptkitError) and not isinstance(error, HookError)
    if own or not isinstance(error, Exception):
        raise error
    raise IncompatibleKeysError(
        f"{what} refused the checkpoint while loading, and is as it was before: {_words(error)}"
    ) from (error.__cause__ if isinstance(error, HookError) else error)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Run:
    """One filling of one model."""

    def __init__(
        self,
        target: Target,
        source: PlannedSource,
        prepared: Prepared,
        config: LoadConfig,
        state: LazyState,
    ) -> None:
        self.target, self.source, self.prepared, self.config, self.state = (
            target,
            source,
            prepared,
            config,
            state,
        )
        self.metadata: Mapping[str, Any] = {} if state._metadata is None else state._metadata
        self.modules = list(recursion(target.module))
        self.steps: list[Step] = []
        posts = any(module._load_state_dict_post_hooks for _, module in self.modules)
        self.foreign = runs_foreign_code([module for _, module in self.modules], target.state.values())
        # Whether bytes of everything are kept; with assign, nothing is overwritten but by foreign code.
        self.whole = self.foreign or (not config.assign and (posts or self._small()))
        self.undoable = self.whole or config.assign

    def _small(self) -> bool:
        # Of whole tensors, not of this rank's parts: all ranks must come to the same answer.
        sizes = (v.numel() * v.element_size() for v in self.target.state.values() if hasattr(v, "is_meta"))
        return bool(sum(sizes) <= SMALL)

    def prepare(self, kept: Kept) -> None:
        """All that may fail, except hooks after the load."""
        assign = self.config.assign
        if self.whole:
            kept.copy()
        for prefix, module in self.modules:
            if special(module):
                if own_way(module):
                    if not assign:
                        kept.copy(_tensors(module))
                    self._retype(prefix, module)
                run_special(module, prefix, self.state, self.metadata, assign)
                if own_way(module):
                    kept.put_back(module, prefix, self.prepared.withheld)
        for key in self.prepared.withheld:
            self.state.pop(key, None)
        others: list[tuple[str, torch.nn.Module, dict[str, Any]]] = []
        for prefix, module in self.modules:
            if not own_way(module):
                self._retype(prefix, module)
                others.append((prefix, module, self._others(prefix, module)))
        overwritten = [value for _, _, values in others for value in values.values()]
        self.steps = settled(self.steps, overwritten)
        if not assign:
            kept.copy(overwritten)
        for prefix, module, values in others:
            if values:
                run_stock(module, prefix, list(values), self.state, self.metadata, assign)

    def _retype(self, prefix: str, module: torch.nn.Module) -> None:
        keys = [prefix + name for name in (*module._parameters.keys(), *module._buffers.keys())]
        retype(keys, self.target, self.prepared.match, self.source, self.config)

    def _others(self, prefix: str, module: torch.nn.Module) -> dict[str, Any]:
        """Parameters and buffers of a module that torch is to fill; for all others a step is noted."""
        found = {}
        for name, value in _persistent(module):
            if prefix + name in self.state:
                direct = None if self.config.assign or _swaps() else step(prefix + name, value, self.state)
                if direct is None:
                    found[name] = value
                else:
                    self.steps.append(direct)
        return found

    def finish(self, kept: Kept) -> None:
        """The copies that cannot fail, and what torch does after loading."""
        for each in self.steps:
            kept.give_up(each.name, each.holder)
            each.carry_out()
        if self.config.assign:
            tie_again(self.target, self.prepared.match)
        post_hooks(self.target.module, self.prepared.report)


def _swaps() -> bool:
    """Whether torch exchanges tensors instead of copying into them."""
    import torch

    return torch.__future__.get_swap_module_params_on_conversion()


def _tensors(module: torch.nn.Module) -> list[Any]:
    return [value for value in (*module._parameters.values(), *module._buffers.values()) if value is not None]


def _persistent(module: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    kept = [(k, v) for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set]
    return ((name, value) for name, value in [*module._parameters.items(), *kept] if value is not None)


def _local(metadata: Mapping[str, Any], prefix: str, assign: bool) -> dict[str, Any]:
    local = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local["assign_to_params_buffers"] = True
    return local


def run_special(
    module: torch.nn.Module, prefix: str, state: LazyState, metadata: Mapping[str, Any], assign: bool
) -> None:
    """A module's own code first: it alone can refuse what the plan allows."""
    errors: list[str] = []
    local = _local(metadata, prefix, assign)
    if own_way(module):
        # torch asks strictly here, always; what is missing was judged before.
        with running("_load_from_state_dict", module, prefix, but=(MemoryError,)):
            module._load_from_state_dict(state, prefix, local, True, [], [], errors)
    else:
        for hook in list(module._load_state_dict_pre_hooks.values()):
            with running(hook, module, prefix):
                hook(state, prefix, local, True, [], [], errors)
    _refuse([text for text in errors if "size mismatch" not in text], module, prefix)


class _Part:
    """A module with some of its parameters and buffers and none of its hooks, for torch's own copying.

    The module itself keeps its hooks all the time, since another thread may be loading it, too.
    """

    def __init__(self, module: torch.nn.Module, names: list[str]) -> None:
        fields = {
            "_module": module,
            "_load_state_dict_pre_hooks": {},
            "_parameters": {k: v for k, v in module._parameters.items() if k in names},
            "_buffers": {k: v for k, v in module._buffers.items() if k in names},
            "_non_persistent_buffers_set": set(),
            "_modules": {},
        }
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_module"], name, value)


def run_stock(
    module: torch.nn.Module,
    prefix: str,
    names: list[str],
    state: LazyState,
    metadata: Mapping[str, Any],
    assign: bool,
) -> None:
    """torch's own copying of some parameters and buffers, without the pre-hooks, which have run."""
    import torch

    errors: list[str] = []
    local = _local(metadata, prefix, assign)
    part: Any = _Part(module, names)
    with one_thread(*part._parameters.values(), *part._buffers.values()):
        torch.nn.Module._load_from_state_dict(part, state, prefix, local, False, [], [], errors)
    _refuse(errors, module, prefix)


def _refuse(errors: list[str], module: torch.nn.Module, prefix: str) -> None:
    if errors:
        raise IncompatibleKeysError(
            f"{type(module).__name__} at {prefix[:-1] or 'the top'!r}: {'; '.join(errors)}"
        )


def post_hooks(module: torch.nn.Module, report: LoadReport) -> None:
    """Hooks that run after the load, innermost modules first."""
    from torch.nn.modules.module import _IncompatibleKeys

    outcome = _IncompatibleKeys(list(report.missing), list(report.unexpected))
    for prefix, each in reversed(list(recursion(module))):
        for hook in list(each._load_state_dict_post_hooks.values()):
            with running(hook, each, prefix):
                hook(each, outcome)


def tie_again(target: Target, match: Match) -> None:
    """After assigning, the names of one tied parameter hold one object again: the one that was filled."""
    for group in target.signature.tied:
        owners = [_owner(target.module, key) for key in group]
        filled = next((i for i, key in enumerate(group) if key in match.fills), None)
        if filled is None:
            continue
        value = _get(*owners[filled])
        for module, name in owners:
            table = module._parameters if name in module._parameters else module._buffers
            table[name] = value


def _owner(module: torch.nn.Module, key: str) -> tuple[torch.nn.Module, str]:
    path, _, name = key.rpartition(".")
    return module.get_submodule(path), name


def _get(module: torch.nn.Module, name: str) -> Any:
    value = module._parameters.get(name)
    return module._buffers[name] if value is None else value
