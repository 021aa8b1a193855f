"""What the files of a model folder are: its checkpoint, others that were passed over, what lies beside the weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ..errors import FormatError
from ..files.atomic import is_temporary
from ..files.carrying import is_weight_file
from ..text import quote_list
from .shard_names import NUMBERED, WEIGHTS


def find_in_folder(folder: str) -> str:
    """The one checkpoint in a folder: its index, or its only weight file.

    Raises:
        FormatError: none, or several that are not one checkpoint.
    """
    try:
        # A folder with the name of a file is none; following it could lead in circles.
        names = [name for name in sorted(os.listdir(folder)) if not os.path.isdir(os.path.join(folder, name))]
    except OSError as error:
        raise FormatError(f"{folder}: the folder cannot be read: {error.strerror}", file=folder) from None
    for pick in (
        [n for n in names if n.endswith(".safetensors.index.json")],
        [n for n in names if n == "model.safetensors"],
        [n for n in names if n.endswith(".index.json")],
        [n for n in names if n == "pytorch_model.bin"],
        [n for n in names if n.lower().endswith(WEIGHTS) and not is_temporary(n)],
        [n for n in names if n == ".metadata"],
    ):
        if len(pick) == 1:
            return os.path.join(folder, pick[0])
        if pick:
            raise FormatError(
                f"{folder}: the folder holds {len(pick)} checkpoints ({quote_list(pick)}) and no index; name one of them",
                file=folder,
            )
    if any(name.endswith(".distcp") for name in names):
        raise FormatError(
            f"{folder}: the folder holds parts of a distributed checkpoint and no .metadata, which is written last: the "
            "save was interrupted; take an earlier one",
            file=folder,
        )
    raise FormatError(
        f"{folder}: the folder holds no checkpoint (looked for *.index.json, {', '.join('*' + s for s in WEIGHTS)})",
        file=folder,
    )


def not_taken(folder: str, taken: Sequence[str]) -> list[str]:
    """The other checkpoints in a folder, which a person should know were passed over.

    Args:
        folder: the folder.
        taken: the paths of every file that was opened.
    """
    own = {os.path.basename(path) for path in taken}
    return [
        entry.name
        for entry in sorted(os.scandir(folder), key=lambda e: e.name)
        if entry.name.lower().endswith((*WEIGHTS, ".index.json"))
        and entry.name not in own
        and not NUMBERED.search(entry.name)
        and not is_temporary(entry.name)
        and not entry.is_dir()
    ]


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
    return is_weight_file(name) or is_temporary(name) or name == ".metadata" or name.endswith(".distcp")
