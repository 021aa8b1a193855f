"""What differs between two checkpoints: prints for people, dumps to JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, NamedTuple

from .text import fold, one_line, table

Shape = tuple[int, ...]
SHOWN = 20  # rows of values, and rewrites of a rule, before the rest is counted


class Renamed(NamedTuple):
    """A tensor that has one key in A and another one in B."""

    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ShapeChange:
    """A key of both whose shapes differ."""

    key: str
    a: Shape
    b: Shape


@dataclass(frozen=True, slots=True)
class DtypeChange:
    """A key of both whose dtypes differ; ``object`` is the dtype of an entry that is no tensor."""

    key: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class ValueChange:
    """How the values under one key compare; the figures are None where there are no numbers to compare.

    Args:
        key: the key, in both.
        equal: equal bit for bit; where dtypes differ, equal as numbers.
        max_abs: the largest absolute difference.
        rel_l2: the L2 norm of the difference, divided by that of A's values.
        cosine: the cosine of the angle between both, taken as vectors.
        nan: how many values are NaN, in A and in B.
        inf: how many values are infinite, in A and in B.
    """

    key: str
    equal: bool
    max_abs: float | int | None = None
    rel_l2: float | None = None
    cosine: float | None = None
    nan: tuple[int, int] | None = None
    inf: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of the document; NaN and infinities are strings."""
        return {
            "key": self.key,
            "equal": self.equal,
            "max_abs": _number(self.max_abs),
            "rel_l2": _number(self.rel_l2),
            "cosine": _number(self.cosine),
            "nan": None if self.nan is None else list(self.nan),
            "inf": None if self.inf is None else list(self.inf),
        }


