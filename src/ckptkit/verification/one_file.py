"""One file against its format's laws, all of its bytes read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..errors import CkptkitError, FormatError, NoWeightsError, RootError, UnsupportedFormatError
from ..files.positions import pread
from ..files.regular import open_fd, stamp
from ..formats import open_source
from ..formats.base import NO_ROOT, Progress, Source, Storage
from ..formats.numpy_files import NumpyBytes
from ..formats.opening import part_of
from ..formats.recognise import looks_like_zip
from ..formats.torch_source import TorchSource
from ..formats.torch_zip import ZipBytes
from ..formats.zipfmt import Archive
from ..signatures import Part
from .entries import EntryCheck
from .reading import Gap, unreadable
from .report import Damage
from .understanding import not_understood


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
        part: what the file is a part of, if it is one.
    """

    problems: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keys: tuple[str, ...] | None = None
    tied: frozenset[str] = frozenset()
    sizes: tuple[int, int] = (0, 0)
    files: int = 0
    tensors: int = 0
    nbytes: int = 0
    part: Part | None = None


@dataclass(frozen=True)
class _Whole:
    """A file that keeps the laws of its headers and pickles: its storages, and a key that reads each."""

    source: Source
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
    with ExitStack() as opened:
        fd = open_fd(path)
        opened.callback(os.close, fd)
        before = stamp(os.fstat(fd))
        looked = Looked(files=1)
        whole = _laws(path, looked)
        refusal = None
        if whole is not None:
            opened.callback(whole.source.close)
            refusal = _keys(path, root, looked, whole)
        if looks_like_zip(_head(fd)):
            _entries(path, fd, looked, whole, progress)
        else:
            _bytes(path, fd, looked, whole, progress)
        if stamp(os.fstat(fd)) != before:
            looked.problems.append(Damage(path, "it was written to while it was read; verify it again"))
        if isinstance(refusal, NoWeightsError | UnsupportedFormatError) and root == "auto":
            looked.problems.append(Damage(path, refusal.message, refusal.key, evident=False))
        elif refusal is not None:
            words = refusal.message.removeprefix(f"{path}: ")
            looked.notes.append(words if looked.problems else f"the file is whole, but {words}")
        return looked


def _head(fd: int) -> bytes:
    try:
        head: bytes = pread(fd, 4, 0)
    except OSError:
        return b""
    return head


def _laws(path: str, looked: Looked) -> _Whole | None:
    """Read headers and pickles, and prove every tensor of the file; None when a law is broken."""
    try:
        source = open_source(path, NO_ROOT)
    except FormatError as error:
        evident = not isinstance(error, UnsupportedFormatError)
        looked.problems.append(Damage(path, error.message, error.key, error.offset, evident))
        return None
    if isinstance(source, TorchSource):
        looked.tensors = source.count_tensors()
        looked.problems += not_understood(source, path)
        return _Whole(source, dict(source.storages), source.readers())
    looked.tensors = len(source.signature)
    found = dict(_storages(source))
    return _Whole(source, found, {key: key for key in found})


def _keys(path: str, root: str, looked: Looked, whole: _Whole) -> CkptkitError | None:
    """Take the names that tensors have in the state_dict; returns why there is none."""
    source = whole.source
    try:
        if isinstance(source, TorchSource):
            source = source.at(root)
            looked.tensors = source.count_tensors()
            named: dict[str, str] = {}
            for key, storage in _storages(source):
                named.setdefault(str(storage.id), key)
            whole.readers.update(named)
        elif root not in ("auto", "none"):
            open_source(path, root).close()  # says why not
        looked.part = part_of(source)
        looked.keys = tuple(source.signature)
        looked.tied = frozenset(key for group in source.signature.tied for key in group)
        sizes = (info.nbytes for info in source.signature.tensors.values())
        looked.sizes = (source.signature.nbytes, sum(sizes))
        looked.notes += dict.fromkeys((*source.notes, *whole.source.notes))
    except (FormatError, RootError) as error:
        looked.notes += whole.source.notes
        return error
    return None


def _storages(source: Source) -> Iterator[tuple[str, Storage]]:
    for key, info in source.signature.tensors.items():
        if info.kind == "tensor" and not source.lazy(key):
            try:
                yield key, source.view(key).storage
            except FormatError:
                continue  # no data: nothing that could be damaged


def _entries(path: str, fd: int, looked: Looked, whole: _Whole | None, progress: Progress) -> None:
    """The entries of a zip archive; of a damaged directory there is no more to say than was said."""
    try:
        archive = _archive(path, fd, whole)
    except (FormatError, OSError) as error:
        if not looked.problems:  # a disk that gave the bytes a moment ago
            looked.problems.append(Damage(path, f"the directory of the archive cannot be read: {error}"))
        return
    check = EntryCheck(archive, None if whole is None else whole.readers, progress)
    check.run()
    words = {damage.problem for damage in check.problems}
    looked.problems = [known for known in looked.problems if known.problem not in words] + check.problems
    looked.nbytes += check.nbytes
    if check.unsigned:
        looked.notes.append(
            f"{check.unsigned} of {len(archive.entries)} entries declare no CRC; that their bytes are the ones that "
            "were written cannot be checked"
        )


def _archive(path: str, fd: int, whole: _Whole | None) -> Archive:
    source = whole.source if whole is not None else None
    if isinstance(source, TorchSource) and isinstance(source.data, ZipBytes | NumpyBytes):
        return source.data.archive or Archive(path, fd)
    return Archive(path, fd)


def _bytes(path: str, fd: int, looked: Looked, whole: _Whole | None, progress: Progress) -> None:
    """Formats without checksums: that every byte can be read is what there is to know."""
    size = os.fstat(fd).st_size
    gaps = unreadable(fd, size, progress)
    for gap in gaps:
        words = f"bytes {gap.start} to {gap.stop} cannot be read: {gap.reason}"
        looked.problems.append(Damage(path, words, _key_in(gap, whole), gap.start))
    looked.nbytes += size - sum(gap.stop - gap.start for gap in gaps)


def _key_in(gap: Gap, whole: _Whole | None) -> str | None:
    if whole is None:
        return None
    for name, storage in whole.storages.items():
        region = storage.region
        if region is not None and region.offset < gap.stop and gap.start < region.offset + region.nbytes:
            return whole.readers.get(name)
    return None
