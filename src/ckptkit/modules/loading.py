"""Load a checkpoint into a live module: all or nothing, one tensor at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..api import as_config, remap
from ..checkpoint import open as open_checkpoint
from ..config import RemapConfig
from ..config.load import LoadConfig
from ..distributed.agreement import together
from ..errors import CkptkitError, IncompatibleKeysError, UsageError
from ..expr import evaluate
from ..formats.base import Source
from ..load_report import LoadReport
from ..planned import PlannedSource
from ..plans import make_plan
from ..text import quote_list
from .checking import Prepared, prepare
from .lazy_state import LazyState
from .rehearsal import overrides, recursion, special
from .settings import as_load_config
from .targets import Target, describe
from .values import arrange

if TYPE_CHECKING:
    import torch


def load(
    model: torch.nn.Module, source: Any, config: LoadConfig | Mapping[str, Any] | None = None
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
        config: a `LoadConfig` or its fields.

    Returns:
        What was loaded and what was not.

    Raises:
        IncompatibleKeysError: the checkpoint does not fit under the config; nothing was changed.
        UsageError: the model is on the meta device and `assign` is off, or is lazily initialised.
        FormatError: the checkpoint is damaged.
    """
    target = describe(model)
    with together(target.state.values()):
        settings = as_load_config(config)
        checkpoint = open_checkpoint(source, root=settings.root)
        plan = make_plan(checkpoint.signature, RemapConfig(root=settings.root, rules=list(settings.rules)))
        planned = PlannedSource(checkpoint.source, plan)
        prepared = prepare(target, planned, settings)
        prepared.report.raise_for_errors()
        _refuse_meta(target, settings)
        _verify(planned, prepared)
    _execute(target, planned, prepared, settings)
    return prepared.report


def _refuse_meta(target: Target, config: LoadConfig) -> None:
    if config.assign:
        return
    meta = [key for key, value in target.state.items() if getattr(value, "is_meta", False)]
    if meta:
        raise UsageError(
            f"{target.what} is on the meta device ({quote_list(meta, 2)}), where copying changes nothing; "
            "load with assign: true, or materialise it first with model.to_empty(device=...)"
        )


def _verify(source: Source, prepared: Prepared) -> None:
    """Open every tensor once, so that damage is found (checksums are compared) while nothing is changed."""
    keys = dict.fromkeys(key for expr in prepared.match.fills.values() for key in expr.reads())
    source.verify(key for key in keys if source.signature[key].kind == "tensor")


def _execute(target: Target, source: PlannedSource, prepared: Prepared, config: LoadConfig) -> None:
    import torch

    state = _state(target, source, prepared, config)
    metadata = source.state_metadata or {}
    notes: list[str] = []
    with torch.no_grad():
        kept = _keep_aside(target.module)
        try:
            with together(target.state.values()):
                for prefix, module in recursion(target.module):
                    if special(module):
                        _run_special(module, prefix, state, metadata, config.assign, notes)
            for key in prepared.withheld:
                state.pop(key, None)
        except BaseException as error:
            _restore(kept)
            if isinstance(error, CkptkitError) or not isinstance(error, Exception):
                raise
            raise IncompatibleKeysError(
                f"{target.what} refused the checkpoint while loading, and is as it was before: {error}"
            ) from error
        for prefix, module in recursion(target.module):
            if not overrides(module):
                _run_stock(module, prefix, state, metadata, config.assign)
        if config.assign:
            _tie_again(target)
        _post_hooks(target.module, prepared.report)


def _state(target: Target, source: PlannedSource, prepared: Prepared, config: LoadConfig) -> LazyState:
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
            makers[key] = _filled(source, expr, target.state.get(name), config)
    return LazyState(makers, source.state_metadata)


def _value(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.value(key)


def _tensor(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.tensor(key)


def _filled(source: Source, expr: Any, parameter: Any, config: LoadConfig) -> Callable[[], Any]:
    return lambda: arrange(evaluate(expr, source.tensor), parameter, assign=config.assign, dtype=config.dtype)


def _keep_aside(module: torch.nn.Module) -> list[tuple[torch.nn.Module, dict[str, Any], dict[str, Any]]]:
    """Attributes and bytes of the modules that override `_load_from_state_dict`."""
    kept = []
    for _, each in recursion(module):
        if overrides(each):
            attributes = {
                k: dict(v) if k in ("_parameters", "_buffers") else v for k, v in each.__dict__.items()
            }
            data = {
                name: value.detach().clone()
                for name, value in [*each._parameters.items(), *each._buffers.items()]
                if value is not None
            }
            kept.append((each, attributes, data))
    return kept


def _restore(kept: list[tuple[torch.nn.Module, dict[str, Any], dict[str, Any]]]) -> None:
    for module, attributes, data in kept:
        module.__dict__.clear()
        module.__dict__.update(attributes)
        for name, value in data.items():
            parameter = module._parameters.get(name)
            own = module._buffers[name] if parameter is None else parameter
            assert own is not None
            own.data.copy_(value)


def _local(metadata: Mapping[str, Any], prefix: str, assign: bool) -> dict[str, Any]:
    local = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local["assign_to_params_buffers"] = True
    return local


def _run_special(
    module: torch.nn.Module,
    prefix: str,
    state: LazyState,
    metadata: Mapping[str, Any],
    assign: bool,
    notes: list[str],
) -> None:
    """A module's own code first: it alone can refuse what the plan allows."""
    errors: list[str] = []
    if overrides(module):
        module._load_from_state_dict(state, prefix, _local(metadata, prefix, assign), False, [], [], errors)
    else:
        for hook in module._load_state_dict_pre_hooks.values():
            hook(state, prefix, _local(metadata, prefix, assign), False, [], [], errors)
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


def _tie_again(target: Target) -> None:
    """After assigning, the names of one tied parameter hold one object again."""
    for group in target.signature.tied:
        owners = [_owner(target.module, key) for key in group]
        filled = next((i for i, (m, n) in enumerate(owners) if not _get(m, n).is_meta), 0)
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


def load_hook(config: RemapConfig | LoadConfig | Sequence[Any] | Mapping[str, Any]) -> Callable[..., None]:
    """A hook that keeps a class's old checkpoints loading.

    Use it as ``self.register_load_state_dict_pre_hook(ckptkit.load_hook(rules))`` in ``__init__``.
    Keys below the module are renamed and reworked by the rules whenever a state_dict is loaded;
    rules that touch nothing are left aside, so new checkpoints keep loading too.

    Args:
        config: the rules.

    Raises:
        ConfigError: the rules are malformed.
    """
    if isinstance(config, LoadConfig):
        config = list(config.rules)
    rules = [rule.model_copy(update={"required": False}) for rule in as_config(config).rules]

    def hook(module: torch.nn.Module, state: Any, prefix: str, *_: Any) -> None:
        own = {key[len(prefix) :]: state[key] for key in list(state) if key.startswith(prefix)}
        fresh = remap(own, RemapConfig(rules=rules))
        for key in own:
            del state[prefix + key]
        for key, value in fresh.items():
            state[prefix + key] = value

    return hook
