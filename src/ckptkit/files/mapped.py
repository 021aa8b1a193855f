"""A regular file open for reading: size and time watched, bytes read or mapped privately."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import Self

from ..errors import FormatError
from .copy import STEP
from .regular import check_stamp, open_fd, read_exactly, read_into, stamp


class MappedFile:
    """An open file whose bytes can be looked at without reading them all. It closes itself when it is let go of.

    Args:
        path: a regular file.

    Raises:
        FormatError: it cannot be opened, or is no regular file.
    """

    fd = -1  # also where opening fails

    def __init__(self, path: str) -> None:
        self._start(path, open_fd(path))

    def __del__(self) -> None:
        self.close()

    def _start(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        status = os.fstat(self.fd)
        self.size = status.st_size
        self.stamp = stamp(status)
        self._map: mmap.mmap | None = None

    def check_unchanged(self) -> None:
        """Refuse to go on with a file that changed since it was opened.

        Touching a mapped page behind the end of a file that shrank kills the process, so this is
        asked before every access.

        Raises:
            FormatError: it was closed, changed or cut.
        """
        if self.fd < 0:
            raise FormatError(f"{self.path}: it was closed; open it again", file=self.path)
        check_stamp(self.fd, self.path, self.stamp)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes at a place that lies inside the file."""
        return read_exactly(self.fd, offset, count, self.path)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill memory with bytes from a place that lies inside the file.

        Raises:
            FormatError: the file changed, or was cut meanwhile.
        """
        self.check_unchanged()
        read_into(self.fd, offset, buffer, self.path)

    def chunks(self, offset: int, count: int) -> Iterator[bytes]:
        """Bytes at a place inside the file, 1 MiB at a time."""
        self.check_unchanged()
        end = offset + count
        while offset < end:
            data = self.read(offset, min(STEP, end - offset))
            yield data
            offset += len(data)

    def buffer(self) -> mmap.mmap:
        """The whole file as memory. Copy-on-write: who writes to it changes pages of their own.

        Swap is not reserved for pages that nobody will write to, so files larger than memory map too.
        """
        self.check_unchanged()
        if self._map is None:
            if hasattr(mmap, "MAP_NORESERVE"):
                flags = mmap.MAP_PRIVATE | mmap.MAP_NORESERVE
                self._map = mmap.mmap(self.fd, 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            else:
                self._map = mmap.mmap(self.fd, 0, access=mmap.ACCESS_COPY)
        return self._map

    def close(self) -> None:
        """Let go of the file; memory that was handed out stays valid."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._map = None


class OpenedFile(MappedFile):
    """A file that is open already, under a name for messages; a context manager.

    Args:
        fd: open for reading; it is duplicated, and stays the caller's.
        path: what messages call it.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._start(path, os.dup(fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
