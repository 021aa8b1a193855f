"""Writing a folder: safetensors shards with their index, or one file when it is small enough."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from ..errors import FormatError, WriteError
from ..files.atomic_dir import AtomicDir
from ..files.carrying import is_stale
from .base import Item, WriteOptions, WriteRequest, Written, WrittenFile
from .index import read_index
from .layouts.finding import find
from .safetensors_write import check_items, check_written, file_metadata, merge_ties, write_shard
from .shard_names import is_index

DEFAULT_SHARD_SIZE = 5_000_000_000


def write_sharded(request: WriteRequest) -> Written:
    """Write a folder with ``model.safetensors``, or with shards and ``model.safetensors.index.json``.

    Raises:
        PlanError: the format cannot hold an entry; names it.
        WriteError: the target exists, or the system refuses.
    """
    kept, aliases = merge_ties(request.items)
    check_items(kept, aliases, request.metadata)
    options = request.options
    shards = _restored(kept, options) or named_shards(
        split_into_shards(kept, options.max_shard_size or DEFAULT_SHARD_SIZE)
    )
    target = request.target.rstrip("/") or request.target
    files: list[WrittenFile] = []
    beside = [path for path in request.companions if not path.endswith("/")]
    weights = _old_weights(target, () if request.source is None else request.source.files)
    with AtomicDir(
        target, overwrite=options.overwrite, fsync=options.fsync, weights=weights, claim=options.claim
    ) as folder:
        weight_map: dict[str, str] = {}
        for name, shard in shards.items():
            here = {item.key for item in shard}
            own = {dropped: kept_key for dropped, kept_key in aliases.items() if kept_key in here}
            files.append(_write(folder, target, name, shard, file_metadata(request.metadata, own), request))
            weight_map.update((item.key, name) for item in shard)
        if len(shards) > 1:
            files.append(_write_index(folder, target, weight_map, kept))
        for path in beside:
            if os.path.basename(path) not in weight_map.values():
                folder.bring(path)
        request.check_source()
    notes = []
    if beside:
        notes.append(f"came along: {', '.join(os.path.basename(p) for p in beside)}")
    if folder.gone:
        notes.append(f"gone with the folder that was replaced: {', '.join(folder.gone)}")
    if folder.carried:
        notes.append(f"kept from the folder that was replaced: {', '.join(folder.carried)}")
    if folder.aside is not None:
        notes.append(
            f"some files appeared in the folder that was replaced and could not be brought: they are in {folder.aside}"
        )
    notes += folder.notes
    folders = tuple(os.path.basename(p.rstrip("/")) + "/" for p in request.companions if p.endswith("/"))
    return Written(tuple(files), folders, tuple(notes))


def _old_weights(folder: str, opened: Iterable[str]) -> frozenset[str]:
    """The files of a folder that make way with its checkpoint, though their names alone may not say so.

    Args:
        folder: the target; it need not be there.
        opened: the files of the source, which lie in it when it is rewritten in place.
    """
    if not os.path.isdir(folder):
        return frozenset()
    here = os.path.realpath(folder)
    names = {os.path.basename(path) for path in opened if os.path.realpath(os.path.dirname(path)) == here}
    indexes: set[str] = set()
    with suppress(OSError, FormatError):  # whoever replaces the folder says what the system refuses
        indexes |= {name for name in os.listdir(folder) if is_stale(name) and is_index(name)}
        place = find(folder)
        if os.path.realpath(place.folder) == here:
            indexes.update(place.names)
    for name in indexes:
        # One that cannot be read names no files of which it is known that they are shards.
        with suppress(FormatError):
            if is_index(name):
                names |= {name, *read_index(os.path.join(folder, name))[0].values()}
    return frozenset(names)


def split_into_shards(items: Sequence[Item], limit: int) -> list[list[Item]]:
    """Fill shards in state_dict order; a tensor larger than the limit gets a shard of its own.

    Args:
        items: what is written, ties merged.
        limit: bytes of data per shard.

    Returns:
        At least one shard. A pure function of sizes and order.
    """
    shards: list[list[Item]] = [[]]
    size = 0
    for item in items:
        if shards[-1] and size + item.info.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.info.nbytes
    return shards


def named_shards(shards: Sequence[list[Item]]) -> dict[str, list[Item]]:
    """The shards under the Hugging Face tools' names."""
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{n:05d}-of-{len(shards):05d}.safetensors": shard for n, shard in enumerate(shards, 1)}


def _restored(items: Sequence[Item], options: WriteOptions) -> dict[str, list[Item]] | None:
    """The shards of the layout that was asked for; None when it does not have every key, or a size was given."""
    home = {key: name for name, keys in options.layout for key in keys}
    if options.max_shard_size is not None or not all(item.key in home for item in items):
        return None
    shards: dict[str, list[Item]] = {name: [] for name, _ in options.layout}
    for item in items:
        shards[home[item.key]].append(item)
    return {name: shard for name, shard in shards.items() if shard} or None


def _write(
    folder: AtomicDir,
    target: str,
    name: str,
    items: Sequence[Item],
    metadata: dict[str, str],
    request: WriteRequest,
) -> WrittenFile:
    shown = os.path.join(target, name)
    fd = folder.create(name)
    try:
        size = write_shard(fd, items, metadata, request.options.progress)
        check_written(fd, shown, items)
    finally:
        os.close(fd)
    return WrittenFile(shown, size, len(items))


def _write_index(
    folder: AtomicDir, target: str, weight_map: dict[str, str], items: Sequence[Item]
) -> WrittenFile:
    name = "model.safetensors.index.json"
    total = sum(item.info.nbytes for item in items)
    document = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    fd = folder.create(name)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    if read_index(os.path.join(folder.path, name))[0] != weight_map:
        raise WriteError(f"{target}: the index is not what was planned; nothing was kept", file=target)
    return WrittenFile(os.path.join(target, name), len(text), 0)
