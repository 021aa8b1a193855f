"""torch's zip format (torch 1.6 and later): ``data.pkl`` beside one entry per storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NoReturn

from ..errors import FormatError, UnsupportedFormatError
from ..files.mapped import MappedFile
from ..files.regular import stamp
from .base import Region, Source, Storage
from .pickled import StorageIds, StorageNode, check_beginning, load_pickle, paused_gc
from .torch_bytes import Bytes
from .torch_objects import shown
from .torch_programs import EXPORT, SCRIPT, export_tree, program_kind, script_tree
from .torch_views import ITEMSIZE
from .unfolding import Parts
from .zip_local import STORED
from .zipfmt import Archive, Entry

MAX_PICKLE = 512 << 20
# A pickle of repeated opcodes deflates far, and unfolds once more into objects; those of models deflate to a fifth.
MAX_INFLATED_PICKLE, FREE, MAX_PICKLE_RATIO = 32 << 20, 1 << 20, 32
SMALL = 1 << 12  # bytes of an entry that only describes the file
MAX_VERSION = 10  # torch::serialize kMaxSupportedFileFormatVersion
_PROGRAM = "it is an archive of a program, where a file of plain tensors belongs"


class ZipBytes(Bytes):
    """Storages as the entries ``data/KEY`` of an archive."""

    def __init__(self, file: MappedFile, swapped: dict[str, int], archive: Archive) -> None:
        super().__init__(file, swapped)
        self.archive = archive

    @cached_property
    def _parts(self) -> Parts:
        return Parts(self.archive, (e for e in self.archive.entries.values() if e.method != STORED))

    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        entry = self.archive.entries[f"data/{key}"]
        if entry.method == STORED or (start == 0 and stop == entry.usize):
            return self.archive.content(entry, start, stop)
        return self._parts.read(entry, start, stop)

    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        self.archive.bad_crc(f"data/{key}", declared, found)


def open_torch_zip(path: str, root: str) -> Source:
    """Open a torch zip file; reads the directory and ``data.pkl`` only.

    Args:
        path: a regular file.
        root: ``auto``, ``none`` or a dotted path.

    Raises:
        FormatError: it is damaged, no torch file, or holds what has no place in a state_dict.
        RootError: no root, or more than one.
    """
    file = MappedFile(path)
    try:
        with paused_gc():
            return _open(file, root)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise FormatError(f"{path}: it cannot be read: {error.strerror or error}", file=path) from None
        raise


def _open(file: MappedFile, root: str) -> Source:
    archive = Archive(file.path, file.fd, owner=file)
    program = program_kind(archive)
    if program == EXPORT:
        _byteorder_of_weights(archive)
        tree, storages = export_tree(archive)
        return shown(EXPORT, tree, storages, ZipBytes(file, {}, archive), root, frozen="torch.export archive")
    tree, storages, swapped = _describe(archive, StorageIds())
    data = ZipBytes(file, swapped, archive)
    if program == SCRIPT:
        return shown(SCRIPT, script_tree(archive, tree), storages, data, root, frozen="TorchScript archive")
    return shown("torch zip", tree, storages, data, root)


def describe(archive: Archive, ids: StorageIds) -> tuple[Any, dict[str, Storage], dict[str, int]]:
    """What an archive holds.

    Args:
        archive: opened.
        ids: fresh; it collects the storages.

    Returns:
        The tree of ``data.pkl``, the storages by key, and the element width of those that are big-endian.

    Raises:
        FormatError: it is damaged, no torch file, or holds a program.
    """
    if program_kind(archive) is not None:
        raise UnsupportedFormatError(f"{archive.path}: {_PROGRAM}", file=archive.path)
    return _describe(archive, ids)


def _describe(archive: Archive, ids: StorageIds) -> tuple[Any, dict[str, Storage], dict[str, int]]:
    path = archive.path
    _check_version(archive)
    big = _byteorder(archive) == "big"
    for name, small in archive.entries.items():
        # torch reads these too (alignment, serialization id); damage to one is damage to the file.
        if small.usize <= SMALL and not name.startswith("data/"):
            archive.read(name, SMALL)
    entry = archive.entries["data.pkl"]
    most = MAX_PICKLE
    if entry.method != STORED:
        most = min(MAX_INFLATED_PICKLE, max(FREE, MAX_PICKLE_RATIO * entry.csize))
    start = archive.base + entry.offset if entry.method == STORED else None
    if start is not None and entry.usize <= most:
        _check_beginning(archive, entry, start)
    pickle = archive.read("data.pkl", most)
    tree = load_pickle(pickle, file=path, what="data.pkl", persistent=ids, start=start)
    storages: dict[str, Storage] = {}
    swapped: dict[str, int] = {}
    for key, node in ids.storages.items():
        width = ITEMSIZE[node.dtype] // (2 if node.dtype.startswith("complex") else 1) if big else 1
        if width > 1:
            swapped[key] = width
        storage = _storage(archive, node, width == 1)
        if storage is not None:
            storages[key] = storage
    return tree, storages, swapped


def _check_beginning(archive: Archive, entry: Entry, start: int) -> None:
    def read(count: int) -> bytes:
        return b"".join(archive.content(entry, 0, min(count, entry.usize)))

    try:
        check_beginning(
            read, entry.usize, file=archive.path, what="data.pkl", persistent=StorageIds(), start=start
        )
    except FormatError:
        for _ in archive.content(entry):  # a wrong CRC is the better reason
            pass
        raise


def _check_version(archive: Archive) -> None:
    names = archive.entries
    if "data.pkl" not in names:
        some = ", ".join(ascii(name)[1:-1][:60] for name in list(names)[:3]) or "nothing"
        raise UnsupportedFormatError(
            f"{archive.path}: a zip archive, but no torch file: it has no data.pkl (it holds {some})",
            file=archive.path,
        )
    version = archive.read("version", 32).strip()
    if not version.isdigit() or not 1 <= int(version) <= MAX_VERSION:
        raise FormatError(
            f"{archive.path}: torch zip version {ascii(version)[2:-1]}; 1 to {MAX_VERSION} are known",
            file=archive.path,
        )


def _byteorder_of_weights(archive: Archive) -> None:
    if _byteorder(archive) == "big":
        raise FormatError(
            f"{archive.path}: a torch.export archive from a big-endian machine; save its state_dict with torch.save there",
            file=archive.path,
        )


def _byteorder(archive: Archive) -> str:
    if "byteorder" not in archive.entries:  # torch before 2.1 wrote none, and little-endian data
        return "little"
    order = archive.read("byteorder", 32)
    if order not in (b"little", b"big"):
        raise FormatError(
            f"{archive.path}: byte order {ascii(order)[2:-1]}; little or big are known", file=archive.path
        )
    return order.decode()


def _storage(archive: Archive, node: StorageNode, plain: bool) -> Storage | None:
    declared = node.numel * ITEMSIZE[node.dtype]
    entry = archive.entries.get(f"data/{node.key}")
    if entry is None:
        if node.location == "meta":
            return None
        raise FormatError(
            f"{archive.path}: storage {ascii(node.key)[:60]} is missing: there is no entry "
            f"data/{ascii(node.key)[1:-1][:60]}",
            file=archive.path,
        )
    if entry.usize != declared:
        raise FormatError(
            f"{archive.path}: storage {ascii(node.key)[:60]} is declared as {node.numel} x {node.dtype} "
            f"({declared} bytes), its entry has {entry.usize} bytes",
            file=archive.path,
        )
    region = None
    if entry.method != STORED:
        archive.check_bound(entry)
    elif plain:
        region = Region(
            archive.path,
            archive.base + entry.offset,
            entry.usize,
            entry.crc or None,
            stamp(os.fstat(archive.fd)),
        )
    return Storage(node.key, entry.usize, region)
