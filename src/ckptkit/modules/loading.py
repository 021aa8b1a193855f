"""Load a checkpoint into a live module: all or nothing, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from ..checkpoint import open as open_checkpoint
from ..config.fields import LoadFields
from ..config.giving import as_config
from ..config.load import LoadConfig
from ..distributed.agreement import together
from ..errors import UsageError
from ..expr import Cast, Expr
from ..expr.casting import Losses
from ..formats.base import Source
from ..load_report import LoadReport
from ..planned import PlannedSource
from ..text import quote_list
from .aliasing import apart
from .checking import Prepared, fitted
from .copying import Filler
from .filling import fill
from .interrupts import Held
from .lazy_state import LazyState
from .targets import Target, describe

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

    A signal whose handler is a Python function (Ctrl-C) is heard while everything can be undone; while tensors are
    copied of which nothing is kept, it waits until the model is filled. What it raises comes out of this function,
    and the model is wholly what it was, or wholly filled.

    Args:
        model: the target; DataParallel, DistributedDataParallel and torch.compile are seen through.
        source: a path, a mapping of tensors, a Checkpoint, or an `nn.Module`.
        config: a `LoadConfig` or `RemapConfig`, fields, a list of rules, or the path of a config file.
        fields: a LoadConfig's, which count before those of `config`.

    Returns:
        What was loaded and what was not.

    Raises:
        IncompatibleKeysError: the checkpoint does not fit under the config, or something stopped the load; nothing
            was changed, or the error names in `problems` what could not be put back.
        UsageError: the model is on the meta device and `assign` is off, or is lazily initialised.
        FormatError: the checkpoint is damaged.
    """
    # Signals are heard where this rank can still tell the others, and where what was done can be undone.
    with Held() as held:
        target = describe(model)
        with together(target.state.values()), held.opened():
            settings = as_config(LoadConfig, config, fields)
            checkpoint = open_checkpoint(source, root=settings.root)
            planned, prepared = fitted(target, checkpoint.source, settings)
            prepared.report.raise_for_errors()
            _refuse_meta(target, settings)
            _verify(planned, prepared)
            planned = PlannedSource(apart(planned.base, _every_tensor(target)), planned.plan)
        losses: dict[str, Losses] = {}
        metadata = dict(planned.state_metadata or {})  # hooks may change it
        state = _state(target, planned, prepared, settings, losses, metadata)
        fill(target, planned, prepared, settings, state, held)
        told = [_loss(key, lost) for key, lost in losses.items() if lost]
        return replace(prepared.report, notes=(*prepared.report.notes, *told)) if told else prepared.report


def _every_tensor(target: Target) -> list[Any]:
    values = (*target.module.parameters(), *target.module.buffers(), *target.state.values())
    return [value for value in values if hasattr(value, "is_meta")]


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
            info = target.signature[name]
            makers[key] = Filler(source, expr, name, info, target.state.get(name), config, lost)
    return LazyState(makers, metadata)


def _value(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.value(key)


def _tensor(source: Source, key: str) -> Callable[[], Any]:
    return lambda: source.tensor(key)
