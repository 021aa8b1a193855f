"""Copying large storages from file to file while their CRC is computed beside it, on another core."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from ..errors import FormatError
from ..files.copy import checksum, copy_bytes
from ..files.regular import check_stamp, open_fd
from .base import Progress, Region
from .zip_write import ZipWriter

_AHEAD = 4  # storages whose copies have been started


class _Stopped(Exception):
    """Another storage failed; nothing more is copied."""


@dataclass(slots=True)
class _Job:
    number: int
    part: Region
    label: str
    crc: Future[int]
    copied: Future[None]


class Copier:
    """Copies byte ranges into a `ZipWriter`'s reserved entries; a context manager that ends with all done.

    Two threads are enough: the kernel copies, which needs little of this process, while zlib sums, outside
    the interpreter's lock.

    Args:
        target: the file.
        out: where entries are reserved and sealed.
        progress: called with the number of bytes just copied.
    """

    def __init__(self, target: int, out: ZipWriter, progress: Progress) -> None:
        self.target = target
        self.out = out
        self.progress = progress
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: deque[_Job] = deque()
        self._files: dict[str, int] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._jobs:
                self._finish()
        finally:
            self._stop.set()  # no thread may touch the target once it is closed
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
            for fd in self._files.values():
                os.close(fd)

    def copy(self, number: int, part: Region, offset: int, label: str) -> None:
        """Start to copy a part of a file to `offset`, for the reserved entry `number`.

        Args:
            number, offset: as `ZipWriter.reserve` gave them.
            part: the bytes; a CRC in it is compared.
            label: what they are, for messages.

        Raises:
            FormatError: a part that was started earlier is damaged or gone.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, thread_name_prefix="ckptkit-copy")
        if part.path not in self._files:
            self._files[part.path] = open_fd(part.path)
            check_stamp(self._files[part.path], part.path, part.stamp)
        fd = self._files[part.path]
        crc = self._pool.submit(checksum, fd, part.path, part.offset, part.nbytes, self._stop.is_set)
        copied = self._pool.submit(self._copy, fd, part, offset)
        self._jobs.append(_Job(number, part, label, crc, copied))
        if len(self._jobs) >= _AHEAD:
            self._finish()

    def _finish(self) -> None:
        job = self._jobs.popleft()
        job.copied.result()
        crc = job.crc.result()
        compare_crc(job.part, crc, job.label)
        self.out.seal(job.number, crc)

    def _copy(self, fd: int, part: Region, offset: int) -> None:
        copy_bytes(fd, part.offset, part.nbytes, self.target, offset, progress=self._progress, name=part.path)

    def _progress(self, count: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        self.progress(count)


def compare_crc(region: Region, found: int, label: str) -> None:
    """Refuse bytes whose CRC is not the declared one.

    Raises:
        FormatError: naming file and key.
    """
    if region.crc is not None and region.crc != found:
        raise FormatError(
            f"{region.path}: the bytes of {label!r} at {region.offset} are damaged: CRC {found:08x}, "
            f"the file declares {region.crc:08x}; get a fresh copy of the file",
            file=region.path,
            key=label,
        )
