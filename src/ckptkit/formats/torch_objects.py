"""A torch file's tree with its objects shown as what they amount to, opened."""

from __future__ import annotations

from typing import Any

from .base import Storage
from .described import describe
from .torch_bytes import Bytes
from .torch_source import TorchSource


def shown(
    kind: str, tree: Any, storages: dict[str, Storage], data: Bytes, root: str, *, frozen: str = ""
) -> TorchSource:
    """Open what a pickle describes.

    Args:
        kind: the format's name.
        tree: as the pickle describes it; it is changed.
        storages: those of the file, by key; those of arrays are added.
        data: access to their bytes.
        root: ``auto``, ``none`` or a dotted path.
        frozen: what the file is, when it holds more than could be written.

    Raises:
        FormatError, RootError: as `TorchSource` does.
    """
    tree, data.inline = describe(tree)
    storages |= {key: Storage(key, len(held), None) for key, held in data.inline.items()}
    source = TorchSource(data.path, kind, tree, storages, data, root)
    if frozen:
        source.frozen = frozen
        source.notes = (
            *source.notes,
            *(() if source.notes else (f"a {frozen}: its weights are read, its program is not",)),
        )
    return source
