"""Two lists in the order of the same model: the n-th key of one is the n-th key of the other, under other names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..vetoes import is_buffer

Rule = dict[str, Any]
_LEAST = 4  # pairs; fewer are chance
_MOST = 16  # names that change


def aligned(missing: Sequence[str], unexpected: Sequence[str], truncated: bool) -> list[Rule]:
    """Rules under which the keys of both lists are the same, one by one; none where their orders do not tell that.

    Args:
        missing, unexpected: both lists, as long as they are known.
        truncated: whether the lists break off: the unexpected keys, which stand last, may be fewer.
    """
    ours, theirs = list(unexpected), list(missing)
    if len(ours) != len(theirs):
        # Buffers, which one side may be without.
        ours, theirs = ([key for key in keys if not is_buffer(key)] for keys in (ours, theirs))
    count = min(len(ours), len(theirs))
    if count < _LEAST or len(ours) > len(theirs) or (len(ours) < len(theirs) and not truncated):
        return []
    pairs = list(zip(ours[:count], theirs[:count], strict=True))
    places = {(old.rpartition(".")[0], *_change(old, new)) for old, new in pairs}
    votes = Counter(
        (old, new) for _, old, new in places
    )  # the weight and the bias of one module are one place
    if len(votes) > _MOST:
        return []
    becomes: dict[str, str] = {}
    for (old, new), times in votes.items():
        if not old or not new or becomes.setdefault(old, new) != new or (times < 2 and not _akin(old, new)):
            return []
    if len(set(becomes.values())) < len(becomes):
        return []
    before: dict[str, set[str]] = {}
    for old, new in pairs:
        before.setdefault(_change(old, new)[0], set()).add(_before(old, new))
    if any(len(starts) > _MOST for starts in before.values()):
        return []
    rules = [
        _rule(sorted(before[old]), old, new)
        for old, new in sorted(becomes.items(), key=lambda each: -len(each[0]))
    ]
    names = set(theirs)
    whole = all(_applied(rules, old) == new for old, new in pairs)
    return rules if whole and all(_applied(rules, key) in names or truncated for key in ours) else []


def _change(old: str, new: str) -> tuple[str, str]:
    """The segments that differ, between those at the beginning and at the end that do not."""
    a, b = old.split("."), new.split(".")
    start = 0
    while start < min(len(a), len(b)) - 1 and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start - 1 and a[-1 - end] == b[-1 - end]:
        end += 1
    return ".".join(a[start : len(a) - end]), ".".join(b[start : len(b) - end])


def _akin(old: str, new: str) -> bool:
    """Whether the names share a word."""
    ours, theirs = (set(re.findall(r"[a-z]{2,}", name.lower())) for name in (old, new))
    return bool(ours & theirs)


def _before(old: str, new: str) -> str:
    """A pattern for what stands before the segments that differ, any block of it."""
    a, b = old.split("."), new.split(".")
    start = 0
    while start < min(len(a), len(b)) - 1 and a[start] == b[start]:
        start += 1
    return "".join(r"\d+\." if part.isdecimal() else f"{re.escape(part)}\\." for part in a[:start])


def _rule(starts: Sequence[str], old: str, new: str) -> Rule:
    """Only where the change was seen: keys that fit already are in no list, and may hold the same names."""
    return {
        "op": "rename",
        "pattern": rf"^({'|'.join(starts)}){re.escape(old)}(\.|$)",
        "replacement": rf"\1{new}\2",
        "required": False,
    }


def _applied(rules: Sequence[Rule], key: str) -> str:
    for rule in rules:
        key = re.sub(rule["pattern"], rule["replacement"], key)
    return key
