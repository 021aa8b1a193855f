"""Reading and writing at a place of an open file, also where the system has no such call (Windows)."""

from __future__ import annotations

import os
import threading

_ONE_AT_A_TIME = threading.Lock()


def _seek_and_read(fd: int, count: int, offset: int) -> bytes:
    with _ONE_AT_A_TIME:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)


def _seek_and_write(fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    with _ONE_AT_A_TIME:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


pread = getattr(os, "pread", _seek_and_read)
pwrite = getattr(os, "pwrite", _seek_and_write)


def readv(fd: int, buffer: memoryview, offset: int) -> int:
    """Read into memory that is there already; returns the number of bytes, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    data = pread(fd, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)
