"""One file against its format's laws, all of its bytes read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from ..errors import FormatError, RootError
from ..files.positions import pread
from ..files.regular import open_fd, stamp
from ..formats import open_source
from ..formats.base import Progress, Source, Storage
from ..formats.roots import NO_ROOT
from ..formats.torch_source import TorchSource
from ..formats.torch_zip import looks_like_zip
from ..formats.zipfmt import Archive
from .entries import EntryCheck
from .reading import Gap, unreadable
from .report import Damage


@dataclass
class Looked:
    """What was seen of one file, or of several.

    Args:
        problems: what is wrong.
        notes: what a person should be told.
        keys: the state_dict keys; None when they are not known.
        tied: those of them that are tied.
        sizes: bytes of the tensors, with tied ones counted once, and each time.
        files: how many files were looked at.
        tensors: how many tensors they hold.
        nbytes: how many bytes were read.
    """

    problems: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keys: tuple[str, ...] | None = None
    tied: frozenset[str] = frozenset()
    sizes: tuple[int, int] = (0, 0)
    files: int = 0
    tensors: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class _Laws:
    """What the headers and pickles of a sound file say of its storages."""

    storages: dict[str, Storage]
    readers: dict[str, str]


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
        before = stamp(os.fstat(fd))
        looked = Looked(files=1)
        laws = _laws(path, looked)
        refusal = _keys(path, root, looked, laws) if laws is not None else None
        if looks_like_zip(_head(fd)):
            _entries(path, fd, looked, laws, progress)
        else:
            _bytes(path, fd, looked, laws, progress)
        if stamp(os.fstat(fd)) != before:
            looked.problems.append(Damage(path, "it was written to while it was read; verify it again"))
        if refusal is not None:
            looked.notes.append(refusal if looked.problems else f"the file is whole, but {refusal}")
        return looked
    finally:
        os.close(fd)


def _head(fd: int) -> bytes:
    try:
        head: bytes = pread(fd, 4, 0)
    except OSError:
        return b""
    return head


def _laws(path: str, looked: Looked) -> _Laws | None:
    """Read headers and pickles, and prove every tensor of the file; None when a law is broken."""
    try:
        with closing(open_source(path, NO_ROOT)) as whole:
            if isinstance(whole, TorchSource):
                looked.tensors = whole.count_tensors()
                return _Laws(dict(whole.storages), whole.readers())
            looked.tensors = len(whole.signature)
            found = dict(_storages(whole))
            return _Laws(found, {key: key for key in found})
    except FormatError as error:
        looked.problems.append(Damage(path, error.message, error.key, error.offset))
        return None


def _keys(path: str, root: str, looked: Looked, laws: _Laws) -> str | None:
    """Take the names that tensors have in the state_dict; returns why there is none."""
    try:
        with closing(open_source(path, root)) as source:
            signature = source.signature
            looked.keys = tuple(signature)
            looked.tied = frozenset(key for group in signature.tied for key in group)
            looked.sizes = (signature.nbytes, sum(info.nbytes for info in signature.tensors.values()))
            looked.notes += source.notes
            if isinstance(source, TorchSource):
                looked.tensors = source.count_tensors()
                named: dict[str, str] = {}
                for key, storage in _storages(source):
                    named.setdefault(str(storage.id), key)
                laws.readers.update(named)
    except (FormatError, RootError) as error:
        return error.message.removeprefix(f"{path}: ")
    return None


def _storages(source: Source) -> Iterator[tuple[str, Storage]]:
    for key, info in source.signature.tensors.items():
        if info.kind == "tensor" and not source.lazy(key):
            try:
                yield key, source.view(key).storage
            except FormatError:
                continue  # no data: nothing that could be damaged


def _entries(path: str, fd: int, looked: Looked, laws: _Laws | None, progress: Progress) -> None:
    """The entries of a zip archive; of a damaged directory there is no more to say than was said."""
    try:
        archive = Archive(path, fd)
    except (FormatError, OSError) as error:
        if not looked.problems:  # a disk that gave the bytes a moment ago
            looked.problems.append(Damage(path, f"the directory of the archive cannot be read: {error}"))
        return
    check = EntryCheck(archive, None if laws is None else laws.readers, progress)
    check.run()
    words = {damage.problem for damage in check.problems}
    looked.problems = [known for known in looked.problems if known.problem not in words] + check.problems
    looked.nbytes += check.nbytes
    if check.unsigned:
        looked.notes.append(
            f"{check.unsigned} of {len(archive.entries)} entries declare no CRC; that their bytes are the ones that "
            "were written cannot be checked"
        )


def _bytes(path: str, fd: int, looked: Looked, laws: _Laws | None, progress: Progress) -> None:
    """Formats without checksums: that every byte can be read is what there is to know."""
    size = os.fstat(fd).st_size
    gaps = unreadable(fd, size, progress)
    for gap in gaps:
        words = f"bytes {gap.start} to {gap.stop} cannot be read: {gap.reason}"
        looked.problems.append(Damage(path, words, _key_in(gap, laws), gap.start))
    looked.nbytes += size - sum(gap.stop - gap.start for gap in gaps)


def _key_in(gap: Gap, laws: _Laws | None) -> str | None:
    if laws is None:
        return None
    for name, storage in laws.storages.items():
        region = storage.region
        if region is not None and region.offset < gap.stop and gap.start < region.offset + region.nbytes:
            return laws.readers.get(name)
    return None