@dataclass(frozen=True)
class DiffReport:
    """What differs between checkpoint A and checkpoint B.

    Args:
        compared: ``structure`` (keys, shapes, dtypes) or ``values``.
        added: keys that only B has.
        removed: keys that only A has.
        renamed: keys in A and in B of equal content; they count as neither added nor removed.
        shape: keys of both whose shapes differ.
        dtype: keys of both whose dtypes differ.
        values: with ``values``, one entry per key of both whose shapes are equal.
        rules: a remap of A by these does the renames, as plain data.
        notes: what a person should be told besides.
        names: what A and B are called.
    """

    compared: Literal["structure", "values"]
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    shape: tuple[ShapeChange, ...] = ()
    dtype: tuple[DtypeChange, ...] = ()
    values: tuple[ValueChange, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    names: tuple[str, str] = field(default=("A", "B"))

    @property
    def same(self) -> bool:
        """Whether nothing differs in what was compared; the order of keys is not compared."""
        structure = (self.added, self.removed, self.renamed, self.shape, self.dtype)
        return not any(structure) and all(change.equal for change in self.values)

    def to_json(self) -> dict[str, Any]:
        """The ``ckptkit.diff`` document."""
        return {
            "format": "ckptkit.diff",
            "version": 1,
            "compared": self.compared,
            "same": self.same,
            "added": list(self.added),
            "removed": list(self.removed),
            "renamed": [{"a": a, "b": b} for a, b in self.renamed],
            "shape": [{"key": s.key, "a": list(s.a), "b": list(s.b)} for s in self.shape],
            "dtype": [{"key": d.key, "a": d.a, "b": d.b} for d in self.dtype],
            "values": [change.to_json() for change in self.values],
            "rules": list(self.rules),
            "notes": list(self.notes),
        }

    def headline(self) -> str:
        """One line: whether anything differs, and how much of what."""
        if self.same:
            if self.compared == "values":
                return "identical: same structure, and every value is equal"
            return "same structure (values were not compared; --values, or values=True, does)"
        counts = (
            (len(self.added), "added"),
            (len(self.removed), "removed"),
            (len(self.renamed), "renamed"),
            (len(self.shape), "of another shape"),
            (len(self.dtype), "of another dtype"),
            (sum(not change.equal for change in self.values), "with other values"),
        )
        return "different: " + ", ".join(f"{count} {words}" for count, words in counts if count)

    def __str__(self) -> str:
        lines = [f"A: {one_line(self.names[0])}", f"B: {one_line(self.names[1])}", self.headline()]
        lines += _group("added (in B only)", self.added)
        lines += _group("removed (in A only)", self.removed)
        lines += self._renames()
        lines += _changes("shape", [(s.key, str(list(s.a)), str(list(s.b))) for s in self.shape])
        lines += _changes("dtype", [(d.key, d.a, d.b) for d in self.dtype])
        lines += self._values()
        lines += [f"note: {one_line(note)}" for note in self.notes]
        return "\n".join(lines)

    def _renames(self) -> list[str]:
        if not self.renamed:
            return []
        lines = [f"renamed (equal content under another key): {len(self.renamed)}"]
        target = dict(self.renamed)
        # Blocks fold together when the same blocks of both sides do.
        for old in fold(target, (_without_numbers(new) for new in target.values())):
            new = fold(target[key] for key in old.keys)
            if len(new) == 1:
                lines.append(f"  {old.label} -> {new[0].label}{_times(old.keys)}")
            else:
                lines += [f"  {one_line(key)} -> {one_line(target[key])}" for key in old.keys]
        if self.rules:
            lines.append("rules that do so, for a remap of A:")
            for rule in self.rules:
                lines += _rule(rule)
        return lines

    def _values(self) -> list[str]:
        changed = [change for change in self.values if not change.equal]
        if not changed:
            return []
        changed.sort(key=_worst_first)
        rows = [["", "max abs", "rel L2", "cosine", "NaN A|B", "Inf A|B"]]
        for c in changed[:SHOWN]:
            figures = [_shown(c.max_abs), _shown(c.rel_l2), _shown(c.cosine), _pair(c.nan), _pair(c.inf)]
            rows.append([one_line(c.key), *figures])
        text = table(rows, right=(1, 2, 3, 4, 5))
        lines = [
            f"values differ: {len(changed)} of {len(self.values)}",
            *(f"  {r}" for r in text.split("\n")),
        ]
        if len(changed) > SHOWN:
            lines.append(f"  and {len(changed) - SHOWN} more, which differ less; --json lists all")
        return lines

    def _repr_html_(self) -> str:
        color = "#1a7f37" if self.same else "#b42318"
        return (
            f'<div style="font-family:monospace"><div style="color:{color};font-weight:bold">'
            f'{escape(self.headline())}</div><pre style="margin:0">{escape(str(self))}</pre></div>'
        )


def _number(value: float | None) -> float | int | str | None:
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _pair(counts: tuple[int, int] | None) -> str:
    if counts is None or counts == (0, 0):
        return "-"
    return f"{counts[0]}|{counts[1]}"


def _worst_first(change: ValueChange) -> tuple[bool, float]:
    """NaN and what has no figures stand above every number."""
    distance = change.rel_l2
    plain = distance is not None and not math.isnan(distance)
    return (plain, -distance if plain and distance is not None else 0.0)


def _group(title: str, keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    return [f"{title}: {len(keys)}", *(f"  {row.label}{_times(row.keys)}" for row in fold(keys))]


def _changes(title: str, changes: Sequence[tuple[str, str, str]]) -> list[str]:
    if not changes:
        return []
    by_key = {key: (a, b) for key, a, b in changes}
    lines = [f"{title} differs: {len(changes)}"]
    for row in fold(by_key, by_key.values()):
        a, b = by_key[row.keys[0]]
        lines.append(f"  {row.label}  {a} -> {b}{_times(row.keys)}")
    return lines


def _times(keys: Sequence[str]) -> str:
    return f"  x{len(keys)}" if len(keys) > 1 else ""


def _without_numbers(key: str) -> str:
    return ".".join("0" if part.isascii() and part.isdigit() else part for part in key.split("."))


def _rule(rule: dict[str, Any]) -> list[str]:
    """A rename rule as YAML."""
    if "pairs" not in rule:
        pattern, replacement = _quoted(rule["pattern"]), _quoted(rule["replacement"])
        return [f"  - {{op: rename, pattern: {pattern}, replacement: {replacement}}}"]
    lines = ["  - op: rename", "    pairs:"]
    lines += [
        f"    - [{_quoted(pattern)}, {_quoted(replacement)}]"
        for pattern, replacement in rule["pairs"][:SHOWN]
    ]
    if len(rule["pairs"]) > SHOWN:
        lines.append(f"    # and {len(rule['pairs']) - SHOWN} more; --json lists all")
    return lines


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and "'" not in text:
        return f"'{text}'"
    return json.dumps(text)
