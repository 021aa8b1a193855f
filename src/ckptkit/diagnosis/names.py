"""Causes that show in the names: a prefix too much or too little, blocks that are not there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..findings import Finding, Fix
from ..signatures import Signature
from ..text import folded
from .evidence import Evidence

_BLOCK = re.compile(r"^(?P<stem>(?:.*?\.)?)(?P<index>\d+)\.")


def name_findings(evidence: Evidence) -> Iterator[Finding]:
    """Findings from missing and unexpected keys."""
    prefix = _prefix(evidence, evidence.source, evidence.target)
    if prefix is not None:
        yield prefix
        return
    depth = _depth(evidence, evidence.source, evidence.target)
    if depth is not None:
        yield depth


def _prefix(report: Evidence, source: Signature, target: Signature) -> Finding | None:
    missing, unexpected = set(report.missing), report.unexpected
    if not missing or not unexpected:
        return None
    strip = _common_prefix(list(unexpected), missing)
    if strip is not None:
        prefix, keys = strip
        return _finding("prefix_strip", prefix, keys, report, source, target)
    add = _common_prefix(list(report.missing), set(unexpected))
    if add is not None:
        prefix, keys = add
        return _finding("prefix_add", prefix, keys, report, source, target)
    return None


def _common_prefix(longer: list[str], shorter: set[str]) -> tuple[str, list[str]] | None:
    """The prefix P for which most of `longer` are P + a key of `shorter`."""
    votes: Counter[str] = Counter()
    for key in longer:
        at = key.find(".")
        while at >= 0:
            if key[at + 1 :] in shorter:
                votes[key[: at + 1]] += 1
                break
            at = key.find(".", at + 1)
    if not votes:
        return None
    prefix, count = votes.most_common(1)[0]
    if count * 2 < len(longer):
        return None
    return prefix, [key for key in longer if key.startswith(prefix) and key[len(prefix) :] in shorter]


def _finding(
    cause: str, prefix: str, keys: list[str], report: Evidence, source: Signature, target: Signature
) -> Finding:
    strip = cause == "prefix_strip"
    if strip:
        pairs = [(key, key[len(prefix) :]) for key in keys]
        rule: dict[str, Any] = {"op": "strip_prefix", "prefix": prefix}
        title = f"the checkpoint's keys carry the prefix {prefix!r}, the model's do not"
    else:
        pairs = [(key[len(prefix) :], key) for key in keys]
        rule = {"op": "add_prefix", "prefix": prefix}
        title = f"the model's keys carry the prefix {prefix!r}, the checkpoint's do not"
        if len(pairs) < len(source):
            rule = {**rule, "keys": [old for old, _ in pairs]}
    shapes_agree = all(source[old].shape == target[new].shape for old, new in pairs)
    paired = {old for old, _ in pairs}
    # A tied or optional key beside them is the only thing that may be over.
    over = [key for key in report.unexpected if key not in paired and key.removeprefix(prefix) not in target]
    everything = len(pairs) == len(report.missing) and not over
    return Finding(
        cause,
        title,
        f"{len(pairs)} of {len(report.unexpected)} unexpected keys are missing ones with it"
        + (", and their shapes agree" if shapes_agree else ", but some shapes differ"),
        tuple(old for old, _ in pairs),
        "certain" if everything and shapes_agree else "likely",
        Fix(f"{'strip' if strip else 'add'} the prefix {prefix!r}", (rule,)),
    )


def _depth(report: Evidence, source: Signature, target: Signature) -> Finding | None:
    """Blocks 12..23 that only one side has: another depth."""
    ours, theirs = _blocks(source), _blocks(target)
    for stem, count in theirs.items():
        other = ours.get(stem)
        if other is None or other == count:
            continue
        keys = [k for k in (*report.missing, *report.unexpected) if k.startswith(stem)]
        beyond = [k for k in keys if (m := _BLOCK.match(k)) and int(m["index"]) >= min(other, count)]
        if not beyond:
            continue
        return Finding(
            "arch_mismatch",
            f"the model has {count} blocks under {stem.rstrip('.') or 'the top'!r}, the checkpoint has {other}",
            f"only one side has {folded(beyond, 2)}",
            tuple(beyond),
            "likely",
            Fix(f"build the model with {other} blocks, as the checkpoint was; no rule can make the others"),
        )
    return None


def _blocks(signature: Signature) -> dict[str, int]:
    """How many numbered blocks lie under each stem."""
    highest: dict[str, int] = {}
    for key in signature:
        match = _BLOCK.match(key)
        if match is not None:
            highest[match["stem"]] = max(highest.get(match["stem"], 0), int(match["index"]) + 1)
    return highest
