"""One layout that a tool writes, and what was found in a folder that has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import FormatError
from ...text import quote_list
from .folder import Folder


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoint in a folder.

    Args:
        names: one file or folder in it; or the shards of one checkpoint that has no index.
        note: what a person should be told about the choice.
    """

    names: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """An entry of the table. All texts stand in the docs as they are.

    Args:
        name: of what the folder is: "a diffusers pipeline".
        markers: the names or contents that tell it.
        checkpoint: what is opened.
        beside: what lies beside the weights and is none of them.
        refused: what is refused, and the next step; empty when nothing is.
        look: finds the checkpoint in a folder; None when the folder has another layout.
    """

    name: str
    markers: str
    checkpoint: str
    beside: str
    refused: str
    look: Callable[[Folder], Found | None]


class Incomplete(FormatError):
    """A folder in which files of the checkpoint are missing."""


def refusal(folder: Folder, what: str, step: str, error: type[FormatError] = FormatError) -> FormatError:
    """The error that says what a folder is, and what to do instead.

    Args:
        folder: which.
        what: completes "the folder is" or "the folder holds".
        step: what to do, as an imperative.
        error: its type.
    """
    return error(f"{folder.path}: the folder {what}; {step}", file=folder.path)


def paths(folder: Folder, names: Sequence[str], most: int = 4) -> str:
    """Names in a folder as paths, so that one of them can be pasted."""
    return quote_list([folder.join(name) for name in names], most)
