"""The string metadata of a checkpoint, carried through a plan where it names keys.

What a known scheme says of keys follows them; what any other entry says of a key that has another name now, or is gone,
stays as it is and is called stale.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, takewhile
from typing import Any

from .expr import Cast, Expr, Read
from .formats.metadata_names import SLICES, TORCHAO, parsed, slices, torchao_tensors
from .plans import Plan
from .signatures import Signature
from .text import folded, quoted

_PLAIN = "Tensor"  # torchao's word for a tensor that is not quantised


@dataclass(frozen=True, slots=True)
class NamedMetadata:
    """The string metadata of a plan's result.

    Args:
        entries: what is written.
        notes: entries that are stale, or that could not be carried along, one line each.
    """

    entries: dict[str, str]
    notes: tuple[str, ...] = ()


def moved_metadata(plan: Plan) -> NamedMetadata:
    """The string metadata that belongs to the result of a plan.

    Args:
        plan: the plan; its source has the metadata. An inverse gives back what its first plan was made for.
    """
    if plan.restores is not None:
        return NamedMetadata(dict(plan.restores.metadata))
    metadata = plan.source.metadata
    moves = _Moves(plan)
    if not metadata or not moves.any:
        return NamedMetadata(dict(metadata))
    entries, notes = dict(metadata), []
    known: set[str] = set()
    for carry in (_torchao, _slices):
        done = carry(metadata, moves)
        if done is not None:
            for name in done.old:
                entries.pop(name, None)
            entries.update(done.new)
            known |= done.old
            notes += done.notes
    stale: dict[str, list[str]] = {}
    for name, text in metadata.items():
        if name not in known:
            mentioned = [key for key in _mentioned(name, text) if key in moves.gone]
            if mentioned:
                stale[name] = list(dict.fromkeys(mentioned))
    for name, keys in stale.items():
        notes.append(
            f"metadata {quoted(name)} is kept as it is and is stale: it names {folded(keys, 3)}, which the plan renames "
            "or drops"
        )
    return NamedMetadata(entries, tuple(notes))


@dataclass
class _Carried:
    """What became of the entries of one scheme: the old names of entries, the new entries, what got lost."""

    old: set[str]
    new: dict[str, str]
    notes: list[str] = field(default_factory=list)


class _Moves:
    """Where the keys of a plan's source are in its result."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.places: dict[str, list[str]] = {}
        for output in plan.outputs:
            key = _whole(output.expr)
            if key is not None:
                self.places.setdefault(key, []).append(output.key)

    @cached_property
    def any(self) -> bool:
        """Whether anything is not under its old name alone."""
        return len(self.plan.outputs) != len(self.plan.source) or any(
            self.places.get(key) != [key] for key in self.plan.source
        )

    @cached_property
    def gone(self) -> frozenset[str]:
        """Keys whose names mean no longer what they meant."""
        return frozenset(key for key in self.plan.source if key not in self.places.get(key, ()))


def _whole(expr: Expr) -> str | None:
    """The key that an output is, but for its dtype; None for one that is computed."""
    while isinstance(expr, Cast):
        (expr,) = expr.of
    return expr.key if isinstance(expr, Read) else None


def _torchao(metadata: Mapping[str, str], moves: _Moves) -> _Carried | None:
    told = torchao_tensors(metadata)
    if not told:
        return None
    carried = _Carried({TORCHAO, *told}, {})
    listed: dict[str, None] = {}
    keys = sorted(moves.plan.source)
    plain = {name for name, entry in told.items() if entry["_type"] == _PLAIN}
    apart: list[str] = []
    for name, entry in told.items():
        parts = _parts(name, entry, keys, moves.plan.source)
        names = _new_names(parts, moves)
        for new in names:
            listed[new] = None
            carried.new[new] = metadata[name]
        if not names and (not parts or any(moves.places.get(key) for key, _ in parts)):
            apart.append(name)
    for output in moves.plan.outputs:
        reads = output.expr.reads()
        if _whole(output.expr) is None and reads and plain.issuperset(reads) and "." in output.key:
            listed[output.key] = None
            carried.new[output.key] = json.dumps({"_type": _PLAIN})
    carried.new = {TORCHAO: json.dumps(list(listed)), **carried.new}
    if apart:
        carried.notes.append(
            f"torchao's metadata lost {folded(apart, 3)}: the plan takes the parts of what it lists there apart, or gives "
            "them names by which torchao does not find them"
        )
    return carried


