"""Plain text for people: folding of repeated blocks, sizes, plain tables. No colours here."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

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
    groups: dict[tuple[Hashable, ...], dict[tuple[int, ...], str]] = {}
    for key, mark in zip(every, marks, strict=True):
        template: list[str | None] = []
        numbers: list[int] = []
        for part in key.split("."):
            if part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") and len(part) < 10:
                template.append(None)
                numbers.append(int(part))
            else:
                template.append(part)
        groups.setdefault((tuple(template), mark), {})[tuple(numbers)] = key
    order = {key: i for i, key in enumerate(every)}
    folds: list[Fold] = []
    for (template_key, _), members in groups.items():
        assert isinstance(template_key, tuple)
        for block, chosen in _products(list(members.items()), 0):
            parts = iter(block)
            label = ".".join(_numbers(next(parts)) if part is None else str(part) for part in template_key)
            folds.append(Fold(label, tuple(sorted(chosen, key=order.__getitem__))))
    return sorted(folds, key=lambda f: order[f.keys[0]])


Block = tuple[tuple[int, ...], ...]
Row = tuple[tuple[int, ...], str]


def _products(rows: list[Row], depth: int) -> list[tuple[Block, list[str]]]:
    """Split rows of numbers into cartesian products that cover each exactly once, with their keys."""
    if depth == len(rows[0][0]):
        return [((), [key for _, key in rows])]
    rest_of: dict[int, list[Row]] = {}
    for row in rows:
        rest_of.setdefault(row[0][depth], []).append(row)
    merged: dict[Block, tuple[list[int], list[str]]] = {}
    for first, rest in rest_of.items():
        for block, keys in _products(rest, depth + 1):
            firsts, together = merged.setdefault(block, ([], []))
            firsts.append(first)
            together.extend(keys)
    return [((tuple(sorted(firsts)), *block), keys) for block, (firsts, keys) in merged.items()]


def _numbers(choices: tuple[int, ...]) -> str:
    if len(choices) == 1:
        return str(choices[0])
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
    shown = ", ".join(f.label for f in folds[:limit])
    left = sum(len(f.keys) for f in folds[limit:])
    return f"{shown}, and {left} more" if left else shown


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
