"""A strict zip reader: what two readers could understand differently is refused.

The layout is that of PKWARE's APPNOTE 6.3.9 (sections 4.3.7 local header, 4.3.9 data descriptor, 4.3.12
central directory, 4.3.14 zip64 end record, 4.3.16 end record). Refused: junk before, between or behind the
entries, overlaps, local headers that contradict the central directory, encryption, several disks, names that
are equal up to case, absolute, climbing or with backslashes, more than one top folder.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, NoReturn

from ..errors import FormatError
from ..files.positions import pread
from ..files.regular import check_stamp, read_exactly, stamp
from .base import CHUNK
from .unfolding import Unfolding
from .zip_local import (
    DEFLATED,
    GAPS,
    HEADER,
    MAGIC,
    MAX4,
    PENDING,
    REACH,
    STORED,
    Declared,
    wrong_descriptor,
    wrong_header,
    zip64_record,
)

_CENTRAL = Struct("<IHHHHHHIIIHHHHHII")
_END = Struct("<IHHHHIIH")
_END64 = Struct("<IQHHIIQQQQ")
_LOCATOR = Struct("<IIQI")
_ALLOWED_FLAGS = 0x0002 | 0x0004 | 0x0008 | 0x0800  # deflate options, data descriptor, UTF-8 names
_FOLDER = 0x10  # DOS attribute
_MAX2 = 0xFFFF
# A deflated entry may not unfold beyond both of these: weights compress by a few percent, bombs by 1000.
MAX_INFLATED, MAX_RATIO = 64 << 20, 200


class Entry(NamedTuple):
    """One file in the archive.

    Args:
        name: below the top folder.
        method: `STORED` or `DEFLATED`.
        crc: declared CRC-32 of the content; 0 when it was not computed.
        csize, usize: bytes in the archive, and of the content.
        offset: first byte of the data in the archive.
    """

    name: str
    method: int
    crc: int
    csize: int
    usize: int
    offset: int


class Archive:
    """The entries of a zip file, by name below the one top folder.

    Args:
        path: for messages.
        fd: open for reading; it stays the caller's.
        base, size: the part of the file that is the archive; all of it without. Offsets of entries count from `base`.
        owner: who closes `fd`; it lives as long as this.
        flat: whether names stand without a top folder.

    Raises:
        FormatError: the file breaks one of the laws above; the text says which.
    """

    def __init__(
        self, path: str, fd: int, base: int = 0, size: int | None = None, owner: object = None, *, flat: bool = False
    ) -> None:  # fmt: skip
        self.path = path
        self.owner = owner
        self.fd = fd
        self.base = base
        self.flat = flat
        status = os.fstat(fd)
        self._opened = stamp(status)
        self.size = status.st_size if size is None else size
        start, length, count = self._find_directory()
        raw = list(self._directory(start, length, count))
        self.top, names = self._names(raw)
        self.entries = self._entries(raw, names, start)

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        """Refuse the file; where it was written to or cut meanwhile, that is the reason."""
        check_stamp(self.fd, self.path, self._opened)
        raise FormatError(
            f"{self.path}: not a sound zip archive: {reason}", file=self.path, offset=self._place(offset)
        )

    def _place(self, offset: int | None) -> int | None:
        return None if offset is None else self.base + offset

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes of the archive.

        Raises:
            FormatError: they cannot be read.
        """
        return read_exactly(self.fd, self.base + offset, length, self.path)

    def _find_directory(self) -> tuple[int, int, int]:
        """Offset and length of the central directory, and its number of entries."""
        if self.size < _END.size:
            self.fail(f"{self.size} bytes are too few; it was cut: fetch or save it again")
        base = max(0, self.size - _END.size - _MAX2)
        tail = self.pread(base, self.size - base)
        ends: list[int] = []
        at = tail.rfind(b"PK\5\6")
        while at >= 0:
            if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail):
                ends.append(at)
            at = tail.rfind(b"PK\5\6", 0, at + 3) if at > 0 else -1
        if not ends:
            self.fail("it has no end record (cut, or bytes appended); fetch or save it again")
        if len(ends) > 1:
            self.fail("it has more than one end record")
        end = base + ends[0]
        _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, ends[0])
        limit = end
        if end >= _LOCATOR.size:
            locator = self.pread(end - _LOCATOR.size, _LOCATOR.size)
            if locator[:4] == b"PK\6\7":
                limit, plain = end - _LOCATOR.size, (here, count, length, start)
                here, count, length, start, limit = self._end64(locator, limit)
                for short, full, most in zip(
                    plain, (here, count, length, start), (_MAX2, _MAX2, MAX4, MAX4), strict=True
                ):
                    if short not in (full, most):
                        self.fail("the end record and the zip64 end record disagree")
        if disk or first_disk or here != count:
            self.fail("it is one part of several")
        if start + length != limit:
            self.fail(f"the central directory ends at {start + length}, the end record begins at {limit}")
        if count * _CENTRAL.size > length:
            self.fail(f"{count} entries do not fit into a directory of {length} bytes")
        return start, length, count

    def _end64(self, locator: bytes, limit: int) -> tuple[int, int, int, int, int]:
        _, disk, offset, disks = _LOCATOR.unpack(locator)
        if disk or disks != 1 or offset + _END64.size > limit:
            self.fail("the zip64 locator points nowhere, or to one part of several")
        magic, extent, _, _, disk, first, here, count, length, start = _END64.unpack(
            self.pread(offset, _END64.size)
        )
        if magic != 0x06064B50 or offset + 12 + extent != limit or disk or first:
            self.fail("the zip64 end record is damaged")
        return here, count, length, start, offset

    def _directory(self, start: int, length: int, count: int) -> Iterator[Declared]:
        data = self.pread(start, length)
        pos = 0
        for number in range(count):
            if pos + _CENTRAL.size > length:
                self.fail(f"entry {number} of {count} is missing in the directory", start + pos)
            fields = _CENTRAL.unpack_from(data, pos)
            (
                magic,
                _,
                _,
                flags,
                method,
                time,
                date,
                crc,
                csize,
                usize,
                n,
                x,
                k,
                disk,
                _,
                attributes,
                header,
            ) = fields
            pos += _CENTRAL.size
            if magic != 0x02014B50 or pos + n + x + k > length:
                self.fail(f"entry {number} of the directory is damaged", start + pos - _CENTRAL.size)
            name = data[pos : pos + n]
            large = MAX4 in (csize, usize, header)
            if attributes & _FOLDER and not name.endswith(b"/"):
                self.fail(f"entry {ascii(name)[:80]} is marked as a folder, which some readers believe")
            if large:
                csize, usize, header = self._zip64(data[pos + n : pos + n + x], csize, usize, header, name)
            pos += n + x + k
            if disk and not (large and disk == _MAX2):
                self.fail("it is one part of several")
            if flags & ~_ALLOWED_FLAGS:
                self.fail(f"entry {ascii(name)[:80]} has flags 0x{flags:x} (encrypted or patched)")
            if method not in (STORED, DEFLATED):
                self.fail(f"entry {ascii(name)[:80]} uses compression method {method}")
            if method == STORED and csize != usize:
                self.fail(f"entry {ascii(name)[:80]} is stored but has two sizes, {csize} and {usize}")
            yield Declared(name, flags, method, time, date, crc, csize, usize, header)
        if pos != length:
            self.fail(f"{length - pos} bytes follow the last entry of the directory", start + pos)

    def _zip64(self, extra: bytes, csize: int, usize: int, header: int, name: bytes) -> tuple[int, int, int]:
        values = list(self._record(extra, name) or ())
        sizes = []
        for short in (usize, csize, header):
            if short == MAX4 and not values:
                self.fail(f"entry {ascii(name)[:80]} declares 4 GiB or more without a zip64 record")
            sizes.append(values.pop(0) if short == MAX4 else short)
        return sizes[1], sizes[0], sizes[2]

    def _record(self, extra: bytes, name: bytes) -> tuple[int, ...] | None:
        try:
            return zip64_record(extra)
        except ValueError:
            self.fail(f"entry {ascii(name)[:80]} has two zip64 records")

    def _names(self, raw: list[Declared]) -> tuple[str, list[str]]:
        tops: set[str] = set()
        seen: set[str] = set()
        names: list[str] = []
        for entry in raw:
            try:
                name = entry.name.decode("utf-8" if entry.flags & 0x0800 or entry.name.isascii() else "cp437")
            except UnicodeDecodeError:
                self.fail(f"entry name {ascii(entry.name)[:80]} is not UTF-8")
            parts = name.removesuffix("/").split("/")
            if "\\" in name or "\0" in name or "" in parts or "." in parts or ".." in parts:
                self.fail(f"entry name {ascii(name)[:80]} is absolute, climbs, or is not plain")
            folded = name.removesuffix("/").casefold()
            if folded in seen:
                self.fail(f"two entries are named {ascii(name)[:80]} (up to case)")
            seen.add(folded)
            tops.add(parts[0])
            if len(tops) > 1 and not self.flat:
                self.fail(
                    f"it has more than one top folder: {', '.join(sorted(ascii(t)[:60] for t in tops))}"
                )
            names.append(name)
        return (tops.pop() if tops and not self.flat else ""), names

    def _entries(self, raw: list[Declared], names: list[str], directory: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        order = sorted(range(len(raw)), key=lambda i: raw[i].header)
        position, before, wide, label = 0, None, False, ""
        cut = 0 if self.flat else len(self.top) + 1
        for index in order:
            entry = raw[index]
            gap = self._gap(position, entry.header, before, label)
            if entry.header + HEADER.size + len(entry.name) > directory:
                self.fail(
                    f"entry {ascii(names[index])[:80]} begins at {entry.header}, inside or behind the directory",
                    entry.header,
                )
            head = pread(self.fd, gap + REACH + len(entry.name), self.base + position)
            if before is not None:
                self._descriptor(head[:gap], before, wide, label)
            label = names[index]
            length, wide = self._header(head[gap:], entry, label)
            before = entry if entry.flags & PENDING else None
            offset = entry.header + length
            position = offset + entry.csize
            if position > directory:
                self.fail(
                    f"entry {ascii(label)[:80]} ends at {position}, inside or behind the directory", offset
                )
            if label.endswith("/"):
                if entry.usize:
                    self.fail(f"folder {ascii(label)[:80]} has content")
                continue
            if len(label) < cut:
                self.fail(f"entry {ascii(label)[:80]} lies in no top folder")
            short = label[cut:]
            entries[short] = Entry(short, entry.method, entry.crc, entry.csize, entry.usize, offset)
        gap = self._gap(position, directory, before, label)
        if before is not None:
            self._descriptor(self.pread(position, gap), before, wide, label)
        return entries

    def _header(self, head: bytes, entry: Declared, label: str) -> tuple[int, bool]:
        """The length of a local header, and whether it has a zip64 record."""
        if len(head) < HEADER.size:
            self.fail(f"entry {ascii(label)[:80]} is cut", entry.header)
        fields = HEADER.unpack_from(head)
        start = HEADER.size + len(entry.name)
        if fields[0] != MAGIC or fields[9] != len(entry.name) or head[HEADER.size : start] != entry.name:
            self.fail(f"entry {ascii(label)[:80]} has another name in its local header", entry.header)
        length = start + fields[10]
        extra = head[start:length]
        if length > len(head):
            extra = pread(self.fd, fields[10], self.base + entry.header + start)
        record = self._record(extra, entry.name)
        reason = wrong_header(entry, fields, record)
        if reason is not None:
            self.fail(f"entry {ascii(label)[:80]}: {reason}", entry.header)
        return length, record is not None

    def _descriptor(self, raw: bytes, entry: Declared, wide: bool, label: str) -> None:
        reason = wrong_descriptor(raw, entry, wide)
        if reason is not None:
            self.fail(f"entry {ascii(label)[:80]}: {reason}", entry.header)

    def _gap(self, start: int, stop: int, before: Declared | None, label: str) -> int:
        """How many bytes stand between two entries: a data descriptor where one was announced, or none."""
        if stop < start:
            self.fail(f"two entries overlap at byte {stop}", stop)
        gap = stop - start
        if before is not None and not gap:
            self.fail(f"entry {ascii(label)[:80]} announces a data descriptor and has none", start)
        if gap and (before is None or gap not in GAPS):
            where = f"behind entry {ascii(label)[:80]}" if label else "before the first entry"
            self.fail(f"{gap} bytes that belong to nothing stand {where}", start)
        return gap

    def check_bound(self, entry: Entry) -> None:
        """Refuse a deflated entry that claims to unfold beyond reason.

        Raises:
            FormatError: named.
        """
        if entry.method == DEFLATED and entry.usize > max(MAX_INFLATED, MAX_RATIO * entry.csize):
            self.fail(f"entry {ascii(entry.name)[:80]} unfolds {entry.csize} bytes into {entry.usize}")

    def content(self, entry: Entry, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The content of an entry in chunks of at most `CHUNK`; CRC-checked when all of it is read.

        Args:
            entry: one of `entries`.
            start, stop: a part of the content.

        Raises:
            FormatError: the CRC differs, the data is damaged, or it unfolds beyond its declared size.
        """
        stop = entry.usize if stop is None else stop
        whole = start == 0 and stop == entry.usize
        source = (
            self._stored(entry, start, stop) if entry.method == STORED else self._inflated(entry, start, stop)
        )
        crc = 0
        for chunk in source:
            if whole:
                crc = zlib.crc32(chunk, crc)
            yield chunk
        if whole and entry.crc and crc != entry.crc:
            self.bad_crc(entry.name, entry.crc, crc)

    def bad_crc(self, name: str, declared: int, found: int) -> NoReturn:
        """Refuse an entry whose bytes are not the ones that were written."""
        raise FormatError(
            f"{self.path}: entry {ascii(name)[:80]} is damaged: its bytes have CRC {found:08x}, "
            f"the archive declares {declared:08x}; get a fresh copy of the file",
            file=self.path,
            offset=self._place(self.entries[name].offset),
        )

    def read(self, name: str, limit: int) -> bytes:
        """The whole content of a small entry.

        Raises:
            FormatError: it is missing, longer than `limit`, or damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            self.fail(f"the entry {name} is missing")
        if entry.usize > limit:
            self.fail(f"the entry {name} has {entry.usize} bytes; {limit} is the most")
        self.check_bound(entry)
        if entry.method != STORED:
            return b"".join(self.content(entry))
        data = self.pread(entry.offset, entry.usize)
        if entry.crc and (crc := zlib.crc32(data)) != entry.crc:
            self.bad_crc(name, entry.crc, crc)
        return data

    def _stored(self, entry: Entry, start: int, stop: int) -> Iterator[bytes]:
        for at in range(start, stop, CHUNK):
            yield self.pread(entry.offset + at, min(CHUNK, stop - at))

    def _inflated(self, entry: Entry, start: int, stop: int) -> Iterator[bytes]:
        self.check_bound(entry)
        unfolding, done = Unfolding(self, entry), 0
        while chunk := unfolding.take(CHUNK):
            low, high = max(start - done, 0), min(stop - done, len(chunk))
            done += len(chunk)
            if low < high:
                yield chunk[low:high]