def _parts(name: str, entry: Mapping[str, Any], keys: list[str], source: Signature) -> list[tuple[str, str]]:
    """The keys that hold one of torchao's tensors, each with its end, by which `_named` finds the name again.

    Args:
        name: as torchao lists it.
        entry: what it says of it.
        keys: all keys of the source, sorted.
        source: its signature.
    """
    older = [(key, key[len(name) :]) for key in _beginning(keys, f"{name}:")]
    if entry["_type"] == _PLAIN:
        return [(name, "")] if name in source else older
    module, dot, last = name.rpartition(".")
    prefix = f"{module}{dot}_{last}_"
    told = entry.get("_tensor_data_names")
    if isinstance(told, list) and all(type(end) is str for end in told):
        return [(f"{prefix}{end}", f"_{end}") for end in told if f"{prefix}{end}" in source]
    return older or [(key, key[len(prefix) - 1 :]) for key in _beginning(keys, prefix)]


def _beginning(keys: list[str], prefix: str) -> list[str]:
    """The keys that begin with a prefix, of sorted ones."""
    first = bisect_left(keys, prefix)
    return list(takewhile(lambda key: key.startswith(prefix), islice(keys, first, None)))


def _new_names(parts: list[tuple[str, str]], moves: _Moves) -> list[str]:
    """The names under which all parts of one tensor are found now."""
    if not parts:
        return []
    candidates = [
        [name for place in moves.places.get(key, ()) if (name := _named(place, end)) is not None]
        for key, end in parts
    ]
    return [name for name in candidates[0] if all(name in others for others in candidates)]


def _named(key: str, end: str) -> str | None:
    """The name of the tensor of which a key with this end is a part; None where torchao's reader would not see it so."""
    if not key.endswith(end):
        return None
    name = key[: len(key) - len(end)] if end else key
    if end.startswith("_"):
        module, dot, last = name.rpartition(".")
        if not last.startswith("_"):
            return None
        name = f"{module}{dot}{last[1:]}"
    # Its reader splits every name at the last dot.
    return name if name.rpartition(".")[0] and name.rpartition(".")[2] else None


def _slices(metadata: Mapping[str, str], moves: _Moves) -> _Carried | None:
    told = slices(metadata)
    if not told:
        return None
    at_start = {key for key, entry in told.items() if not any(_offsets(entry))}
    new, lost = {}, []
    for output in moves.plan.outputs:
        key, reads = _whole(output.expr), output.expr.reads()
        if key is not None:
            if key in told:
                new[output.key] = told[key]
        elif at_start.issuperset(reads):
            new[output.key] = {"saved_offsets": [0] * len(output.shape)}
        else:
            lost.append(output.key)
    carried = _Carried({SLICES}, {SLICES: json.dumps(new)})
    if lost:
        carried.notes.append(
            f"metadata {SLICES!r} says nothing of {folded(lost, 3)}: these are made of slices, and where they begin in a "
            "whole tensor is not known"
        )
    return carried


def _offsets(entry: Mapping[str, Any]) -> list[Any]:
    offsets = entry.get("saved_offsets")
    return offsets if isinstance(offsets, list) else [None, True]


def _mentioned(name: str, text: str) -> Iterator[str]:
    """Every string of an entry that may be a key: its name, its value, and what its value holds as JSON."""
    yield name
    if "." in text:  # a word alone is rarely a key
        yield text
    stack = [parsed(text)]
    while stack:
        part = stack.pop()
        if type(part) is str:
            yield part
        elif isinstance(part, dict):
            yield from part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)
