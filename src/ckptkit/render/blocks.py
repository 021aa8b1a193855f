"""What is shown, before it is known where: lines and tables of styled text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..text import one_line

# What a piece of text is, not what it looks like; `terminal` gives each a look.
STYLES = ("", "title", "key", "shape", "dtype", "number", "dim", "good", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text in one style; its text is made one visible line.

    Args:
        text: anything, also from a hostile file.
        style: one of `STYLES`.
    """

    text: str
    style: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", one_line(self.text))


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Args:
        spans: its pieces, from left to right; none for an empty line.
        indent: columns before it, and before what wraps of it.
    """

    spans: tuple[Span, ...] = ()
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells.

    Args:
        rows: all of one length.
        header: one title per column, or none at all.
        right: numbers of the right-aligned columns.
        indent: columns before it.
    """

    rows: Sequence[Sequence[Span]]
    header: Sequence[str] = ()
    right: frozenset[int] = field(default_factory=frozenset)
    indent: int = 0


Block = Line | Table


def line(*parts: str | Span, indent: int = 0) -> Line:
    """A line of texts and spans."""
    return Line(tuple(part if isinstance(part, Span) else Span(part) for part in parts), indent)


def text_lines(text: str, style: str = "", indent: int = 0) -> list[Block]:
    """One line per line of a text."""
    return [Line((Span(part, style),), indent) for part in text.split("\n")]


def listed(title: Span, names: Iterable[str], style: str = "", limit: int | None = None) -> list[Block]:
    """A title and one indented line per name, at most `limit`, the rest counted."""
    every = list(names)
    blocks: list[Block] = [Line((title,))]
    blocks.extend(Line((Span(name, style),), 2) for name in every[:limit])
    if limit is not None and len(every) > limit:
        blocks.append(Line((Span(f"... and {len(every) - limit} more", "dim"),), 2))
    return blocks
