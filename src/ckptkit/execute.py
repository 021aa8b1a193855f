"""Carry a plan out: from an opened checkpoint to a file or a folder, one tensor at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .checkpoint import Checkpoint
from .computed import computed_bytes
from .errors import PlanError, UsageError
from .files.atomic import exists_error
from .files.claims import Claim
from .formats import writer_for
from .formats.base import Source, WriteOptions, WriteRequest, Written
from .formats.opening import TORCH_SUFFIXES
from .formats.safetensors_write import check_items, merge_ties, write_safetensors
from .formats.shard_names import is_index
from .formats.sharded_write import write_sharded
from .planned import PlannedSource, described, items, settled, settled_expr
from .plans import Equal, Plan
from .signatures import Signature
from .stale import stale_notes
from .text import folded, quote_list

DEFAULT_OPTIONS = WriteOptions()


def apply(plan: Plan, checkpoint: Checkpoint) -> Checkpoint:
    """The result of a plan as a lazy checkpoint.

    Raises:
        PlanError: the plan was made for other keys, shapes or dtypes; or copies that an inverse puts
            together differ.
    """
    own = checkpoint.signature
    if plan.source is not own:
        # Ties and order are the file's: a format may have moved or forgotten them.
        if dict(plan.source.tensors) != dict(own.tensors):
            raise PlanError(_other_source(plan, own))
        plan = replace(plan, source=own)
    source = PlannedSource(checkpoint.source, plan)
    for each in plan.equal:
        _check_equal(each, checkpoint.source)
    return Checkpoint(source)


def _other_source(plan: Plan, own: Signature) -> str:
    wanted = plan.source
    for what, keys in (
        ("it lacks", [key for key in wanted if key not in own]),
        ("the plan does not know", [key for key in own if key not in wanted]),
        ("another shape or dtype has", [key for key in wanted if key in own and own[key] != wanted[key]]),
    ):
        if keys:
            return (
                f"the plan was made for a checkpoint with other keys, shapes or dtypes: {what} {quote_list(keys, 3)}; "
                "make it anew"
            )
    raise AssertionError("the signatures are equal")


def _check_equal(each: Equal, source: Source) -> None:
    """Compare the bytes of two expressions, a piece at a time."""
    digests = []
    for expr in (each.one, each.other):
        base, holder = settled_expr(expr, source)
        digest = hashlib.blake2b()
        for chunk in computed_bytes(each.key, base, holder, {}):
            digest.update(chunk)
        digests.append(digest.digest())
    if digests[0] != digests[1]:
        names = quote_list(list(dict.fromkeys((*each.one.reads(), *each.other.reads()))), 4)
        raise PlanError(
            f"{names} stand for one tensor ({each.key!r}) and must be equal, but their bytes differ: one was changed "
            "since the plan was applied; drop one of them, or make them equal",
            key=each.key,
        )


def write(
    plan: Plan,
    checkpoint: Checkpoint,
    target: str | os.PathLike[str],
    *,
    root_only: bool = False,
    claim: Claim | None = None,
    options: WriteOptions = DEFAULT_OPTIONS,
) -> Written:
    """Write the result of a plan.

    Args:
        plan: made for this checkpoint.
        checkpoint: the source; it stays as it is, unless it is claimed.
        target: a file whose suffix names the format, or a folder.
        root_only: leave out what surrounds the root of a nested torch file.
        claim: replace the source itself (atomically), if it is still what was claimed before it was opened; `target` must be
            its path.
        options: how to write.

    Raises:
        UsageError: target and source are the same without `claim`, or the suffix is unknown.
        PlanError: the target's format cannot hold an entry.
        WriteError: the target exists and may not be replaced, another process changed it, or the system refused.
    """
    return write_source(
        apply(plan, checkpoint).source, target, root_only=root_only, claim=claim, options=options
    )


def write_source(
    source: Source,
    target: str | os.PathLike[str],
    *,
    metadata: dict[str, str] | None = None,
    root_only: bool = False,
    claim: Claim | None = None,
    options: WriteOptions = DEFAULT_OPTIONS,
) -> Written:
    """Write a source; arguments and errors as for `write`, `metadata` is added to the source's own."""
    name = os.fspath(target)
    writer = _writer(source, name, claim is not None, options)
    if claim is not None:
        options = replace(options, overwrite=True, claim=claim)
    if isinstance(source, PlannedSource) and not options.layout:
        options = replace(options, layout=source.plan.target_layout)
    folder = _is_folder(name)
    to_torch = name.lower().endswith(TORCH_SUFFIXES)
    base = _base(source)
    keeps_around = _keeps_around(source, name, root_only)
    written = writer(
        WriteRequest(
            target=name,
            items=described(source) if name.lower().endswith(".json") else items(source),
            source=source,
            metadata={**source.signature.metadata, **(metadata or {})},
            state_metadata=source.state_metadata,
            around=base if keeps_around else None,
            companions=source.companions if folder else (),
            options=options,
        )
    )
    left_out = written.left_out
    if source.surroundings and not keeps_around:
        left_out = (*left_out, *source.surroundings)
    if to_torch:
        left_out = (*left_out, *source.left_out)
    elif source.state_metadata and not name.lower().endswith(".json"):
        left_out = (*left_out, "_metadata (module versions)")
    notes = written.notes
    if isinstance(source, PlannedSource):
        notes = (*notes, *(source.remarks if to_torch else source.stale_metadata))
    stale = _stale_optimizers(source) if keeps_around else []
    plan = source.plan if isinstance(source, PlannedSource) else None
    return replace(written, left_out=left_out, notes=(*notes, *stale, *_lost(source)), plan=plan)


