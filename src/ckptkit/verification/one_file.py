"""One file against its format's laws, all of its bytes read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from ..errors import FormatError, RootError
from ..files.regular import open_fd
from ..formats import open_source
from ..formats.base import Progress, Source, Storage
from ..formats.roots import NO_ROOT
from ..formats.torch_source import TorchSource
from ..formats.torch_zip import looks_like_zip
from ..formats.zipfmt import Archive, Entry
from .report import Damage


@dataclass
class Looked:
    """What was seen of one file.

    Args:
        problems: what is wrong with it.
        notes: what a person should be told.
        keys: its state_dict keys, as far as they are known.
        tensors: how many tensors it holds.
        nbytes: how many bytes were read.
    """

    problems: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    tied: frozenset[str] = frozenset()
    tensors: int = 0
    nbytes: int = 0


def look(path: str, root: str, progress: Progress) -> Looked:
    """Look at one file.

    Args:
        path: a regular file.
        root: where the weights lie, for the names of keys; the file is whole or not whatever the root.
        progress: called with the number of bytes just read.

    Raises:
        FormatError: it is not there, may not be read, or is no regular file.
    """
    fd = open_fd(path)
    try:
        looked = Looked()
        readers: dict[str, str] = {}
        sound = _open(path, root, looked, readers)
        if looks_like_zip(os.pread(fd, 4, 0)):
            _entries(path, fd, looked, readers, progress)
        elif sound is not None:
            _all_bytes(path, sound, looked, progress)
        return looked
    finally:
        os.close(fd)


def _open(path: str, root: str, looked: Looked, readers: dict[str, str]) -> list[tuple[str, Storage]] | None:
    """Headers and pickles, every view proved; the storages with a key that reads each, None when it breaks a law."""
    try:
        with closing(open_source(path, NO_ROOT)) as whole:
            looked.tensors = len(whole.signature)
            found = list(_storages(whole))
            if isinstance(whole, TorchSource):
                looked.tensors = whole.count_tensors()
    except FormatError as error:
        looked.problems.append(Damage(path, error.message, error.key, error.offset))
        return None
    try:
        with closing(open_source(path, root)) as source:
            looked.keys = tuple(source.signature)
            looked.tied = frozenset(key for group in source.signature.tied for key in group)
            looked.notes += source.notes
            for key, storage in _storages(source):
                readers.setdefault(str(storage.id), key)
    except (FormatError, RootError) as error:
        looked.notes.append(f"the file may be whole, and cannot be loaded as it stands: {error.message}")
    return found


def _storages(source: Source) -> Iterator[tuple[str, Storage]]:
    for key, info in source.signature.tensors.items():
        if info.kind == "tensor" and source.format != "signature" and not source.lazy(key):
            try:
                yield key, source.view(key).storage
            except FormatError:
                continue  # no data: nothing that could be damaged


def _all_bytes(
    path: str, storages: Iterable[tuple[str, Storage]], looked: Looked, progress: Progress
) -> None:
    """Formats without checksums: that every byte can be read is what there is to know."""
    fd = open_fd(path)
    size = os.fstat(fd).st_size
    at, step = 0, 1 << 20
    try:
        while at < size:
            try:
                data = os.pread(fd, step, at)
            except OSError as error:
                key = _key_at(storages, at)
                looked.problems.append(Damage(path, f"it cannot be read: {error.strerror}", key, at))
                data = b"\0" * min(step, size - at)
            if not data:
                looked.problems.append(Damage(path, "it became shorter while it was read", None, at))
                break
            at += len(data)
            looked.nbytes += len(data)
            progress(len(data))
    finally:
        os.close(fd)


def _key_at(storages: Iterable[tuple[str, Storage]], offset: int) -> str | None:
    for key, storage in storages:
        region = storage.region
        if region is not None and region.offset <= offset < region.offset + region.nbytes:
            return key
    return None


def _entries(path: str, fd: int, looked: Looked, readers: dict[str, str], progress: Progress) -> None:
    """Every entry of a zip archive against its CRC, read by anyone or not."""
    try:
        archive = Archive(path, fd)
    except FormatError:
        return  # said already

    def check(entry: Entry) -> Damage | None:
        try:
            archive.check_bound(entry)
            for chunk in archive.content(entry):
                progress(len(chunk))
        except FormatError as error:
            key = readers.get(entry.name.removeprefix("data/"))
            return Damage(path, error.message, key, entry.offset)
        except OSError as error:
            return Damage(path, f"entry {entry.name} cannot be read: {error.strerror}", None, entry.offset)
        return None

    entries = list(archive.entries.values())
    # zlib lets go of the interpreter while it counts.
    with ThreadPoolExecutor(2, thread_name_prefix="ckptkit-crc") as pool:
        damaged = [damage for damage in pool.map(check, entries) if damage is not None]
    words = {damage.problem for damage in damaged}
    looked.problems = [known for known in looked.problems if known.problem not in words] + damaged
    looked.nbytes += sum(entry.usize for entry in entries)
    unsigned = sum(1 for entry in entries if entry.usize and not entry.crc)
    if unsigned:
        looked.notes.append(
            f"{unsigned} of {len(entries)} entries declare no CRC, so their bytes cannot be checked"
        )
