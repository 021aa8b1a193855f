"""An output may never be one of the command's own inputs: not by name, not by link, not as a shard of it."""

from __future__ import annotations

import os
from argparse import Namespace

from ..errors import UsageError
from ..formats.shard_names import is_index

OUTPUTS = {"target": "DST", "save_plan": "--save-plan", "output": "-o", "html": "--html"}


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


def refuse_twice(arguments: Namespace, *names: str) -> None:
    """Refuse to write one file twice, the second over the first.

    Args:
        arguments: those of the command.
        names: the arguments that name what is written.

    Raises:
        UsageError: two of them are one file, whether it is there yet or not.
    """
    seen: dict[str, str] = {}
    for name in names:
        path = getattr(arguments, name, None)
        if not path:
            continue
        first = seen.setdefault(os.path.realpath(path), name)
        if first != name:
            raise UsageError(
                f"{path} would be written twice, as {OUTPUTS[first]} and as {OUTPUTS[name]}; give each a file of its own",
                file=path,
            )


def _touches(output: str, path: str) -> bool:
    if not os.path.exists(output) or not os.path.exists(path):
        return False
    if _same(output, path):
        return True
    here, there = os.path.realpath(output), os.path.realpath(path)
    if os.path.isdir(here):
        return there.startswith(here + os.sep)
    return any(
        entry.is_file() and _same(entry.path, output)
        for folder in _folders(path, there)
        for entry in os.scandir(folder)
    )


def _folders(path: str, real: str) -> set[str]:
    """What stands for all that lies beside it: a folder, an index, the metadata of a distributed checkpoint.

    An index may be a link, whose shards lie beside the link and not beside what it points to.
    """
    if os.path.isdir(real):
        return {real}
    names = (os.path.abspath(path), real)
    if not any(is_index(n) or os.path.basename(n) == ".metadata" for n in names):
        return set()
    return {os.path.dirname(name) for name in names}


def _same(one: str, other: str) -> bool:
    return os.path.samefile(one, other)
