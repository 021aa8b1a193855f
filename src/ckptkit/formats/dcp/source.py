"""A DCP folder as a `Source`: the nested state_dict that was saved, its tensors put together from pieces."""

from __future__ import annotations

import os
from typing import Any

from ...errors import FormatError
from ...files.mapped import MappedFile
from ...files.regular import undisturbed
from ..base import Storage
from ..pickled import StorageIds, StorageNode, TensorNode, check_beginning, load_pickle, paused_gc
from ..strides import row_major
from ..torch_source import TorchSource
from ..torch_views import ITEMSIZE, readable
from ..torch_zip import describe
from .metadata import NAME, Place, Reader, Stored, StoredTensor
from .parts import DcpBytes, PartFiles

MAX_METADATA = 512 << 20


class _Joined(dict[Any, Any]):
    """A dictionary that was flattened when it was saved, and is built again; those of pickled values stay alone."""


class DcpSource(TorchSource):
    """A folder of torch.distributed.checkpoint.

    Attributes:
        stored: what the folder holds, by flat name.
        parts: access to its part files.
    """

    def __init__(self, file: MappedFile, root: str) -> None:
        path = file.path
        folder = os.path.dirname(path)
        self.stored = Reader(path, _tree_of(file)).read()
        files = PartFiles(folder, _places(self.stored))
        self.parts = DcpBytes(file, files)
        try:
            tree, storages = _tree(path, self.stored, self.parts)
            super().__init__(path, "torch distributed", tree, storages, self.parts, root)
        except BaseException:
            files.close()
            raise
        self.files = (path, *files.paths)

    def check_unchanged(self) -> None:
        super().check_unchanged()
        self.parts.files.check_unchanged()


def open_dcp(path: str, root: str) -> DcpSource:
    """Open a DCP folder by its ``.metadata``; tensors are not read.

    Args:
        path: the ``.metadata`` file.
        root: ``auto``, ``none`` or a dotted path in the nested state_dict that was saved.

    Raises:
        FormatError: it is damaged, a part file is missing or short, or pieces do not tile their tensor.
        RootError: no root, or more than one.
    """
    file = MappedFile(path)
    try:
        with paused_gc(), undisturbed(path):
            return DcpSource(file, root)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise FormatError(f"{path}: it cannot be read: {error.strerror or error}", file=path) from None
        raise


def _tree_of(file: MappedFile) -> Any:
    path, size = file.path, file.size
    if size > MAX_METADATA:
        raise FormatError(f"{path}: metadata of {size} bytes; {MAX_METADATA} are the most", file=path)

    def read(count: int) -> bytes:
        return file.read(0, min(count, size))

    check_beginning(read, size, file=path, what=NAME)
    return load_pickle(read(size), file=path, what=NAME)


def _places(stored: Stored) -> list[Place]:
    places = []
    for entry in stored.entries.values():
        if isinstance(entry, Place):
            places.append(entry)
        else:
            places += [*(piece.place for piece in entry.pieces), *entry.idle]
    return places


def _tree(path: str, stored: Stored, parts: DcpBytes) -> tuple[dict[Any, Any], dict[str, Storage]]:
    tree: dict[Any, Any] = _Joined()
    storages: dict[str, Storage] = {}
    for name, entry in stored.entries.items():
        value = (
            _value(name, entry, parts, storages)
            if isinstance(entry, Place)
            else _tensor(entry, parts, storages)
        )
        node = tree
        *above, last = stored.paths[name]
        for step in above:
            node = node.setdefault(step, _Joined())
            if type(node) is not _Joined:
                break
        if type(node) is not _Joined or last in node:
            raise FormatError(
                f"{path}: not a sound distributed checkpoint: {readable(name)} lies where another entry is",
                file=path,
            )
        node[last] = value
    return {key: _with_lists(value) for key, value in tree.items()}, storages


def _tensor(entry: StoredTensor, parts: DcpBytes, storages: dict[str, Storage]) -> TensorNode:
    key = f"tensor {entry.name}"
    numel = 1
    for size in entry.shape:
        numel *= size
    parts.tensors[key] = entry
    storages[key] = Storage(key, numel * ITEMSIZE[entry.dtype], None)
    node = StorageNode(key, entry.dtype, numel, "cpu")
    return TensorNode(node, 0, entry.shape, row_major(entry.shape), entry.dtype, entry.requires_grad)


def _value(name: str, place: Place, parts: DcpBytes, storages: dict[str, Storage]) -> Any:
    """A value that was pickled: plain data, or what is inert."""
    archive = parts.files.archive(place)
    ids = StorageIds()
    tree, own, swapped = describe(archive, ids)
    # Under keys that no tensor and no other value has.
    prefix = f"value {len(name)} {name} "
    for key, node in ids.storages.items():
        node.key = prefix + key
    for key, storage in own.items():
        storages[prefix + key] = Storage(prefix + key, storage.nbytes, None)
        parts.loose[prefix + key] = (place, key)
        if key in swapped:
            parts.swapped[prefix + key] = swapped[key]
    return tree


def _with_lists(node: Any) -> Any:
    """Lists were flattened like dictionaries, by their positions."""
    if type(node) is not _Joined:
        return node
    inner = {key: _with_lists(value) for key, value in node.items()}
    if inner and all(type(key) is int for key in inner) and sorted(inner) == list(range(len(inner))):
        return [inner[key] for key in sorted(inner)]
    return inner
