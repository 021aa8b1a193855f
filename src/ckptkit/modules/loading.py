"""Load a checkpoint into a live module: all or nothing, one tensor at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from ..checkpoint import open as open_checkpoint
from ..config import RemapConfig
from ..config.fields import LoadFields
from ..config.giving import as_config
from ..config.load import LoadConfig
from ..distributed.agreement import together
from ..errors import CkptkitError, IncompatibleKeysError, UsageError
from ..expr import Cast, Expr, evaluate
from ..expr.casting import Losses
from ..expr.growth import room_for
from ..formats.base import Source
from ..load_report import LoadReport
from ..matching import Match
from ..planned import PlannedSource
from ..plans import make_plan
from ..signatures import TensorInfo
from ..text import quote_list
from ..threads import one_thread
from .checking import Prepared, prepare
from .keeping import Kept
from .lazy_state import LazyState
from .targets import Target, describe
from .values import arrange, retype
from .walking import own_way, recursion, special

if TYPE_CHECKING:
    import torch

    from ..config.giving import AnyLoad


def load(
    model: torch.nn.Module, source: Any, config: AnyLoad | None = None, **fields: Unpack[LoadFields]
) -> LoadReport:
    """Load a checkpoint into a model; on any error the model is as it was.

    Everything is decided on names, shapes and dtypes first. Then tensors go one by one from the file
    into the parameters, so the peak of memory is the model and one tensor. What `load_state_dict`
    does, this does: modules' own hooks run, and ``assign`` has torch's meaning.

    Of a DTensor parameter (FSDP2, tensor parallelism) each rank reads its part. All ranks of the mesh
    must call; when one of them refuses, all do.

    Args:
        model: the target; DataParallel, DistributedDataParallel and torch.compile are seen through.
        source: a path, a mapping of tensors, a Checkpoint, or an `nn.Module`.
        config: a `LoadConfig` or `RemapConfig`, fields, a list of rules, or the path of a config file.
        fields: a LoadConfig's, which count before those of `config`.

    Returns:
        What was loaded and what was not.

    Raises:
        IncompatibleKeysError: the checkpoint does not fit under the config; nothing was changed.
        UsageError: the model is on the meta device and `assign` is off, or is lazily initialised.
        FormatError: the checkpoint is damaged.
    """
    target = describe(model)
    with together(target.state.values()):
        settings = as_config(LoadConfig, config, fields)
        checkpoint = open_checkpoint(source, root=settings.root)
        plan = make_plan(checkpoint.signature, RemapConfig(root=settings.root, rules=list(settings.rules)))
        planned = PlannedSource(checkpoint.source, plan)
        prepared = prepare(target, planned, settings)
        prepared.report.raise_for_errors()
        _refuse_meta(target, settings)
        _verify(planned, prepared)
    told = _execute(target, planned, prepared, settings)
    return replace(prepared.report, notes=(*prepared.report.notes, *told)) if told else prepared.report


def _refuse_meta(target: Target, config: LoadConfig) -> None:
    if config.assign:
        return
    meta = [key for key, value in target.state.items() if getattr(value, "is_meta", False)]
    if meta:
        raise UsageError(
            f"{target.what} is on the meta device ({quote_list(meta, 2)}), where copying changes nothing; "
            "load with assign: true, or materialise it first with model.to_empty(device=...)"
        )


def _verify(source: PlannedSource, prepared: Prepared) -> None:
    """Open every tensor once, so that damage is found (checksums are compared) while nothing is changed."""
    exprs = prepared.match.fills.values()
    keys = dict.fromkeys(key for expr in exprs for key in expr.reads())
    tensors = [key for key in keys if source.signature[key].kind == "tensor"]
    source.verify(tensors)
    for key in tensors:
        if _may_overflow(source.output(key).expr):
            source.tensor(key)


def _may_overflow(expr: Expr) -> bool:
    """Whether it holds a cast that fails on some values; it is tried before anything is changed."""
    if isinstance(expr, Cast) and not expr.allow_overflow:
        return True
    return any(_may_overflow(part) for part in getattr(expr, "of", ()))


def _execute(target: Target, source: PlannedSource, prepared: Prepared, config: LoadConfig) -> list[str]:
    """Fill the model; returns what a person should be told."""
    import torch

    losses: dict[str, Losses] = {}
    metadata = dict(source.state_metadata or {})  # hooks may change it
    state = _state(target, source, prepared, config, losses, metadata)
    kept = Kept()
    modules = list(recursion(target.module))
    posts = any(module._load_state_dict_post_hooks for _, module in modules)
    with torch.no_grad():
        try:
            with together(target.state.values()):
                for prefix, module in modules:
                    if special(module):
                        kept.add(module, data=own_way(module) and not config.assign)
                        if own_way(module):
                            retype(_own_keys(module, prefix), target, prepared.match, source, config)
                        _run_special(module, prefix, state, metadata, config.assign)
                        if own_way(module):
                            kept.put_back(module, prefix, prepared.withheld)
            for key in prepared.withheld:
                state.pop(key, None)
            for prefix, module in modules:
                # What cannot fail needs no copy; a hook that runs last can, and assigned tensors cost none.
                kept.add(module, data=posts and not config.assign)
                if not own_way(module):
                    retype(_own_keys(module, prefix), target, prepared.match, source, config)
                    _run_stock(module, prefix, state, metadata, config.assign)
            if config.assign:
                _tie_again(target, prepared.match)
            _post_hooks(target.module, prepared.report)
        except BaseException as error:
            kept.restore()
            if isinstance(error, CkptkitError) or not isinstance(error, Exception):
                raise
            raise IncompatibleKeysError(
                f"{target.what} refused the checkpoint while loading, and is as it was before: {error}"
            ) from error
    return [_loss(key, lost) for key, lost in losses.items() if lost]


def _own_keys(module: torch.nn.Module, prefix: str) -> list[str]:
    return [prefix + name for name in (*module._parameters, *module._buffers)]


def _loss(key: str, lost: Losses) -> str:
    parts = []
    if lost.overflowed:
        parts.append(f"{lost.overflowed} values overflowed (they became infinite, NaN or others)")
    if lost.vanished:
        parts.append(f"{lost.vanished} values became zero")
    if lost.flattened:
        parts.append(f"{lost.flattened} values lost their imaginary part")
    return f"{key!r} in the model's dtype: {', '.join(parts)}"


def _state(
    target: Target,
    source: PlannedSource,
    prepared: Prepared,
    config: LoadConfig,
    losses: dict[str, Losses],
    metadata: dict[str, Any],
) -> LazyState:
    """Source keys with functions that make what their target parameter takes."""
    makers: dict[str, Callable[[], Any]] = {}
    target_of = prepared.rehearsal.names
    for key, info in source.signature.tensors.items():
        name = target_of.get(key, key)
        expr = prepared.match.fills.get(name)
        if info.kind == "object":
            makers[key] = _value(source, key)
        elif expr is None:
            makers[key] = _tensor(source, key)
        else:
            lost = losses[name] = Losses()
            make = _filled(source, expr, target.state.get(name), config, lost)
            makers[key] = _with_room(name, target.signature[name], make)
    return LazyState(makers, metadata)


def _value(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.value(key)


def _tensor(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.tensor(key)


def _with_room(key: str, info: TensorInfo, make: Callable[[], Any]) -> Callable[[], Any]:
    def guarded() -> Any:
        with room_for(key, info):
            return make()

    return guarded


def _filled(
    source: Source, expr: Expr, parameter: Any, config: LoadConfig, losses: Losses
) -> Callable[[], Any]:
    def make() -> Any:
        losses.overflowed = losses.vanished = losses.flattened = (
            0  # a hook may ask for a tensor more than once
        )
        tensor = evaluate(expr, source.tensor)
        if not hasattr(parameter, "is_meta"):
            return tensor
        return arrange(tensor, parameter, assign=config.assign, dtype=config.dtype, losses=losses)

    return make


def _local(metadata: Mapping[str, Any], prefix: str, assign: bool) -> dict[str, Any]:
    local = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local["assign_to_params_buffers"] = True
    return local


def _run_special(
    module: torch.nn.Module, prefix: str, state: LazyState, metadata: Mapping[str, Any], assign: bool
) -> None:
    """A module's own code first: it alone can refuse what the plan allows."""
    errors: list[str] = []
    local = _local(metadata, prefix, assign)
    if own_way(module):
        # torch asks strictly here, always; what is missing was judged before.
        module._load_from_state_dict(state, prefix, local, True, [], [], errors)
    else:
        for hook in module._load_state_dict_pre_hooks.values():
            hook(state, prefix, local, True, [], [], errors)
    real = [text for text in errors if "size mismatch" not in text]
    if real:
        raise IncompatibleKeysError(
            f"{type(module).__name__} at {prefix[:-1] or 'the top'!r}: {'; '.join(real)}"
        )


def _run_stock(
    module: torch.nn.Module, prefix: str, state: LazyState, metadata: Mapping[str, Any], assign: bool
) -> None:
    """torch's own copying, without the pre-hooks, which have run."""
    import torch

    hooks = module._load_state_dict_pre_hooks
    module._load_state_dict_pre_hooks = OrderedDict()
    errors: list[str] = []
    try:
        with one_thread(*module.parameters(recurse=False), *module.buffers(recurse=False)):
            torch.nn.Module._load_from_state_dict(
                module, state, prefix, _local(metadata, prefix, assign), False, [], [], errors
            )
    finally:
        module._load_state_dict_pre_hooks = hooks
    if errors:
        raise IncompatibleKeysError(
            f"{type(module).__name__} at {prefix[:-1] or 'the top'!r}: {'; '.join(errors)}"
        )


def _post_hooks(module: torch.nn.Module, report: LoadReport) -> None:
    from torch.nn.modules.module import _IncompatibleKeys

    outcome = _IncompatibleKeys(list(report.missing), list(report.unexpected))
    for _, each in reversed(list(recursion(module))):
        for hook in each._load_state_dict_post_hooks.values():
            hook(each, outcome)


def _tie_again(target: Target, match: Match) -> None:
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
