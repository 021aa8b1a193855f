"""From a folder to the checkpoint in it, and to what lies beside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ...errors import FormatError, UnsupportedFormatError
from ...files.atomic import is_temporary
from ...files.carrying import is_weight_file
from ...text import quote_list
from ..shard_names import WEIGHTS, is_index
from .folder import Folder
from .layout import Found, Incomplete, paths, refusal
from .table import TABLE
from .weights import is_companion, weight_names

_DEEPEST = 8  # folders that lead to one another, or lie in one another
_MOST_FOLDERS = 500  # that are looked at for one that holds a checkpoint


@dataclass(frozen=True, slots=True)
class Place:
    """Where the checkpoint of a folder lies.

    Args:
        folder: the innermost folder, which holds its files.
        names: the file to open in it; or several numbered shards without an index.
        notes: what a person should be told about the choice.
    """

    folder: str
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The files to open."""
        return tuple(os.path.join(self.folder, name) for name in self.names)


def find(path: str, variant: str | None = None) -> Place:
    """The one checkpoint in a folder.

    Args:
        path: the folder.
        variant: ``fp16`` and the like, for weights that a folder holds in several; None for the plain ones.

    Raises:
        FormatError: none, several that are not one checkpoint, or a layout that is not read; says the next step.
    """
    folder, notes = Folder(path, variant), []
    for _ in range(_DEEPEST):
        found = _look(folder)
        if found is None:
            _nothing(folder)
        notes += [found.note] if found.note else []
        inner = os.path.join(folder.path, found.names[0])
        if len(found.names) > 1 or not os.path.isdir(inner):
            where = os.path.dirname(inner)
            return Place(where, tuple(os.path.basename(name) for name in found.names), tuple(notes))
        folder = Folder(inner, variant)
    raise FormatError(f"{path}: the folder leads through more than {_DEEPEST} others", file=path)


def _look(folder: Folder) -> Found | None:
    for layout in TABLE:
        found = layout.look(folder)
        if found is not None:
            return found
    return None


def _nothing(folder: Folder) -> NoReturn:
    """Say what there is instead of a checkpoint.

    Raises:
        FormatError: always.
    """
    if not folder.names:
        raise refusal(folder, "holds no checkpoint: it is empty", "give the folder that holds the checkpoint")
    inside = _inside(folder)
    holding = [name for name, error in inside if not isinstance(error, Incomplete | UnsupportedFormatError)]
    if holding:
        last = _last(holding)
        raise refusal(
            folder,
            f"holds no checkpoint itself, but {quote_list(holding)} in it "
            + ("does" if len(holding) == 1 else "do" if last is None else f"do; the last is {last!r}"),
            f"name one of them: {paths(folder, holding)}"
            if last is None
            else f"open {paths(folder, [last])}",
        )
    for kind in (Incomplete, UnsupportedFormatError):
        error = next((error for _, error in inside if isinstance(error, kind)), None)
        if error is not None:
            raise error
    beside = [name for name in folder.files if is_companion(name)]
    if beside:
        raise refusal(
            folder,
            f"holds no weights, only what a trainer saves beside them ({quote_list(beside)})",
            "fetch the weights, or name one of these files",
        )
    raise FormatError(
        f"{folder.path}: the folder holds no checkpoint (looked for *.index.json, {', '.join('*' + s for s in WEIGHTS)}); "
        "give the folder or the file that is one",
        file=folder.path,
    )


def _inside(folder: Folder) -> list[tuple[str, FormatError | None]]:
    """The folders in one, however deep, that are recognised: those of the first depth that has some, with their errors."""
    level, looked = [""], 0
    for _ in range(_DEEPEST):
        found: list[tuple[str, FormatError | None]] = []
        deeper: list[str] = []
        for above in level:
            names = folder.enter(above).folders if above else folder.folders
            for name in (os.path.join(above, name) for name in names if not name.startswith(".")):
                looked += 1
                if looked > _MOST_FOLDERS:
                    return found
                error: FormatError | None = None
                try:
                    inner = folder.enter(name)
                    holds = _look(inner) is not None
                except FormatError as refused:
                    error, holds = refused, True
                if holds:
                    found.append((name, error))
                else:
                    deeper.append(name)
        if found or not deeper:
            return found
        level = deeper
    return []


def _last(names: Sequence[str]) -> str | None:
    """The one with the highest number, of names that differ in nothing else; None of others, unless it is one alone."""
    if len({re.sub(r"\d+", "#", name) for name in names}) == 1:
        return max(names, key=lambda name: [int(number) for number in re.findall(r"\d{1,18}", name)])
    return names[0] if len(names) == 1 else None


def beside(folder: str, taken: Sequence[str]) -> list[str]:
    """A note about the other checkpoints in a folder, which were passed over; none when there are none.

    Args:
        folder: where to look; empty for the current one.
        taken: the names or paths of the files that were opened; the first one led to the others.
    """
    own = {os.path.basename(path) for path in taken}
    try:
        others = [name for name in weight_names(Folder(folder)) if name not in own]
    except FormatError:
        return []
    return (
        [f"{os.path.basename(taken[0])} was taken; the folder also holds {quote_list(sorted(others))}"]
        if others
        else []
    )


def companions(folder: str, own: Iterable[str]) -> tuple[str, ...]:
    """What lies beside the weights in a model folder: config.json, the tokenizer, folders (with a final /).

    Args:
        folder: the folder; empty for the current one.
        own: the paths of every file that was opened. Shards may have any name, and are not told by it alone.
    """
    opened = {os.path.basename(path) for path in own}
    found = []
    for entry in sorted(os.scandir(folder or "."), key=lambda e: e.name):
        if entry.is_dir() and not entry.name.startswith("."):
            found.append(os.path.join(folder, entry.name, ""))
        elif entry.is_file() and entry.name not in opened and not _belongs(entry.name):
            found.append(os.path.join(folder, entry.name))
    return tuple(found)


def _belongs(name: str) -> bool:
    """Whether a file is part of a checkpoint, or of one that was never finished."""
    return (
        is_weight_file(name)
        or is_index(name)
        or is_temporary(name)
        or name == ".metadata"
        or name.endswith(".distcp")
    )
