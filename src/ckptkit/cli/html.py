"""``--html FILE``: what a command shows, as a page beside its usual output."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable

from ..render.blocks import Block, text_lines
from .output import print_note


def add_html(parser: ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument("--html", metavar="FILE", help="also write what is shown as an HTML page")


def write_html(arguments: Namespace, title: str, shown: Callable[[], Iterable[Block] | str]) -> None:
    """Write the page, if it was asked for. A page of ours is replaced, any other file never.

    Args:
        arguments: those of the command.
        title: of the page.
        shown: gives what to show; called for a page only.

    Raises:
        WriteError: the file exists and is no page of ours, or the system refuses.
    """
    path = arguments.html
    if path is None:
        return
    from ..files.atomic import AtomicFile
    from ..files.copy import write_all
    from ..render.page import MARK, page

    content = shown()
    text = page(title, text_lines(content) if isinstance(content, str) else content)
    with AtomicFile(path, overwrite=_is_ours(path, MARK), fsync=False) as file:
        write_all(file.fd, text.encode("utf-8", errors="backslashreplace"), 0)
    for note in (f"wrote {path}", *file.notes):
        print_note(note)


def _is_ours(path: str, mark: str) -> bool:
    from pathlib import Path

    place = Path(path)
    if not place.is_file() or place.is_symlink():
        return False
    with place.open("rb") as file:
        return file.read(len(mark)) == mark.encode()
