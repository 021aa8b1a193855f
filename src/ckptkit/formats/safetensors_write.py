"""Writing one safetensors file: the layout first, then the data in a stream."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Self

from ..dtypes import DTYPES
from ..errors import FormatError, PlanError, WriteError
from ..files.atomic import AtomicFile
from ..files.copy import Writeback, copy_bytes, write_all
from ..files.mapped import OpenedFile
from ..files.regular import check_stamp, open_fd
from ..text import quote_list
from .base import Item, Progress, Region, View, WriteRequest, Written, WrittenFile
from .expanded import Expansion
from .safetensors_header import (
    NO_TIES,
    TIES,
    check_fields,
    encode_header,
    is_tie,
    layout,
    read_header,
    ties,
)
from .tensor_bytes import item_bytes

_SUPPORTED = ", ".join(sorted(d.name for d in DTYPES.values() if d.safetensors and d.torch))


def write_safetensors(request: WriteRequest) -> Written:
    """Write a single safetensors file.

    Raises:
        PlanError: the format cannot hold an entry, or metadata clashes with a key; names it.
        WriteError: the target exists, or the system refuses.
    """
    kept, aliases = merge_ties(request.items)
    check_items(kept, aliases, request.metadata)
    options = request.options
    with AtomicFile(
        request.target, overwrite=options.overwrite, fsync=options.fsync, claim=options.claim
    ) as file:
        size = write_shard(file.fd, kept, file_metadata(request.metadata, aliases), options.progress)
        check_written(file.fd, request.target, kept)
        request.check_source()
    return Written((WrittenFile(request.target, size, len(kept)),), notes=file.notes)


def merge_ties(items: Sequence[Item]) -> tuple[list[Item], dict[str, str]]:
    """Which items are written, and under which name the tied ones are found.

    Returns:
        The items, one of each tie (the first, unless another's name cannot be dropped), and {dropped key: kept key}.
    """
    names: dict[Hashable, str] = {}
    for item in items:
        if item.tie is not None and (item.tie not in names or item.key in NO_TIES):
            names[item.tie] = item.key
    kept: list[Item] = []
    aliases: dict[str, str] = {}
    for item in items:
        name = item.key if item.tie is None else names[item.tie]
        if name == item.key:
            kept.append(item)
        else:
            aliases[item.key] = name
    return kept, aliases


def check_items(kept: Sequence[Item], aliases: Mapping[str, str], metadata: Mapping[str, str]) -> None:
    """Refuse, before a byte is written, what safetensors cannot hold.

    Raises:
        PlanError: names the keys.
    """
    objects = [item.key for item in kept if item.info.kind == "object"]
    if objects:
        raise PlanError(
            f"safetensors holds tensors only, and {quote_list(objects)} {'is' if len(objects) == 1 else 'are'} none; "
            "drop them, or write a torch file (.pt)",
            key=objects[0],
        )
    expansion = Expansion()
    for item in kept:
        dtype = DTYPES.get(item.info.dtype)
        if dtype is None or dtype.safetensors is None:
            raise PlanError(
                f"safetensors has no {item.info.dtype}, the dtype of {item.key!r}; cast it (known are {_SUPPORTED}), "
                "or write a torch file (.pt)",
                key=item.key,
            )
        if item.view is not None:
            try:
                expansion.add(item.key, item.view.storage.nbytes, item.info.nbytes)
            except FormatError as error:
                raise PlanError(error.message, key=error.key) from None
        if item.info.dtype == "float4_e2m1fn_x2" and not item.info.shape:
            raise PlanError(
                f"{item.key!r} is a pair of 4-bit numbers without a dimension, which safetensors cannot express; "
                "reshape it to [1], or write a torch file (.pt)",
                key=item.key,
            )
    try:
        check_fields([*(item.key for item in kept), *aliases])
    except FormatError as error:
        raise PlanError(error.message, key=error.key) from None
    check_metadata(metadata)
    keys = dict.fromkeys(item.key for item in kept)
    clash = [
        key
        for key in (*keys, *aliases)
        if key in metadata and key not in NO_TIES and (key in aliases or metadata[key] in keys)
    ]
    if clash:
        raise PlanError(
            f"the metadata has an entry {clash[0]!r}, which is also a tensor's key; readers take such entries for "
            "tied tensors, so rename one of them",
            key=clash[0],
        )
    if TIES in metadata:
        raise PlanError(f"the metadata has an entry {TIES!r}, a name that is kept for ties; rename it")
    for name, key in ties(metadata, keys).items():
        raise PlanError(
            f"the metadata has an entry {name!r} with the value {key!r}, which is a tensor's key; readers take such "
            f"entries for tied tensors, so {name!r} would become a key; change one of them",
            key=key,
        )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse strings that no file can hold.

    Raises:
        PlanError: a lone surrogate, named with its entry.
    """
    for name, value in metadata.items():
        try:
            name.encode()
            value.encode()
        except UnicodeEncodeError:
            raise PlanError(
                f"the metadata entry {ascii(name)[:120]} holds a lone surrogate, which no file can hold; change it",
            ) from None


def file_metadata(metadata: Mapping[str, str], aliases: Mapping[str, str]) -> dict[str, str]:
    """The metadata to write: ``format`` tells the Hugging Face tools that these are torch's tensors."""
    doubtful = [dropped for dropped, kept in aliases.items() if not is_tie(dropped, kept)]
    vouched = {TIES: json.dumps(doubtful, ensure_ascii=False)} if doubtful else {}
    return {"format": "pt", **metadata, **aliases, **vouched}


def write_shard(fd: int, items: Sequence[Item], metadata: Mapping[str, str], progress: Progress) -> int:
    """Write header and data of one file.

    Args:
        fd: an empty file, open for writing.
        items: what goes into it, in header order; ties are merged already.
        metadata: complete.
        progress: called with bytes written.

    Returns:
        The file's size in bytes.
    """
    infos = {item.key: item.info for item in items}
    places = layout(infos)
    header = encode_header(infos, places, metadata)
    total = len(header) + max((stop for _, stop in places.values()), default=0)
    os.ftruncate(fd, total)
    write_all(fd, header, 0)
    by_key = {item.key: item for item in items}
    behind = Writeback(fd)
    with _Run(fd, progress) as run:
        for key, (start, stop) in places.items():
            item, at = by_key[key], len(header) + start
            view = item.view
            if stop == start:
                continue
            parts = item.parts
            if view is not None and view.contiguous and view.storage.region is not None:
                parts = (view,)
            if parts and item.source is not None:
                for part in parts:
                    size = DTYPES[part.dtype].bits * _elements(part) // 8
                    if size != part.storage.nbytes:  # a whole storage is checked while it is copied
                        item.source.check(part.storage)
                    run.add(part, at, size)
                    at += size
                continue
            run.flush()
            for chunk in item_bytes(item):
                write_all(fd, chunk, at)
                behind.wrote(at, len(chunk))
                at += len(chunk)
                progress(len(chunk))
    return total


def _elements(view: View) -> int:
    count = 1
    for size in view.shape:
        count *= size
    return count


def damaged(region: Region, found: int) -> FormatError:
    """The error for bytes that do not have the CRC that their file declares."""
    return FormatError(
        f"{region.path}: the {region.nbytes} bytes at offset {region.offset} are damaged (CRC-32 {found:08x}, the "
        f"file declares {region.crc or 0:08x}); fetch the file again",
        file=region.path,
    )


class _Run:
    """Copies that are neighbours in source and target, done as one; a context manager.

    The file that was copied from last stays open: after a rename, neighbours are often none any more, and a
    hundred thousand small tensors would open it as often.
    """

    def __init__(self, fd: int, progress: Progress) -> None:
        self.fd = fd
        self.progress = progress
        self.region: Region | None = None
        self.file = -1
        self.source = self.target = self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._close()

    def _open(self, region: Region) -> None:
        """Make the file of a region the open one."""
        if self.region is not None and (self.region.path, self.region.stamp) == (region.path, region.stamp):
            return
        self._close()
        self.file = open_fd(region.path)
        self.region = region
        check_stamp(self.file, region.path, region.stamp)

    def _close(self) -> None:
        self.region = None
        fd, self.file = self.file, -1
        if fd >= 0:
            os.close(fd)

    def add(self, view: View, target: int, count: int) -> None:
        """Copy the bytes of a contiguous view of a file, now or together with the next ones."""
        region = view.storage.region
        assert region is not None
        source = region.offset + view.offset * DTYPES[view.dtype].bits // 8
        if region.crc is not None and count == region.nbytes:
            self.flush()
            self._open(region)
            found = copy_bytes(
                self.file, source, count, self.fd, target, progress=self.progress, crc=True, name=region.path
            )
            if found != region.crc:
                raise damaged(region, found or 0)
            return
        here = self.region is not None and (region.path, region.stamp) == (
            self.region.path,
            self.region.stamp,
        )
        if not here or (source, target) != (self.source + self.count, self.target + self.count):
            self.flush()
            self._open(region)
            self.source, self.target = source, target
        self.count += count

    def flush(self) -> None:
        """Do what was put off."""
        if self.count:
            assert self.region is not None
            copy_bytes(
                self.file,
                self.source,
                self.count,
                self.fd,
                self.target,
                progress=self.progress,
                name=self.region.path,
            )
            self.count = 0


def check_written(fd: int, target: str, items: Sequence[Item]) -> None:
    """Read the finished header again: keys, shapes, dtypes and order are what was planned.

    Raises:
        WriteError: they are not; nothing gets its name then.
    """
    with OpenedFile(fd, target) as file:
        header = read_header(file)
    if [(k, e.info) for k, e in header.entries.items()] != [(i.key, i.info) for i in items]:
        raise WriteError(f"{target}: what was written is not what was planned; nothing was kept", file=target)
