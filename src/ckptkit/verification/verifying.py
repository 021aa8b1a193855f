"""`verify`: the whole checkpoint, whatever its format."""

from __future__ import annotations

import os

from ..checkpoint import open as open_checkpoint
from ..content import state_hash
from ..errors import UsageError
from ..files.regular import open_fd
from ..formats.base import Progress, no_progress
from ..formats.dcp.metadata import NAME as METADATA
from ..formats.layouts.finding import Place, beside, find
from ..formats.layouts.layout import Incomplete
from ..formats.shard_names import is_index
from .distributed import look_at_parts
from .finite import not_finite
from .one_file import look
from .report import Damage, Verification
from .sharded import look_at_shards, look_at_unindexed


def verify(
    path: str | os.PathLike[str],
    *,
    root: str = "auto",
    finite: bool = False,
    hash: bool = False,  # noqa: A002
    part: bool = False,
    variant: str | None = None,
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
        part: judge a file that is a part of a checkpoint by itself.
        variant: which weights of a folder that holds several variants of them.
        progress: called with the number of bytes just read.

    Returns:
        What is damaged and where, and what was not understood; `outcome` sums it up, `ok` is true for ``whole``.

    Raises:
        FormatError: there is no such file, it may not be read, it is no regular file; a folder holds no checkpoint,
            or several.
        RootError: with `finite` or `hash`, the root is not there or not unique.
        UsageError: the path is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(
            f"verify looks at files, so it takes a path, not a value of type {type(path).__name__}"
        )
    name = os.fsdecode(path)
    folder = os.path.isdir(name)
    try:
        place = find(name, variant) if folder else Place(os.path.dirname(name), (os.path.basename(name),))
    except Incomplete as error:
        return Verification((Damage(name, error.message),))
    file, taken = os.path.join(place.folder, place.names[0]), place.names
    if len(taken) > 1:
        looked = look_at_unindexed(place.folder, taken, root, progress)
    elif is_index(file):
        os.close(open_fd(file))
        looked, shards = look_at_shards(file, root, progress)
        taken += shards
    elif os.path.basename(file) == METADATA:
        os.close(open_fd(file))
        looked = look_at_parts(file, root, progress)
    else:
        looked = look(file, root, progress)
    notes = [*looked.notes, *place.notes]
    if folder or len(taken) > 1:
        notes += beside(place.folder, taken)
    problems, digest = list(looked.problems), None
    if looked.part is not None and not part:
        words = (
            f"is {looked.part}; verify the whole, or this part by itself with --part (part=True in Python)"
        )
        problems.append(Damage(file, words, evident=False))
    if (finite or hash) and problems:
        why = Verification(tuple(problems)).outcome
        notes.append(f"values were not looked at, since the checkpoint is {why}")
    elif finite or hash:
        with open_checkpoint(name, root, part=part, variant=variant) as checkpoint:
            problems += not_finite(checkpoint.source, progress) if finite else ()
            digest = state_hash(checkpoint.source, progress) if hash and not problems else None
    return Verification(tuple(problems), digest, tuple(notes), looked.files, looked.tensors, looked.nbytes)
