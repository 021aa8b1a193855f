"""Keys that only changed their name: of those that one side has, which hold the same content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..content import row_major_bytes, tensor_hash
from ..errors import FormatError
from ..formats.base import Source
from ..planned import item
from ..signatures import TensorInfo
from .rewrites import Rewrite, rewrites

SAMPLE = 1 << 16  # bytes; tensors that differ there are not read further
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Renames:
    """What was found.

    Args:
        pairs: (key of A, key of B), in A's order; each key stands once.
        several: how many of them share their content with a further key, so that names decided.
    """

    pairs: tuple[Pair, ...]
    several: int = 0


def find_renames(a: Source, b: Source, removed: Sequence[str], added: Sequence[str]) -> Renames:
    """Pair keys of A with keys of B that hold tensors of equal dtype, shape and bytes.

    Only tensors are read that have a counterpart of their dtype and shape, and only their first bytes
    when those differ already. Where several keys hold equal content, the pairs are those
    that the renames of the others suggest, then those whose names end alike, then those that come in order.

    Args:
        a, b: the checkpoints.
        removed: the keys that only A has.
        added: the keys that only B has.

    Raises:
        FormatError: a file is damaged.
    """
    old, new = _Side(a, removed), _Side(b, added)
    groups = [(old.keys, new.keys)]
    for mark in (_Side.info, _Side.sample, _Side.content):
        groups = [
            split
            for group in groups
            for split in _split([(mark(old, k), k) for k in group[0]], [(mark(new, k), k) for k in group[1]])
        ]
    sure = [(one[0], two[0]) for one, two in groups if len(one) == len(two) == 1]
    unsure = [group for group in groups if len(group[0]) > 1 or len(group[1]) > 1]
    learned = rewrites(sure, removed, added) if unsure else ()
    chosen = [pair for group in unsure for pair in _by_name(*group, learned)]
    place = {key: number for number, key in enumerate(removed)}
    return Renames(tuple(sorted([*sure, *chosen], key=lambda pair: place[pair[0]])), len(chosen))


class _Side:
    """The candidates of one checkpoint, read once each, tied ones once together."""

    def __init__(self, source: Source, keys: Iterable[str]) -> None:
        self.source = source
        self.keys = [
            key for key in keys if source.signature[key].kind == "tensor" and _has_bytes(source, key)
        ]
        self._first = {key: group[0] for group in source.signature.tied for key in group}
        self._samples: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}

    def info(self, key: str) -> TensorInfo:
        return self.source.signature[key]

    def sample(self, key: str) -> bytes:
        holder = self._first.get(key, key)
        if holder not in self._samples:
            chunk = bytes(next(iter(row_major_bytes(self.source, holder)), b"")[:SAMPLE])
            self._samples[holder] = hashlib.sha256(chunk).digest()
        return self._samples[holder]

    def content(self, key: str) -> str:
        holder = self._first.get(key, key)
        if holder not in self._hashes:
            self._hashes[holder] = tensor_hash(self.source, holder)
        return self._hashes[holder]


def _has_bytes(source: Source, key: str) -> bool:
    """Whether a tensor has data at all: those of a signature and on the meta device have none."""
    try:
        item(source, key)
    except FormatError:
        return False
    return True


def _split(
    old: Sequence[tuple[object, str]], new: Sequence[tuple[object, str]]
) -> list[tuple[list[str], list[str]]]:
    """Groups of equal marks that both sides have, in order of the old keys."""
    groups: dict[object, tuple[list[str], list[str]]] = {}
    for mark, key in old:
        groups.setdefault(mark, ([], []))[0].append(key)
    for mark, key in new:
        if mark in groups:
            groups[mark][1].append(key)
    return [group for group in groups.values() if group[1]]


def _by_name(old: Sequence[str], new: Sequence[str], learned: Sequence[Rewrite]) -> list[Pair]:
    """Pair keys of equal content by their names."""
    pairs: list[Pair] = []
    left, right = dict.fromkeys(old), dict.fromkeys(new)

    def take(one: str, two: str) -> None:
        pairs.append((one, two))
        del left[one], right[two]

    for key in old:
        found = next((result for rewrite in learned if (result := rewrite.apply(key)) is not None), None)
        if found in right and found is not None:
            take(key, found)
    # Tails of names from the longest on: `net.0.bias` and `0.bias` share two segments.
    longest = max((key.count(".") + 1 for key in (*left, *right)), default=0)
    for length in range(longest, -1, -1):
        tails: dict[tuple[str, ...], list[str]] = {}
        for key in right:
            tails.setdefault(_tail(key, length), []).append(key)
        for key in list(left):
            same = tails.get(_tail(key, length))
            if same:
                take(key, same.pop(0))
    return pairs


def _tail(key: str, length: int) -> tuple[str, ...]:
    parts = key.split(".")
    # A key of fewer segments stands for itself, so that it is no tail of that length.
    return tuple(parts[len(parts) - length :]) if len(parts) >= length else ("", *parts, "")
