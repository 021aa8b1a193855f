"""Tensors that are one on one side and several on the other: q, k, v; gate and up; experts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..findings import Finding, Fix
from ..text import folded
from .parsed import Parsed

_AFFIX = re.compile(r"^(?:to_|w_?(?=[a-z])|linear_|in_)|(?:_?proj(?:ection)?s?|_?lin(?:ear)?|_?layer|_w)$")

_SIBLINGS = 200  # of more layers under one parent none is a part of another


def fused_keys(missing: Sequence[str], unexpected: Sequence[str]) -> list[str]:
    """Keys under one parent of which one stands on one side for several on the other, by their names.

    Args:
        missing, unexpected: the two lists.
    """
    found: dict[str, None] = {}
    sides = [_families(keys) for keys in (missing, unexpected)]
    for wholes, parts in (sides, sides[::-1]):
        for place, names in wholes.items():
            if place not in parts or max(len(names), len(parts[place])) > _SIBLINGS:
                continue
            for name, key in names.items():
                pieces = _pieces(name, parts[place])
                if pieces:
                    found |= dict.fromkeys([key, *pieces])
    apart, stacked = (re.compile(each) for each in (r"\.(?:local_)?experts\.\d+\.", r"\.experts\.(?!\d)"))
    for ours, theirs in ((missing, unexpected), (unexpected, missing)):
        if any(map(apart.search, ours)) and any(map(stacked.search, theirs)):
            found |= dict.fromkeys(key for key in (*ours, *theirs) if ".experts." in key)
    return list(found)


def _families(keys: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    """(parent, leaf) to the names between them, with their keys."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key in keys:
        parts = key.split(".")
        if len(parts) >= 2:
            found.setdefault((".".join(parts[:-2]), parts[-1]), {})[parts[-2]] = key
    return found


def _pieces(whole: str, parts: dict[str, str]) -> list[str]:
    """The keys whose names are what a name is put together from: q, k and v of qkv."""
    stem = _AFFIX.sub("", whole.lower())
    stems = {name: _AFFIX.sub("", name.lower()) for name in parts if name != whole}
    inside = {name: each for name, each in stems.items() if each and each in stem and each != stem}
    if len(set(inside.values())) < 2 or sum(map(len, set(inside.values()))) < 0.6 * len(
        stem.replace("_", "")
    ):
        return []
    return [parts[name] for name in inside]


def fused(parsed: Parsed) -> Iterator[Finding]:
    """q, k, v or experts, apart on one side and together on the other."""
    both = [*parsed.missing, *parsed.unexpected, *parsed.loose]
    named = fused_keys(parsed.missing, parsed.unexpected)
    parts = re.compile(r"(?:^|[._])(?:q|k|v|query|key|value)(?:_proj|_lin)?\.(?:weight|bias)$")
    whole = re.compile(
        r"(?:^|[._])(?:qkv|query_key_value|in_proj|c_attn|Wqkv|qkv_proj|to_qkv)[._]?(?:weight|bias)$"
    )
    apart = re.compile(r"\.(?:local_)?experts\.\d+\.")
    stacked = re.compile(r"\.experts\.(?!\d)[\w.]+$")
    if (any(map(parts.search, parsed.missing)) and any(map(whole.search, parsed.unexpected))) or (
        any(map(whole.search, parsed.missing)) and any(map(parts.search, parsed.unexpected))
    ):
        what, how = "query, key and value", "split or concat"
    elif named:
        what, how = f"parts of {named[0].split('.')[-2]}", "split or concat"
    elif any(map(apart.search, both)) and any(map(stacked.search, both)):
        what, how = "the experts", "stack or unstack (after a concat of what is fused)"
    elif any(map(stacked.search, parsed.missing)) or (len(both) >= 2 and all(map(apart.search, both))):
        what, how = "the experts", "stack or unstack (after a concat of what is fused)"
    elif (
        parsed.loose
        and any(map(parts.search, parsed.loose))
        and re.search(r"(?i)shard|\bfus(?:e|ing)|KeyError", parsed.text)
    ):
        what, how = "query, key and value", "concat all parts, over all shards"
    else:
        return
    yield Finding(
        "fused_split",
        f"{what} are in one tensor on one side and apart on the other",
        folded(both, 3),
        tuple(both),
        "likely",
        Fix(
            f"{how}: python -m ckptkit infer CHECKPOINT MODEL writes the rules when it sees the shapes of both"
        ),
    )
