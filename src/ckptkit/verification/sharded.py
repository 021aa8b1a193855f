"""An index and its shards: each file by itself, then what they say of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import FormatError
from ..files.regular import undisturbed
from ..formats.base import Progress
from ..formats.index import read_index
from ..formats.sharded import disagreements, joined
from .one_file import Looked, look
from .report import Damage


def look_at_shards(index: str, root: str, progress: Progress) -> tuple[Looked, tuple[str, ...]]:
    """Look at all files of a sharded checkpoint.

    Args:
        index: the index file.
        root: ``auto`` or ``none``; any other is noted.
        progress: called with the number of bytes just read.

    Returns:
        What was seen, and the names of the shards.
    """
    looked = Looked(files=1, nbytes=os.path.getsize(index))
    try:
        with undisturbed(index):
            return _look(index, root, progress, looked)
    except FormatError as error:
        return replace(looked, problems=[Damage(index, error.message)]), ()


def _look(index: str, root: str, progress: Progress, looked: Looked) -> tuple[Looked, tuple[str, ...]]:
    try:
        weight_map, metadata = read_index(index)
    except FormatError as error:
        looked.problems.append(Damage(index, error.message, error.key, error.offset))
        return looked, ()
    folder = os.path.dirname(index)
    names = tuple(dict.fromkeys(weight_map.values()))
    shards = _each(folder, names, progress, looked)
    known = {name: (shard.keys, shard.tied) for name, shard in shards.items() if shard.keys is not None}
    for difference in disagreements(index, weight_map, known):
        looked.problems.append(Damage(index, difference.message, difference.key))
    if not looked.problems and len(known) == len(names):
        looked.notes += _total_size(metadata, shards)
    if root not in ("auto", "none"):
        looked.notes.append(
            f"the root {root!r} was asked for, and a sharded checkpoint has only its top level"
        )
    return looked, names


def look_at_unindexed(folder: str, names: Sequence[str], root: str, progress: Progress) -> Looked:
    """Look at numbered shards that have no index: each file by itself, and every key in one of them.

    Args:
        folder: where they lie.
        names: all of them.
        root: ``auto`` or ``none``; any other is noted.
        progress: called with the number of bytes just read.
    """
    looked = Looked()
    shards = _each(folder, names, progress, looked)
    try:
        joined(folder, {name: shard.keys for name, shard in shards.items() if shard.keys is not None})
    except FormatError as error:
        looked.problems.append(Damage(folder, error.message, error.key))
    if root not in ("auto", "none"):
        looked.notes.append(
            f"the root {root!r} was asked for, and a sharded checkpoint has only its top level"
        )
    return looked


def _each(folder: str, names: Sequence[str], progress: Progress, looked: Looked) -> dict[str, Looked]:
    """Look at every shard, and add up what was seen."""
    shards: dict[str, Looked] = {}
    for name in names:
        path = os.path.join(folder, name)
        try:
            shards[name] = look(path, "auto", progress)
        except FormatError as error:
            looked.problems.append(Damage(path, error.message, error.key, error.offset))
            continue
        looked.problems += shards[name].problems
        looked.notes += [f"{name}: {note}" for note in shards[name].notes]
        looked.files += 1
        looked.tensors += shards[name].tensors
        looked.nbytes += shards[name].nbytes
    return shards


def _total_size(metadata: dict[str, Any], shards: dict[str, Looked]) -> list[str]:
    """Tools disagree on whether tied tensors count once, so both are right."""
    stated = metadata.get("total_size")
    found = {sum(shard.sizes[which] for shard in shards.values()) for which in (0, 1)}
    if not isinstance(stated, int | float) or stated in found:
        return []
    return [f"the index states total_size {stated}, the tensors of its shards have {min(found)} bytes"]
