"""Copying bytes from file to file: by the kernel where it can, else in 1 MiB steps."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable

from ..errors import FormatError
from .positions import pread, pwrite
from .regular import read_into

STEP = 1 << 20
Progress = Callable[[int], None] | None
_PARALLEL = 4 << 20  # below, starting a thread costs more than it saves
# The kernel copies without passing through this process; larger steps than this only delay progress.
_KERNEL_STEP = 32 << 20
_NO_KERNEL_COPY = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
}


def copy_bytes(
    source: int,
    source_offset: int,
    count: int,
    target: int,
    target_offset: int,
    *,
    name: str,
    progress: Progress = None,
    crc: bool = False,
) -> int | None:
    """Copy a run of bytes.

    Args:
        source: descriptor open for reading.
        source_offset: first byte.
        count: how many bytes.
        target: descriptor open for writing.
        target_offset: where the first byte goes.
        name: what messages call the source.
        progress: called with the number of bytes of each step.
        crc: also compute the zlib CRC-32 of what was copied.

    Returns:
        The CRC-32 with `crc`, else None.

    Raises:
        FormatError: the source ends before (it was cut meanwhile), or cannot be read.
        OSError: the target refuses (no space, a quota).
    """
    if crc and count >= _PARALLEL:
        return _copy_beside_crc(source, name, source_offset, count, target, target_offset, progress)
    done = 0 if crc else _kernel_copy(source, source_offset, count, target, target_offset, progress)
    return _step_copy(source, name, source_offset, count, done, target, target_offset, progress, crc)


def _copy_beside_crc(
    fd: int, name: str, offset: int, count: int, target: int, target_offset: int, progress: Progress
) -> int:
    """Copy while a second thread computes the checksum of the same bytes; both release the interpreter."""
    from concurrent.futures import ThreadPoolExecutor  # an eighth of the time that `inspect` takes

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(checksum, fd, name, offset, count)
        done = _kernel_copy(fd, offset, count, target, target_offset, progress)
        _step_copy(fd, name, offset, count, done, target, target_offset, progress, False)
        return found.result()


def checksum(fd: int, name: str, offset: int, count: int, stopped: Callable[[], bool] = lambda: False) -> int:
    """The zlib CRC-32 of a run of bytes; the interpreter is free for other threads meanwhile.

    Args:
        fd, name: the file.
        offset, count: the bytes.
        stopped: asked at each step; True ends the work, and the result means nothing.

    Raises:
        FormatError: the file ends before, or cannot be read.
    """
    buffer = memoryview(bytearray(min(STEP, count)))
    found = 0
    for at in range(offset, offset + count, STEP):
        if stopped():
            break
        part = buffer[: min(STEP, offset + count - at)]
        read_into(fd, at, part, name)
        found = zlib.crc32(part, found)
    return found


def _kernel_copy(
    fd: int, offset: int, count: int, target: int, target_offset: int, progress: Progress
) -> int:
    """Copy with copy_file_range (a reflink on file systems that share blocks); returns bytes done."""
    if not hasattr(os, "copy_file_range"):
        return 0
    done = 0
    while done < count:
        try:
            step = os.copy_file_range(
                fd, target, min(count - done, _KERNEL_STEP), offset + done, target_offset + done
            )
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY:
                return done
            raise
        if step == 0:
            return done
        start_writeback(target, target_offset + done, step)
        done += step
        if progress is not None:
            progress(step)
    return done


def start_writeback(target: int, offset: int, count: int) -> None:
    """Let the disk begin with bytes that are written, so that the fsync at the end has little left to wait for.

    On Linux the advice that pages are not needed starts their writeback at once, and drops none that are dirty.
    """
    if count >= _PARALLEL and hasattr(os, "posix_fadvise"):
        try:
            os.posix_fadvise(target, offset, count, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass  # advice only


class Writeback:
    """Starts the disk on what is written in small steps, a larger part at a time.

    Args:
        target: the file.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._start = self._end = 0

    def wrote(self, offset: int, count: int) -> None:
        """Note bytes that were just written; steps follow one another."""
        if offset != self._end:
            self._start = offset
        self._end = offset + count
        if self._end - self._start >= _KERNEL_STEP:
            start_writeback(self.target, self._start, self._end - self._start)
            self._start = self._end


def _step_copy(
    fd: int,
    name: str,
    offset: int,
    count: int,
    done: int,
    target: int,
    target_offset: int,
    progress: Progress,
    crc: bool,
) -> int | None:
    checksum = 0
    while done < count:
        data = pread(fd, min(STEP, count - done), offset + done)
        if not data:
            raise FormatError(
                f"{name}: ends at byte {offset + done}, {count - done} bytes early; it was cut while it was read",
                file=name,
            )
        write_all(target, data, target_offset + done)
        if crc:
            checksum = zlib.crc32(data, checksum)
        done += len(data)
        if progress is not None:
            progress(len(data))
    return checksum if crc else None


def write_all(target: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write every byte at a place, however often the system takes only a part.

    Raises:
        OSError: the target refuses.
    """
    view = memoryview(data).cast("B")
    while view:
        written = pwrite(target, view, offset)
        view = view[written:]
        offset += written
