"""Metadata of safetensors files that names keys by a known scheme: torchao's and torch's.

- torchao writes ``tensor_names``, a JSON list, and for each name in it an entry, a JSON object with ``_type``. A plain
  tensor lies under its name (``name:_data`` in older files); the parts of a quantised one, ``qdata`` and the like, under
  ``module._weight_qdata`` (``module.weight:qdata``).
- torch's HuggingFaceStorageWriter writes ``DCP_SHARDING_INFO``, a JSON object from each key to where its slice begins
  in the whole tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

TORCHAO = "tensor_names"
SLICES = "DCP_SHARDING_INFO"


def parsed(text: str | None) -> Any:
    """What a string of metadata says as JSON; None when it is none."""
    if not text or text[0] not in '{["':
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def torchao_tensors(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each name that torchao's metadata lists, and what it says of it; empty when it is not torchao's."""
    names = parsed(metadata.get(TORCHAO))
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        return {}
    told = {name: parsed(metadata.get(name)) for name in names}
    if not all(isinstance(entry, dict) and type(entry.get("_type")) is str for entry in told.values()):
        return {}
    return told


def slices(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each key that torch's metadata lists, and what it says of its place; empty when there is none."""
    told = parsed(metadata.get(SLICES))
    if not isinstance(told, dict) or not all(isinstance(entry, dict) for entry in told.values()):
        return {}
    return told


def merged(shards: Iterable[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """The metadata of several files as one's: lists and objects of a known scheme are joined, of others the first counts.

    Returns:
        The metadata, and the names of entries of which the files say different things.
    """
    one: dict[str, str] = {}
    differing: dict[str, None] = {}
    for shard in shards:
        for name, text in shard.items():
            known = one.setdefault(name, text)
            if known == text:
                continue
            joined = _joined(name, known, text)
            if joined is None:
                differing[name] = None
            else:
                one[name] = joined
    return one, list(differing)


def _joined(name: str, one: str, other: str) -> str | None:
    first, second = parsed(one), parsed(other)
    if name == TORCHAO and isinstance(first, list) and isinstance(second, list):
        every = [*first, *second]
        if all(type(each) is str for each in every):
            return json.dumps(list(dict.fromkeys(every)))
    if name == SLICES and isinstance(first, dict) and isinstance(second, dict):
        return json.dumps({**second, **first})
    return None
