"""Plain text for people: folding of repeated blocks, sizes, plain tables. No colours here."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_QUOTED = 200  # characters of somebody's text in a message


@dataclass(frozen=True, slots=True)
class Fold:
    """Keys that differ only in block numbers.

    Args:
        label: e.g. ``layers.{0..31}.attn.q.weight``; control characters in it are escaped.
        keys: the keys it stands for, in their order.
    """

    label: str
    keys: tuple[str, ...]


def fold(keys: Iterable[str], same: Iterable[Hashable] | None = None) -> list[Fold]:
    """Fold the keys of repeated blocks into one label each; every label stands for exactly its keys.

    Args:
        keys: the keys, in the order to show.
        same: one value per key (its shape and dtype, say); only keys with equal values fold together.

    Returns:
        Folds in order of their first key.
    """
    every = list(keys)
    marks: list[Hashable] = list(same) if same is not None else [None] * len(every)
    groups: dict[tuple[Hashable, ...], list[_Row]] = {}
    for key, mark in zip(every, marks, strict=True):
        template: list[str | None] = []
        numbers: list[int] = []
        for part in key.split("."):
            if part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") and len(part) < 10:
                template.append(None)
                numbers.append(int(part))
            else:
                template.append(part)
        groups.setdefault((tuple(template), mark), []).append((tuple(numbers), key))
    order = {key: i for i, key in enumerate(every)}
    folds: list[Fold] = []
    for (template_key, _), rows in groups.items():
        assert isinstance(template_key, tuple)
        for choices, keys in _products(rows):
            parts = iter(choices)
            label = ".".join(_numbers(next(parts)) if part is None else str(part) for part in template_key)
            folds.append(Fold(label, keys if len(keys) == 1 else tuple(sorted(keys, key=order.__getitem__))))
    return sorted(folds, key=lambda f: order[f.keys[0]])


_Row = tuple[tuple[int, ...], str]
_Choice = int | tuple[int, ...]
# The first row, a mark for the choices after the place in work, the wide ones of these, and the keys.
_Block = tuple[int, int, tuple[Any, ...], tuple[str, ...]]
_Product = tuple[Sequence[_Choice], tuple[str, ...]]


def _products(rows: list[_Row]) -> list[_Product]:
    """Split rows of numbers into cartesian products that cover each exactly once, with their keys.

    From the last number to the first, rows that agree before it and after it become one block. There is
    no recursion, and each number is looked at a few times: a key has as many as a file likes.
    """
    if len(rows) == 1:
        return [(rows[0][0], (rows[0][1],))]
    columns = list(zip(*(numbers for numbers, _ in rows), strict=True))
    varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    # For each varying place, a mark for each row: equal marks where the numbers before are equal.
    before = [[0] * len(rows)]
    for place in varying[:-1]:
        marks: dict[tuple[int, int], int] = {}
        before.append(
            [marks.setdefault(pair, len(marks)) for pair in zip(before[-1], columns[place], strict=True)]
        )
    blocks: list[_Block] = [(row, 0, (), (key,)) for row, (_, key) in enumerate(rows)]
    for place, prefix in zip(reversed(varying), reversed(before), strict=True):
        column = columns[place]
        joined: dict[tuple[int, int], list[_Block]] = {}
        for block in blocks:
            joined.setdefault((prefix[block[0]], block[1]), []).append(block)
        rests: dict[tuple[_Choice, int], int] = {}
        blocks = []
        for parts in joined.values():
            row, rest, wide, keys = parts[0]
            choice: _Choice = column[row]
            if len(parts) > 1:
                choice = tuple(sorted(column[part[0]] for part in parts))
                wide = ((place, choice), wide)
                keys = tuple(key for part in parts for key in part[3])
            blocks.append((row, rests.setdefault((choice, rest), len(rests)), wide, keys))
    products: list[_Product] = []
    for row, _, wide, keys in blocks:
        choices: list[_Choice] = list(rows[row][0])
        while wide:
            (place, choice), wide = wide
            choices[place] = choice
        products.append((choices, keys))
    return products


def _numbers(choices: _Choice) -> str:
    if isinstance(choices, int):
        return str(choices)
    runs: list[str] = []
    start = previous = choices[0]
    for number in (*choices[1:], -1):
        if number != previous + 1:
            runs.append(str(start) if start == previous else f"{start}..{previous}")
            start = number
        previous = number
    return "{" + ",".join(runs) + "}"


def folded(keys: Iterable[str], limit: int = 8) -> str:
    """Keys folded into one line, at most `limit` labels, the rest counted."""
    folds = fold(keys)
    shown = ", ".join(clipped(f.label) for f in folds[:limit])
    left = sum(len(f.keys) for f in folds[limit:])
    return f"{shown}, and {left} more" if left else shown


def counted(count: int, noun: str) -> str:
    """A number of things: ``one tensor``, ``3 tensors``."""
    return f"one {noun}" if count == 1 else f"{count} {noun}s"


def human_bytes(count: int) -> str:
    """A number of bytes in powers of 1000, as the Hugging Face tools show them: ``4.9 GB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value:.1f} EB"


def human_count(count: int) -> str:
    """A number of parameters: ``950``, ``22.7M``, ``6.74B``."""
    if count < 1000:
        return str(count)
    value = float(count)
    for unit in ("K", "M", "B"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value / 1000:.3g}T"


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns padded to equal width, two spaces apart; the columns listed in `right` are right-aligned."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def quote_list(keys: Sequence[str], limit: int = 5) -> str:
    """Keys in quotes, at most `limit`, the rest counted."""
    shown = ", ".join(map(quoted, keys[:limit]))
    return f"{shown} and {len(keys) - limit} more" if len(keys) > limit else shown


class _Quoting(reprlib.Repr):
    """Bounded whatever the value is; never an error of its own, as Python's `repr` gives for long integers."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, MAX_QUOTED, MAX_QUOTED
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 8

    def repr_int(self, number: int, level: int) -> str:
        return repr(number) if number.bit_length() <= 128 else f"<a number of {number.bit_length()} bits>"


_QUOTING = _Quoting()


def quoted(value: object) -> str:
    """A value in a message as Python writes it, its middle left out where it is long.

    Args:
        value: a key, a pattern, or whatever stood in a file: of any type and size.
    """
    return _QUOTING.repr(value)


def single_quoted(text: str) -> str:
    """A text as YAML takes it in single quotes, backslashes as they are, its end left out where it is long."""
    return "'" + one_line(clipped(text)).replace("'", "''") + "'"


def clipped(text: str) -> str:
    """Somebody's words in a message: the first 200 characters."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def safe(text: str) -> str:
    """Text with everything escaped that could move a cursor, change colours or reorder characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def one_line(text: str) -> str:
    """`safe` text whose line feeds are escaped too, so that a key cannot pretend to be another line."""
    return safe(text).replace("\n", "\\n")


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
