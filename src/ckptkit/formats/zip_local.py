"""What an archive says of an entry beside the entry itself: its local header, and the descriptor behind its data.

Readers that stream believe these, all others the central directory; so they must say the same, or nothing. The
layout is that of PKWARE's APPNOTE 6.3.9, sections 4.3.7, 4.3.9 and 4.5.3.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

STORED, DEFLATED = 0, 8
MAX4 = 0xFFFFFFFF
PENDING = 0x0008  # flag: sizes and CRC stand behind the data
HEADER = Struct("<IHHHHHIIIHH")
MAGIC = 0x04034B50
REACH = HEADER.size + 80  # without the name; torch's padding is shorter
GAPS = (12, 16, 20, 24)  # bytes of a descriptor: with or without its magic, narrow or wide sizes
_DESCRIPTOR = Struct("<IIII")
_SIGNATURE = 0x08074B50
_LATER = (0, 0, 0)
_PADDING = b"FB"


class Declared(NamedTuple):
    """An entry as the central directory declares it.

    Args:
        name: with the top folder, undecoded.
        flags, method, time, date: as they stand.
        crc, csize, usize: CRC-32, packed size, size.
        header: where the local header begins.
    """

    name: bytes
    flags: int
    method: int
    time: int
    date: int
    crc: int
    csize: int
    usize: int
    header: int


def wrong_descriptor(raw: bytes, entry: Declared, wide: bool) -> str | None:
    """Why what stands between an entry's data and the next header is no descriptor of it.

    Args:
        raw: the bytes, as many as one of `GAPS`.
        entry: whose data ended there.
        wide: whether its local header has a zip64 record, so that the sizes take eight bytes.
    """
    most = max(entry.csize, entry.usize)
    if not wide and most < MAX4 and raw == _DESCRIPTOR.pack(_SIGNATURE, entry.crc, entry.csize, entry.usize):
        return None
    signed = len(raw) in (16, 24)
    if signed and int.from_bytes(raw[:4], "little") != _SIGNATURE:
        return f"{len(raw)} bytes that are no data descriptor stand behind its data"
    fields = raw[4:] if signed else raw
    width = (len(fields) - 4) // 2
    if (width == 8) != (wide or most >= MAX4):
        return f"its data descriptor has sizes of {width} bytes, its local header asks for {12 - width}"
    values = [
        int.from_bytes(part, "little") for part in (fields[:4], fields[4 : 4 + width], fields[4 + width :])
    ]
    for what, here, there in zip(
        ("CRC", "packed size", "size"), values, (entry.crc, entry.csize, entry.usize), strict=True
    ):
        if here != there:
            return f"{what} {here} in its data descriptor, {there} in the directory"
    return None


def wrong_header(entry: Declared, head: tuple[int, ...], record: tuple[int, ...] | None) -> str | None:
    """What a local header says against the central directory; it may leave out what a descriptor says.

    Args:
        entry: as the directory declares it.
        head: the fields of the local header.
        record: the numbers of its zip64 record, if it has one.
    """
    stated = head[2:9]
    full = entry[1:8]
    pending = bool(entry.flags & PENDING)
    if record is None and stated == (full[:4] + _LATER if pending else full) and MAX4 not in stated[5:]:
        return None  # as nearly all entries are
    flags, method, time, date, crc, csize, usize = stated
    if record is not None:
        reason = _wrong_record(entry, record)
        if reason is not None:
            return reason
    if MAX4 in (csize, usize):
        if record is None or len(record) < 2:
            return "4 GiB or more in its local header, without a zip64 record"
        # The record was compared already; one number of two in it would be read as the other.
        csize, usize = entry.csize if csize == MAX4 else csize, entry.usize if usize == MAX4 else usize
    for what, here, there in zip(
        ("flags", "method", "time", "date", "CRC", "packed size", "size"),
        (flags, method, time, date, crc, csize, usize),
        full,
        strict=True,
    ):
        unknown = pending and here == 0 and what in ("CRC", "packed size", "size")
        if here != there and not unknown:
            return f"{what} {here} in its local header, {there} in the directory"
    return None


def _wrong_record(entry: Declared, record: tuple[int, ...]) -> str | None:
    sizes = [(entry.usize, entry.csize)]
    if entry.flags & PENDING:  # torch does not know the one yet, zipfile neither
        sizes += [(entry.usize, 0), (0, 0)]
    # miniz, by which torch writes, gives the numbers that are large and no others, the place among them.
    known = [pair + place for pair in sizes for place in ((), (entry.header,))]
    if record in (*known, (entry.header,), (entry.usize,), (entry.usize, entry.header)):
        return None
    numbers = ", ".join(map(str, record)) or "nothing"
    return f"{numbers} in the zip64 record of its local header, sizes {entry.usize} and {entry.csize} in the directory"


def zip64_record(extra: bytes) -> tuple[int, ...] | None:
    """The numbers of the zip64 record among extra fields; None when there is none.

    Raises:
        ValueError: there are two.
    """
    if not extra or (extra[:2] == _PADDING and int.from_bytes(extra[2:4], "little") == len(extra) - 4):
        return None  # as nearly all entries of torch files are
    found: list[tuple[int, ...]] = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = extra[at : at + 2], int.from_bytes(extra[at + 2 : at + 4], "little")
        field = extra[at + 4 : at + 4 + length]
        if kind == b"\1\0":
            found.append(
                tuple(int.from_bytes(field[i : i + 8], "little") for i in range(0, len(field) - 7, 8))
            )
        at += 4 + length
    if len(found) > 1:
        raise ValueError
    return found[0] if found else None
