"""Blocks on a terminal, with rich: colours, tables that wrap instead of running over, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from .blocks import Block, Line, Span, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE = 72  # columns from which on the figures of a table have room
_LOOKS = {
    "": "",
    "title": "bold",
    "key": "",
    "shape": "cyan",
    "dtype": "green",
    "number": "bold",
    "dim": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
}


def show(blocks: Iterable[Block], stream: TextIO) -> None:
    """Write blocks to a terminal.

    Args:
        blocks: what to show.
        stream: the terminal; its width, and ``NO_COLOR`` and ``TERM``, are honoured.
    """
    console = _console(stream)
    for block in blocks:
        if isinstance(block, Table):
            _show_table(console, block)
        else:
            _show_line(console, block)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def _text(spans: Iterable[Span]) -> Text:
    from rich.text import Text

    text = Text()
    for span in spans:
        text.append(span.text, _LOOKS[span.style])
    return text


def _show_line(console: Console, line: Line) -> None:
    from rich.padding import Padding

    text = _text(line.spans)
    text.overflow = "fold"
    if line.indent and console.width > 2 * line.indent:
        console.print(Padding(text, (0, 0, 0, line.indent), expand=False))
    else:
        console.print(text)


def _show_table(console: Console, table: Table) -> None:
    from rich.padding import Padding
    from rich.table import Table as RichTable

    grid = RichTable(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(table.header), header_style="dim"
    )
    columns = len(table.rows[0]) if table.rows else len(table.header)
    for i in range(columns):
        title = Span(table.header[i]).text if table.header else ""
        # Names wrap on a narrow terminal; numbers do so only when there is no room for anything else.
        number = i in table.right and console.width >= WIDE
        grid.add_column(
            title, justify="right" if i in table.right else "left", overflow="fold", no_wrap=number
        )
    for row in table.rows:
        grid.add_row(*(_text([cell]) for cell in row))
    if table.indent and console.width > 40:
        console.print(Padding(grid, (0, 0, 0, table.indent), expand=False))
    else:
        console.print(grid)


@contextmanager
def progress_bar(stream: TextIO, total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar that counts bytes, gone when it is done.

    Args:
        stream: the terminal.
        total: how many bytes there will be.
        label: what is being done.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[Any] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(
        *columns, console=_console(stream), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(Span(label).text, total=total)
        yield lambda count: progress.update(task, advance=count)