def _keeps_around(source: Source, name: str, root_only: bool) -> bool:
    """Whether what surrounds the root is written too."""
    # Each of several files has surroundings of its own, and one file has no place for all of them.
    to_torch = name.lower().endswith(TORCH_SUFFIXES)
    return to_torch and bool(source.surroundings) and not root_only and not _base(source).layout


def foreseen(source: Source, target: str | os.PathLike[str] | None, *, root_only: bool = False) -> list[str]:
    """What `write` would tell of a plan's result before a byte is computed, one line each.

    Args:
        source: the result.
        target: where it would go; None when that is not known.
        root_only: as for `write`.
    """
    name = None if target is None else os.fspath(target)
    unwritten: tuple[str, ...] = ()
    if isinstance(source, PlannedSource) and name is not None and name.lower().endswith(TORCH_SUFFIXES):
        unwritten = source.stale_metadata  # a torch file holds no strings
    lines = [note for note in source.notes if note not in unwritten]
    if name is not None and _keeps_around(source, name, root_only):
        lines += _stale_optimizers(source)
    return lines


def _stale_optimizers(source: Source) -> list[str]:
    """One line for each optimizer's state that a torch file would keep around a plan's result, and that is stale."""
    if not isinstance(source, PlannedSource):
        return []
    plan, base = source.plan, _base(source)
    if base is not source.base:
        made = tuple(replace(output, expr=settled(source, output.key)[0]) for output in plan.outputs)
        plan = replace(plan, outputs=made, source=base.signature)
    return stale_notes(base.optimizers(), plan)


def _lost(source: Source) -> list[str]:
    """One line for each thing that casts did to values."""
    if not isinstance(source, PlannedSource):
        return []
    lines = []
    for what, counts in (
        ("overflowed", {key: lost.overflowed for key, lost in source.losses.items() if lost.overflowed}),
        ("became zero", {key: lost.vanished for key, lost in source.losses.items() if lost.vanished}),
        (
            "lost their imaginary part",
            {key: lost.flattened for key, lost in source.losses.items() if lost.flattened},
        ),
    ):
        if counts:
            total = sum(counts.values())
            lines.append(
                f"casting: {total} value{'' if total == 1 else 's'} {what} in {len(counts)} "
                f"tensor{'' if len(counts) == 1 else 's'} ({folded(counts, 3)})"
            )
    return lines


