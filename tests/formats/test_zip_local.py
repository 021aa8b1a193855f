"""Local headers and descriptors say what the central directory says, for readers that stream: G10, G11."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.errors import FormatError
from ckptkit.formats.zipfmt import Archive

M = 0xFFFFFFFF
DATA = b"hello"
CRC, SIZE = zlib.crc32(DATA), len(DATA)
SIGN = b"PK\7\x08"


def archive(**over: Any) -> bytes:
    """One entry, and what is said of it: `crc`, `csize`, `usize`, `extra`, `time`, `date` locally, `tail` behind it."""
    flags = 8 if over.get("pending") else 0
    crc, csize, usize = (over.get(k, v) for k, v in (("crc", CRC), ("csize", SIZE), ("usize", SIZE)))
    extra, tail = over.get("extra", b""), over.get("tail", b"")
    moment = over.get("time", 5), over.get("date", 33)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, flags, 0, *moment, crc, csize, usize, 5, len(extra))
    body = local + b"top/a" + extra + DATA + tail
    central = struct.pack(
        "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, flags, 0, 5, 33, CRC, SIZE, SIZE, 5, 0, 0, 0, 0, 0, 0
    )
    directory = central + b"top/a"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(directory), len(body), 0)
    return body + directory + end


def read(blob: bytes, folder: Path) -> bytes:
    path = folder / "a.zip"
    path.write_bytes(blob)
    with path.open("rb") as file:
        opened = Archive(str(path), file.fileno())
        return b"".join(opened.content(opened.entries["a"]))


def record(*numbers: int) -> bytes:
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def descriptor(crc: int = CRC, csize: int = SIZE, usize: int = SIZE, form: str = "<III") -> bytes:
    return struct.pack(form, crc, csize, usize)


LATER = {"pending": True, "crc": 0, "csize": 0, "usize": 0}
SAME: dict[str, dict[str, Any]] = {
    "plain": {},
    "zip64": {"csize": M, "usize": M, "extra": record(SIZE, SIZE)},
    "zip64 among others": {"csize": M, "usize": M, "extra": b"FB\1\0Z" + record(SIZE, SIZE) + b"FB\0\0"},
    "zip64 behind long padding": {
        "csize": M, "usize": M, "extra": b"FB\xc8\0" + b"Z" * 200 + record(SIZE, SIZE),
    },
    "padding that spells a record": {"extra": b"FB\x14\0" + record(7, 7)},
    "descriptor": {**LATER, "tail": SIGN + descriptor()},
    "descriptor without its magic": {**LATER, "tail": descriptor()},
    "wide descriptor": {**LATER, "extra": record(0, 0), "tail": SIGN + descriptor(form="<IQQ")},
    "wide descriptor without its magic": {**LATER, "extra": record(0), "tail": descriptor(form="<IQQ")},
    "wide descriptor, as zipfile streams": {
        **LATER, "csize": M, "usize": M, "extra": record(0, 0), "tail": SIGN + descriptor(form="<IQQ"),
    },
    "descriptor and local numbers": {"pending": True, "tail": SIGN + descriptor()},
}  # fmt: skip
OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "time": ({"time": 6}, "time 6 in its local header, 5 in the directory"),
    "date": ({"date": 34}, "date 34 in its local header, 33"),
    "zip64 says another size": (
        {"csize": M, "usize": M, "extra": record(9, 9)},
        "9, 9 in the zip64 record of its local header, sizes 5 and 5 in the directory",
    ),
    "zip64 is missing": ({"csize": M, "usize": M}, "without a zip64 record"),
    "zip64 has one number for two": (
        {"csize": M, "usize": M, "extra": record(SIZE)},
        "without a zip64 record",
    ),
    "zip64 that nobody asked for lies": ({"extra": record(9, 9)}, "9, 9 in the zip64 record"),
    "zip64 is empty": ({"extra": record()}, "nothing in the zip64 record"),
    "zip64 stands twice": ({"extra": record(SIZE, SIZE) + record(9, 9)}, "has two zip64 records"),
    "zip64 has zeros and no descriptor": (
        {"csize": M, "usize": M, "extra": record(0, 0)},
        "0, 0 in the zip64",
    ),
    "descriptor has another CRC": ({**LATER, "tail": SIGN + descriptor(crc=1)}, "CRC 1 in its data descriptor"),
    "descriptor has another packed size": (
        {**LATER, "tail": SIGN + descriptor(csize=6)},
        "packed size 6 in its data descriptor, 5 in the directory",
    ),
    "descriptor has another size": ({**LATER, "tail": descriptor(usize=6)}, "size 6 in its data descriptor"),
    "descriptor is junk": ({**LATER, "tail": b"#!/bin/sh;echo x"}, "16 bytes that are no data descriptor"),
    "wide descriptor is junk": (
        {**LATER, "tail": b"#!/bin/sh;echo hello;.. "},
        "24 bytes that are no data descriptor",
    ),
    "descriptor is missing": (LATER, "announces a data descriptor and has none"),
    "descriptor is not announced": ({"tail": SIGN + descriptor()}, "16 bytes that belong to nothing"),
    "descriptor is wide without a record": (
        {**LATER, "tail": SIGN + descriptor(form="<IQQ")},
        "sizes of 8 bytes, its local header asks for 4",
    ),
    "descriptor is narrow beside a record": (
        {**LATER, "extra": record(0, 0), "tail": SIGN + descriptor()},
        "sizes of 4 bytes, its local header asks for 8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_an_entry_of_which_all_places_say_the_same_is_read(name: str, tmp_path: Path) -> None:
    assert read(archive(**SAME[name]), tmp_path) == DATA


@pytest.mark.parametrize("name", OTHER)
def test_an_entry_of_which_two_places_say_different_things_is_refused(name: str, tmp_path: Path) -> None:
    over, words = OTHER[name]
    with pytest.raises(FormatError, match="not a sound zip archive: ") as caught:
        read(archive(**over), tmp_path)
    assert words in caught.value.message


def test_entries_beyond_4_gib_are_read_as_torch_writes_them(tmp_path: Path) -> None:
    """torch leaves the sizes of its local headers out, and puts the large numbers into their zip64 record."""
    size = (1 << 32) + 64
    path = tmp_path / "a.zip"

    def local(name: bytes, extra: bytes) -> bytes:
        head = struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, 8, 0, 0, 0, 0, 0, 0, len(name), len(extra))
        return head + name + extra

    def central(name: bytes, numbers: tuple[int, int, int], short: tuple[int, int], extra: bytes) -> bytes:
        crc, nbytes, header = numbers[0], *short
        head = struct.pack(
            "<IHHHHHHIIIHHHHHII", 0x02014B50, 0, 0, 8, 0, 0, 0, crc, nbytes, nbytes, len(name), len(extra), 0, 0, 0,
            0, header,
        )  # fmt: skip
        return head + name + extra

    with path.open("wb") as file:
        file.write(local(b"top/a", record(size, 0)))
        file.truncate(file.tell() + size)
        file.seek(0, 2)
        file.write(SIGN + descriptor(0, size, size, "<IQQ"))
        second = file.tell()
        file.write(local(b"top/b", record(second)) + DATA)
        file.write(SIGN + descriptor(form="<IQQ"))
        start = file.tell()
        directory = central(b"top/a", (0, size, 0), (M, 0), record(size, size))
        directory += central(b"top/b", (CRC, SIZE, second), (SIZE, M), record(second))
        file.write(directory)
        length = len(directory)
        file.write(
            struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 2, 2, length, start)
            + struct.pack("<IIQI", 0x07064B50, 0, start + length, 1)
            + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2, 2, length, M, 0)
        )
    with path.open("rb") as file:
        opened = Archive(str(path), file.fileno())
        assert opened.entries["a"].usize == size
        assert b"".join(opened.content(opened.entries["b"])) == DATA
        assert zipfile.ZipFile(path).read("top/b") == DATA


def test_a_flipped_bit_in_any_descriptor_of_torch_is_found(tmp_path: Path) -> None:
    """G11: `verify` covers what stands behind the data of an entry."""
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": torch.ones(2)}, buffer)
    blob = buffer.getvalue()
    path = tmp_path / "a.pt"
    at, flipped = blob.find(SIGN), 0
    while at >= 0:
        for place in range(at, at + 16):
            path.write_bytes(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])
            assert not ckptkit.verify(path).ok
            flipped += 1
        at = blob.find(SIGN, at + 4)
    assert flipped >= 16 * 4


def test_an_archive_that_was_written_to_meanwhile_is_called_changed_not_damaged(tmp_path: Path) -> None:
    """G4, G26: what a reader finds wrong in a file that changed under it is no damage of the file."""
    path = tmp_path / "a.zip"
    path.write_bytes(archive())
    with path.open("rb") as file:
        opened = Archive(str(path), file.fileno())
        with pytest.raises(FormatError, match="not a sound zip archive: two CRCs"):
            opened.fail("two CRCs")
        os.utime(path, (0, 0))
        with pytest.raises(FormatError, match="changed while it was open"):
            opened.fail("two CRCs")
