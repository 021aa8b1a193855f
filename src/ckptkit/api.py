"""The functions of scripts that give or write a checkpoint: remap, save."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack, overload

from .checkpoint import Checkpoint
from .checkpoint import open as open_checkpoint
from .config import RemapConfig
from .config.fields import RemapFields
from .config.giving import as_config
from .errors import CastError, UsageError
from .execute import apply, write_source
from .expr import Read, evaluate
from .formats.base import WriteOptions, Written
from .formats.memory import MemorySource
from .formats.module_tree import saved_state
from .plans import Output, Plan, make_plan
from .sizes import parse_size

if TYPE_CHECKING:
    import torch

    from .config.giving import AnyRemap

    Path = str | os.PathLike[str]


@overload
def remap(
    source: Path | Checkpoint, config: AnyRemap | Plan | None = None, **fields: Unpack[RemapFields]
) -> Checkpoint: ...
@overload
def remap(
    source: Mapping[str, Any] | torch.nn.Module,
    config: AnyRemap | Plan | None = None,
    **fields: Unpack[RemapFields],
) -> dict[str, Any]: ...
def remap(
    source: Any, config: AnyRemap | Plan | None = None, **fields: Unpack[RemapFields]
) -> Checkpoint | dict[str, Any]:
    """Rename, drop and rework the keys of a checkpoint.

    Args:
        source: a path or a Checkpoint (the result is a lazy Checkpoint), or a mapping of tensors or
            an `nn.Module` (the result is a dict; tensors that are only renamed are not copied).
            The ``_metadata`` of a state_dict goes along; what of it cannot is a warning, and a line of
            ``left_out`` where the result is written.
        config: a `RemapConfig`, its fields, a list of rules, the path of a config file, or a `Plan` made for this
            source. Of a LoadConfig, root and rules are used, and a warning names what is left aside.
        fields: a RemapConfig's, which count before those of `config`.

    Raises:
        PlanError: a collision, a rule that touches nothing, shapes that do not suit; or the plan was
            made for a checkpoint with another signature.
        FormatError: the source cannot be read.
    """
    checkpoint, prepared = planned(source, config, fields)
    result = apply(prepared, checkpoint)
    if isinstance(source, Checkpoint) or (
        not isinstance(source, Mapping) and not hasattr(source, "state_dict")
    ):
        return result
    state = saved_state(source, keep_vars=False) if not isinstance(source, Mapping) else source
    if isinstance(checkpoint.source, MemorySource) and isinstance(source, Mapping):
        state = checkpoint.source.state
    return _in_memory(prepared, state, result)


def planned(source: Any, config: AnyRemap | Plan | None, fields: RemapFields, /) -> tuple[Checkpoint, Plan]:
    """The opened checkpoint and the plan for it; arguments and errors as for `remap`."""
    if isinstance(config, Plan):
        if fields:
            raise UsageError(
                f"a plan is made already, so it takes no {', '.join(fields)}; give rules, or the plan alone"
            )
        return open_checkpoint(source, root=config.source.root or "auto"), config
    settings = as_config(RemapConfig, config, fields, required=True, partly=True)
    checkpoint = open_checkpoint(source, root=settings.root)
    return checkpoint, make_plan(checkpoint.signature, settings)


def _in_memory(plan: Plan, state: Mapping[str, Any], result: Checkpoint) -> dict[str, Any]:
    metadata = result.source.state_metadata
    for line in result.source.left_out:
        warnings.warn(f"left out: {line}", stacklevel=3)
    fresh: dict[str, Any] = {} if metadata is None else OrderedDict()
    if metadata is not None:
        fresh._metadata = metadata  # type: ignore[attr-defined]
    made: dict[int, Any] = {}
    group_of = {key: number for number, group in enumerate(plan.ties) for key in group}
    seen: set[str] = set()
    for output in plan.outputs:
        group = group_of.get(output.key)
        shared = made.get(group) if group is not None else None
        own = isinstance(output.expr, Read) and output.expr.key not in seen
        if isinstance(output.expr, Read) and own and (shared is None or plan.restores is None):
            value = state[output.expr.key]
            seen.add(output.expr.key)
        elif shared is not None:
            value = shared
        elif isinstance(output.expr, Read):
            # A second output of one source key is a copy of its own, as it is in a file.
            value = state[output.expr.key]
            value = value.clone() if hasattr(value, "clone") else value
        else:
            value = _evaluated(output, state)
        if group is not None:
            made.setdefault(group, value)
        fresh[output.key] = value
    return fresh


def _evaluated(output: Output, state: Mapping[str, Any]) -> Any:
    """A computed output with a storage of its own: parts of one tensor must not change together."""
    import torch

    try:
        value = evaluate(output.expr, state.__getitem__).contiguous()
    except CastError as error:
        raise CastError(f"{output.key!r}: {error.message}", key=output.key) from None
    place = value.untyped_storage().data_ptr()
    shares = any(state[key].untyped_storage().data_ptr() == place for key in output.expr.reads())
    return value.clone(memory_format=torch.contiguous_format) if shares else value


def save(
    state: Any,
    path: Path,
    *,
    max_shard_size: int | str | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    root_only: bool = False,
) -> Written:
    """Write a checkpoint, atomically and one tensor at a time.

    Args:
        state: a mapping of tensors, a Checkpoint, an `nn.Module`, or a path.
        path: ``.safetensors``; ``.pt .pth .bin .ckpt`` (torch zip); ``.json`` (signature only); or a
            folder (no suffix, or a trailing slash) for sharded safetensors.
        max_shard_size: for folders, in bytes or as ``"5GB"``.
        metadata: strings to add to the file's metadata.
        overwrite: replace what is there.
        root_only: from a nested torch file to a torch file, leave out what surrounds the root.

    Returns:
        The written files, and what was left out.

    Raises:
        WriteError: the target exists, or the system refused; nothing was changed.
        PlanError: the format cannot hold an entry; names it.
        UsageError: the suffix is unknown, or the target is the source.
    """
    options = WriteOptions(
        overwrite=overwrite,
        max_shard_size=parse_size(max_shard_size) if isinstance(max_shard_size, str) else max_shard_size,
    )
    # A nested mapping is written as it is, as torch.save would.
    checkpoint = open_checkpoint(state, root="none" if isinstance(state, dict) else "auto")
    return write_source(
        checkpoint.source, path, metadata=dict(metadata or {}), root_only=root_only, options=options
    )
