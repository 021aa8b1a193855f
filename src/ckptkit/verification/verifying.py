"""`verify`: the whole checkpoint, whatever its format."""

from __future__ import annotations

import os

from ..checkpoint import open as open_checkpoint
from ..content import state_hash
from ..errors import UsageError
from ..files.regular import open_fd
from ..formats.base import Progress, no_progress
from ..formats.dcp.metadata import NAME as METADATA
from ..formats.model_folder import find_in_folder
from .beside import beside
from .distributed import look_at_parts
from .finite import not_finite
from .one_file import look
from .report import Verification
from .sharded import look_at_shards


def verify(
    path: str | os.PathLike[str],
    *,
    root: str = "auto",
    finite: bool = False,
    hash: bool = False,  # noqa: A002
    progress: Progress = no_progress,
) -> Verification:
    """Look at every byte of a checkpoint: the laws of its format, checksums, index against shards.

    A torch file is judged as a file: every tensor in it is proved to lie inside its storage, and every entry of
    the archive is compared with its CRC, whether the weights need it or not. Formats without checksums
    (safetensors, torch before 1.6) are read to the end.

    Args:
        path: a file, an index, or a folder.
        root: where the weights lie in a nested torch file, for `finite`, `hash` and the names of keys.
        finite: count NaN and infinities too; each tensor that has some is a problem.
        hash: give the content hash, which is equal for equal state_dicts in every format, sharding and key order.
        progress: called with the number of bytes just read.

    Returns:
        What is damaged and where; `ok` says whether nothing is.

    Raises:
        FormatError: there is no such file, it may not be read, it is no regular file, or it is known to be something
            else than a checkpoint; with `finite` or `hash`, a whole file that holds no state_dict.
        RootError: with `finite` or `hash`, the root is not there or not unique.
        UsageError: the path is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"verify looks at files, so it takes a path, not a {type(path).__name__}")
    name = os.fsdecode(path)
    file = find_in_folder(name) if os.path.isdir(name) else name
    taken: tuple[str, ...] = (os.path.basename(file),)
    if file.lower().endswith(".index.json"):
        os.close(open_fd(file))
        looked, shards = look_at_shards(file, root, progress)
        taken += shards
    elif os.path.basename(file) == METADATA:
        os.close(open_fd(file))
        looked = look_at_parts(file, root, progress)
    else:
        looked = look(file, root, progress)
    notes = list(looked.notes)
    if file != name or len(taken) > 1:
        notes += beside(os.path.dirname(file), taken)
    problems, digest = list(looked.problems), None
    if (finite or hash) and problems:
        notes.append("values were not looked at, since the checkpoint is damaged")
    elif finite or hash:
        with open_checkpoint(name, root) as checkpoint:
            problems += not_finite(checkpoint.source, progress) if finite else ()
            digest = state_hash(checkpoint.source, progress) if hash and not problems else None
    return Verification(tuple(problems), digest, tuple(notes), looked.files, looked.tensors, looked.nbytes)
