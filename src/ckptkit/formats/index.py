"""The index of a sharded checkpoint, read and checked: which key lies in which file."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from ..errors import FormatError
from .json_text import read_json
from .shard_names import NUMBERED, bad_name, folded

MAX_INDEX = 200_000_000


def read_index(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Read and check an index file.

    Returns:
        Key to shard name in the index's order, and the index's metadata.

    Raises:
        FormatError: malformed, or a shard name that is no plain file name on every system.
    """
    document = read_json(path, MAX_INDEX)
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict):
        raise FormatError(f"{path}: an index needs a weight_map from keys to file names", file=path)
    names: set[str] = set()
    for key, name in weight_map.items():
        reason = None if type(name) is str and name in names else bad_name(name)
        if reason is not None:
            raise FormatError(
                f"{path}: the shard of {key[:120]!r} is {str(name)[:120]!r}, which {reason}; a shard is a plain file "
                "name beside the index",
                file=path,
                key=key,
            )
        names.add(name)
    files: dict[str, str] = {}
    for name in sorted(names):
        other = files.setdefault(folded(name), name)
        if other != name:
            raise FormatError(
                f"{path}: the shards {other!a} and {name!a} differ in case only, or in how accents are spelled, "
                "which is one file on some systems",
                file=path,
            )
    _check_count(path, names)
    metadata = document.get("metadata", {})
    if not isinstance(metadata, dict):
        raise FormatError(f"{path}: the index's metadata is no object", file=path)
    return weight_map, metadata


def _check_count(path: str, names: AbstractSet[str]) -> None:
    """Where shards are numbered ``-00001-of-00003``, none may be left out."""
    numbered = [match for name in names if (match := NUMBERED.search(name))]
    totals = {int(match[2]) for match in numbered}
    if len(numbered) == len(names) and len(totals) == 1:
        total = totals.pop()
        if {int(match[1]) for match in numbered} != set(range(1, total + 1)):
            raise FormatError(
                f"{path}: the shards call themselves {total}, and the index lists {len(names)} of them; fetch it again",
                file=path,
            )
