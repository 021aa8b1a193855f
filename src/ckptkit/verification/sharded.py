"""An index and its shards: each file by itself, then what they say of each other."""

from __future__ import annotations

import os

from ..errors import FormatError
from ..formats.base import Progress
from ..formats.sharded import disagreements, read_index
from .one_file import Looked, look
from .report import Damage


def look_at_shards(index: str, progress: Progress) -> tuple[Looked, list[str]]:
    """All files of a sharded checkpoint, and the names of its shards.

    Args:
        index: the index file.
        progress: called with the number of bytes just read.
    """
    looked = Looked()
    try:
        weight_map, metadata = read_index(index)
    except FormatError as error:
        looked.problems.append(Damage(index, error.message, error.key, error.offset))
        return looked, []
    looked.keys = tuple(weight_map)
    folder = os.path.dirname(index)
    names = list(dict.fromkeys(weight_map.values()))
    shards: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {}
    for name in names:
        path = os.path.join(folder, name)
        try:
            shard = look(path, "auto", progress)
        except FormatError as error:
            looked.problems.append(Damage(path, error.message))
            continue
        looked.problems += shard.problems
        looked.notes += [f"{name}: {note}" for note in shard.notes]
        looked.tensors += shard.tensors
        looked.nbytes += shard.nbytes
        if shard.keys or not shard.problems:
            shards[name] = (shard.keys, shard.tied)
    for difference in disagreements(index, weight_map, shards):
        looked.problems.append(Damage(index, difference.message, difference.key))
    total = metadata.get("total_size")
    if type(total) is int and not looked.problems:
        size = sum(os.path.getsize(os.path.join(folder, name)) for name in names)
        if total > size:
            looked.notes.append(f"the index states {total} bytes of tensors, all shards together have {size}")
    return looked, names
