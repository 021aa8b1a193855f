"""The report of newer transformers: one row a key, with its kind, and blocks folded as ``{0, 1, 2}`` or ``{0...11}``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product

_KIND = re.compile(r"[|│┃]\s*(MISSING|UNEXPECTED|MISMATCH)\b")
_CELL = re.compile(r"[\w./{}\-,* ]{1,1000}")
_FOLD = re.compile(r"\{([\d,\s.]+)\}")
_FOLDED = 1000  # blocks of one fold


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the keys that it stands for, what is said of them, and the rest of the line."""

    keys: tuple[str, ...]
    kind: str
    rest: str


def rows(text: str, most: int) -> Iterator[Row]:
    """The rows of all tables in a text.

    Args:
        text: cleaned.
        most: how many keys are unfolded of all rows together.
    """
    for line in text.split("\n"):
        kind = _KIND.search(line)
        if kind is None:
            continue
        cell = line[: kind.start()].strip(" \t|│┃")
        if not _CELL.fullmatch(cell):
            continue
        keys = tuple(islice(unfolded(cell), most))
        most -= len(keys)
        yield Row(keys, kind[1], line[kind.end() :])
        if most <= 0:
            return


def unfolded(key: str) -> Iterator[str]:
    """The keys that a folded one stands for, in order; itself when nothing is folded.

    Args:
        key: with ``{0, 1, 2}`` or ``{0...11}`` in any number of places.
    """
    pieces: list[list[str]] = []
    at = 0
    for fold in _FOLD.finditer(key):
        pieces += [[key[at : fold.start()]], _blocks(fold[1]) or [fold[0]]]
        at = fold.end()
    pieces.append([key[at:]])
    return map("".join, product(*pieces))


def _blocks(fold: str) -> list[str]:
    numbers: list[int] = []
    for part in fold.split(","):
        ends = [int(number) for number in re.findall(r"\d+", part)[:2] if len(number) <= 18]
        if ends:
            numbers += range(ends[0], min(ends[-1], ends[0] + _FOLDED - 1) + 1)
    return [str(number) for number in numbers[:_FOLDED]]
