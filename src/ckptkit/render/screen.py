"""The terminal: tables and a progress bar with rich, when there is a person to see them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_SLOW = 64 << 20  # bytes; less is written before a bar could be read


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """A table of keys on a terminal; long keys wrap, nothing is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..text import safe

    table = Table(show_header=False, box=None, pad_edge=False)
    styles = ["", "cyan", "green", "dim"]
    for column in range(len(rows[0])):
        table.add_column(overflow="fold", style=styles[column] if column < len(styles) else "")
    for row in rows:
        # Text, not str: keys may look like rich's own markup.
        table.add_row(*(Text(safe(cell)) for cell in row))
    Console(file=sys.stdout, highlight=False).print(table)


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A bar by bytes on stderr while something large is written, and nothing when nobody looks.

    Args:
        total: bytes that will be written.
        what: a word for it.
    """
    if total < _SLOW or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.update(task, advance=count)
