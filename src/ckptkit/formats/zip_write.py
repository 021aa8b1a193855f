"""A zip writer for torch files: stored entries, data aligned to 64 bytes, sizes known beforehand, no clock.

An entry's CRC is known only when its data has been copied, so headers are written after their data; small
entries are gathered and written together. zip64 records are used only where a size, an offset or a count
needs them (APPNOTE 4.5.3, 4.3.14).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from struct import pack

from ..files.copy import write_all
from .base import CHUNK

ALIGNMENT = 64  # what torch.save uses, so that mapped tensors are aligned for any element
_MAX2, _MAX4 = 0xFFFF, 0xFFFFFFFF
_UTF8 = 0x0800
_DATE = 33  # 1 January 1980, the format's first day


@dataclass(frozen=True, slots=True)
class _Written:
    name: bytes
    crc: int
    nbytes: int
    header: int


class ZipWriter:
    """Appends stored entries to an empty file.

    Args:
        fd: open for writing.
        top: the top folder of every entry.
        big: sizes and offsets from here on take zip64 records; lower it only in tests.
    """

    def __init__(self, fd: int, top: str, *, big: int = _MAX4) -> None:
        self.fd = fd
        self.top = top
        self.big = big
        self.entries: list[_Written] = []
        self._position = 0  # of the next header
        self._buffer = bytearray()
        self._base = 0  # where the buffer belongs

    def add(self, name: str, data: bytes) -> int:
        """A small entry; returns its CRC."""
        crc = zlib.crc32(data)
        header = self._header(self._full(name), crc, len(data), self._position)
        self._append(header)
        self._append(data)
        self._note(name, crc, len(data), len(header))
        return crc

    def reserve(self, name: str, nbytes: int) -> tuple[int, int]:
        """Room for an entry whose data the caller writes itself.

        Returns:
            A number for `seal`, and the offset of the data.
        """
        full = self._full(name)
        length = len(self._header(full, 0, nbytes, self._position))
        self.flush()
        offset = self._position + length
        self._note(name, 0, nbytes, length)
        self._base = self._position
        return len(self.entries) - 1, offset

    def seal(self, number: int, crc: int) -> None:
        """Complete a reserved entry, whose data has been written, by its header."""
        entry = self.entries[number] = replace(self.entries[number], crc=crc)
        write_all(self.fd, self._header(entry.name, crc, entry.nbytes, entry.header), entry.header)

    def finish(self) -> int:
        """Write the directory; returns the length of the file."""
        start = self._position
        for entry in self.entries:
            self._append(self._central(entry))
        length = self._base + len(self._buffer) - start
        count = len(self.entries)
        if count >= _MAX2 or start >= self.big or length >= self.big:
            end64 = pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, length, start)
            self._append(end64 + pack("<IIQI", 0x07064B50, 0, start + length, 1))
        self._append(
            pack(
                "<IHHHHIIH", 0x06054B50, 0, 0, min(count, _MAX2), min(count, _MAX2),
                length if length < self.big else _MAX4, start if start < self.big else _MAX4, 0,
            )
        )  # fmt: skip
        self.flush()
        return self._base

    def flush(self) -> None:
        """Write what was gathered."""
        if self._buffer:
            write_all(self.fd, self._buffer, self._base)
            self._base += len(self._buffer)
            self._buffer = bytearray()

    def _append(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self.flush()

    def _full(self, name: str) -> bytes:
        return f"{self.top}/{name}".encode()

    def _note(self, name: str, crc: int, nbytes: int, header: int) -> None:
        self.entries.append(_Written(self._full(name), crc, nbytes, self._position))
        self._position += header + nbytes

    def _header(self, name: bytes, crc: int, nbytes: int, position: int) -> bytes:
        large = nbytes >= self.big
        extra = pack("<HHQQ", 1, 16, nbytes, nbytes) if large else b""
        gap = -(position + 30 + len(name) + len(extra)) % ALIGNMENT
        if gap:
            gap += ALIGNMENT if gap < 4 else 0  # an extra field has a header of four bytes
            extra += b"FB" + pack("<H", gap - 4) + b"Z" * (gap - 4)
        size = _MAX4 if large else nbytes
        version = 45 if large else 20
        return (
            pack(
                "<IHHHHHIIIHH",
                0x04034B50,
                version,
                _UTF8,
                0,
                0,
                _DATE,
                crc,
                size,
                size,
                len(name),
                len(extra),
            )
            + name
            + extra
        )

    def _central(self, entry: _Written) -> bytes:
        large, far = entry.nbytes >= self.big, entry.header >= self.big
        wide = (entry.nbytes,) * 2 * large + (entry.header,) * far
        extra = pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size = _MAX4 if large else entry.nbytes
        version = 45 if wide else 20
        return (
            pack(
                "<IHHHHHHIIIHHHHHII", 0x02014B50, version, version, _UTF8, 0, 0, _DATE, entry.crc, size, size,
                len(entry.name), len(extra), 0, 0, 0, 0, _MAX4 if far else entry.header,
            )
            + entry.name
            + extra
        )  # fmt: skip
