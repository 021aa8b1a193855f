"""An output may never be one of the command's own inputs: not by name, not by link, not as a shard of it."""

from __future__ import annotations

import os
from argparse import Namespace

from ..errors import UsageError


def refuse_inputs(output: str | None, arguments: Namespace, *names: str) -> None:
    """Refuse to write where something is read, ``--overwrite`` or not.

    Args:
        output: a file or folder that is to be written, or None.
        arguments: those of the command.
        names: the arguments that name what is read.

    Raises:
        UsageError: `output` is an input, holds one, or is a part of one.
    """
    for name in names:
        path = getattr(arguments, name, None)
        if output is not None and path is not None and _touches(output, path):
            raise UsageError(
                f"{output} is {'' if _same(output, path) else 'a part of, or holds, '}{path}, which this command reads; "
                "choose another file to write",
                file=output,
            )


def _touches(output: str, path: str) -> bool:
    if not os.path.exists(output) or not os.path.exists(path):
        return False
    if _same(output, path):
        return True
    here, there = os.path.realpath(output), os.path.realpath(path)
    if os.path.isdir(here):
        return there.startswith(here + os.sep)
    # A folder or an index stands for all of its shards.
    folder = (
        there if os.path.isdir(there) else os.path.dirname(there) if there.endswith(".index.json") else None
    )
    return folder is not None and any(
        entry.is_file() and _same(entry.path, output) for entry in os.scandir(folder)
    )


def _same(one: str, other: str) -> bool:
    return os.path.samefile(one, other)
