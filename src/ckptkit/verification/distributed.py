"""A distributed checkpoint: its metadata, then every piece of every tensor and every pickled value."""

from __future__ import annotations

import os
from typing import Any

from ..errors import FormatError, RootError
from ..formats.base import NO_ROOT, Progress
from ..formats.dcp.metadata import PART, Piece, Place, StoredTensor
from ..formats.dcp.source import DcpSource, open_dcp
from ..text import quote_list
from .one_file import Looked
from .report import Damage


def look_at_parts(path: str, root: str, progress: Progress) -> Looked:
    """Look at all files of a distributed checkpoint.

    Args:
        path: its ``.metadata``.
        root: where the weights lie, for the names of keys.
        progress: called with the number of bytes just read.
    """
    looked = Looked(files=1, nbytes=os.path.getsize(path))
    try:
        source = open_dcp(path, NO_ROOT)
    except FormatError as error:
        looked.problems.append(Damage(error.file or path, error.message, error.key, error.offset))
        return looked
    try:
        looked.files += len(source.files) - 1
        looked.tensors = source.count_tensors()
        refusal, inside = None, None
        try:
            chosen = source.at(root)
            looked.notes += chosen.notes
            inside = chosen.root_path
        except (FormatError, RootError) as error:
            refusal = error.message.removeprefix(f"{path}: ")
        _pieces(source, inside, looked, progress)
        if refusal is not None:
            looked.notes.append(refusal if looked.problems else f"the file is whole, but {refusal}")
    finally:
        source.close()
    return looked


def _pieces(source: DcpSource, inside: tuple[Any, ...] | None, looked: Looked, progress: Progress) -> None:
    used: dict[str, int] = {}
    for name, entry in source.stored.entries.items():
        *above, last = source.stored.paths[name]
        key = last if inside == tuple(above) else name
        for piece in _parts(entry):
            place = piece if isinstance(piece, Place) else piece.place
            try:
                if isinstance(entry, Place) or isinstance(piece, Place):
                    source.parts.check_value(place)
                else:
                    source.parts.check_piece(entry, piece)
            except FormatError as error:
                file = error.file or source.path or ""
                looked.problems.append(
                    Damage(file, error.message.removeprefix(f"{file}: "), str(key), error.offset)
                )
            used[place.file] = used.get(place.file, 0) + place.length
            looked.nbytes += place.length
            progress(place.length)
    folder = os.path.dirname(source.path or "")
    for name, count in used.items():
        size = os.path.getsize(os.path.join(folder, name))
        if size > count:
            looked.notes.append(
                f"{size - count} of the {size} bytes of {name} belong to nothing that was saved"
            )
    stray = sorted(name for name in os.listdir(folder or ".") if name.endswith(PART) and name not in used)
    if stray:
        looked.notes.append(f"not of this save: {quote_list(stray)}")


def _parts(entry: StoredTensor | Place) -> tuple[Piece | Place, ...]:
    return (entry,) if isinstance(entry, Place) else (*entry.pieces, *entry.idle)
