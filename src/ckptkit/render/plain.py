"""Blocks as plain text: for pipes, files and dumb terminals. Nothing is ever cut off."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import combining, east_asian_width

from .blocks import Block, Span, Table


def plain(blocks: Iterable[Block]) -> str:
    """The text of blocks, every line ended by a line feed."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Table):
            lines.extend(_table(block))
        else:
            text = "".join(span.text for span in block.spans)
            lines.append((" " * block.indent + text).rstrip())
    return "".join(f"{line}\n" for line in lines)


def width(text: str) -> int:
    """The columns that a text takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _table(table: Table) -> list[str]:
    rows = [[cell.text for cell in row] for row in table.rows]
    if table.header:
        rows.insert(0, [Span(title).text for title in table.header])
    if not rows:
        return []
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            padding = " " * (widths[i] - width(cell))
            cells.append(padding + cell if i in table.right else cell + padding)
        lines.append((" " * table.indent + "  ".join(cells)).rstrip())
    return lines
