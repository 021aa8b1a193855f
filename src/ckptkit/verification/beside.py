"""Weight files beside the ones that a checkpoint is made of: of another sharding, format or time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..files.atomic import is_temporary
from ..text import quote_list

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json")


def beside(folder: str, taken: Sequence[str]) -> list[str]:
    """A note about the weight files of a folder that are not `taken`, by name; none when there are none.

    Args:
        folder: where to look; empty for the current one.
        taken: names of the files that were looked at; the first one led to the others.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder or ".") if not entry.is_dir())
    except OSError:
        return []
    others = [
        name
        for name in names
        if name.lower().endswith(_WEIGHTS) and name not in taken and not is_temporary(name)
    ]
    return [f"{taken[0]} was taken; the folder also holds {quote_list(others)}"] if others else []