def check_target(
    plan: Plan,
    checkpoint: Checkpoint,
    target: str | os.PathLike[str],
    *,
    in_place: bool = False,
    options: WriteOptions = DEFAULT_OPTIONS,
) -> None:
    """Raise what would stop a write before its first byte; arguments and errors as for `write`."""
    name, source = os.fspath(target), apply(plan, checkpoint).source
    writer = _writer(source, name, in_place, options)
    if not (options.overwrite or in_place) and os.path.lexists(name.rstrip("/") or name):
        raise exists_error(name)
    if writer in (write_safetensors, write_sharded):
        kept, aliases = merge_ties(items(source))
        check_items(kept, aliases, source.signature.metadata)


def _writer(
    source: Source, name: str, in_place: bool, options: WriteOptions
) -> Callable[[WriteRequest], Written]:
    if in_place:
        _check_in_place(source, name)
    writer = writer_for(name)
    if not in_place:
        _refuse_same(source, name)
    if options.max_shard_size is not None and not _is_folder(name):
        raise UsageError(
            f"{name}: a single file is never sharded; give a folder as the target for a maximum shard size"
        )
    return writer


def _is_folder(name: str) -> bool:
    return not os.path.splitext(name.rstrip("/"))[1] or name.endswith("/") or os.path.isdir(name)


def _base(source: Source) -> Source:
    while isinstance(source, PlannedSource):
        source = source.base
    return source


def _identity(path: str) -> Any:
    """What makes two paths one file: device and inode, or the resolved name where there is nothing yet."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (status.st_dev, status.st_ino)


def _refuse_same(source: Source, target: str) -> None:
    own = {_identity(path): path for path in source.files}
    if source.path is not None:
        own.setdefault(_identity(source.path), source.path)
    place = target.rstrip("/") or target
    if _identity(place) in own:
        raise UsageError(
            f"{target} is the source itself (or a link to it); choose another target, or --in-place to replace it",
            file=target,
        )
    if os.path.isdir(place):
        inside = [path for path in source.files if _within(path, place)]
        if inside:
            raise UsageError(
                f"{target} is the folder that holds the source ({quote_list([os.path.basename(p) for p in inside], 2)}); "
                "choose another target, or --in-place to replace it",
                file=target,
            )


def _within(path: str, folder: str) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, top]) == top


def _check_in_place(source: Source, target: str) -> None:
    if source.path is None:
        raise UsageError("a checkpoint in memory cannot be rewritten in place; give a target")
    if is_index(target):
        raise UsageError(
            f"{target}: an index cannot be rewritten without its shards; give the folder that holds them",
            file=target,
        )
    if os.path.isdir(target) and {os.path.realpath(os.path.dirname(path)) for path in source.files} != {
        os.path.realpath(target)
    }:
        raise UsageError(
            f"{target}: its checkpoint lies in {os.path.dirname(source.files[0])}; give that folder",
            file=target,
        )
    if source.format == "torch distributed":
        raise UsageError(
            f"{target}: a distributed checkpoint is read and not written; give DST, a file or another folder",
            file=target,
        )
    frozen = _base(source).frozen
    if frozen:
        raise UsageError(
            f"{target}: a {frozen} is read and not rewritten: what it holds beside the weights would be lost; give DST, "
            "which gets a plain state_dict",
            file=target,
        )
    if os.path.isfile(target) and not os.path.splitext(target)[1]:
        raise UsageError(
            f"{target}: has no suffix to say in which format to rewrite it; rename it ({source.format}), or give DST",
            file=target,
        )
    for path in {source.path, target, *source.files}:
        if os.path.islink(path):
            raise UsageError(
                f"{path} is a link; --in-place rewrites real files only, give the path it points to",
                file=path,
            )
        if os.path.isfile(path) and os.stat(path).st_nlink > 1:
            raise UsageError(
                f"{path} has several names (hard links), which --in-place would tear apart; write to another target",
                file=path,
            )
