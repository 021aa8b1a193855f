"""Opening files for reading: regular ones only, never blocking, with errors that say what is there."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FormatError
from .elsewhere import where_instead
from .positions import pread, readv

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def open_fd(path: str) -> int:
    """Open a regular file for reading.

    Args:
        path: the file; links are followed.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        FormatError: it is missing, not readable, or no regular file (a FIFO is never waited for).
    """
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        # Opening a device can have effects; look first, and look again at what was really opened.
        _require_regular(path, os.stat(path))
        fd = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        _require_regular(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells whether a path still leads to the file that was opened, with the bytes it had."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def undisturbed(path: str) -> Iterator[None]:
    """Around reading several files that belong together; `path` is the one that is written with all of them.

    Raises:
        FormatError: it was replaced meanwhile, so that the files may be of two generations; whatever else was found
            wrong is no news then.
    """
    before = _stamp_at(path)
    try:
        yield
    except FormatError:
        _same_generation(path, before)
        raise
    _same_generation(path, before)


def _same_generation(path: str, before: tuple[int, ...] | None) -> None:
    if before is not None and _stamp_at(path) != before:
        raise FormatError(
            f"{path}: it changed while it was opened: another process replaced it; open it again", file=path
        ) from None


def _stamp_at(path: str) -> tuple[int, ...] | None:
    try:
        return stamp(os.stat(path))
    except (OSError, ValueError):
        return None


def check_stamp(fd: int, path: str, expected: tuple[int, ...] | None) -> None:
    """Compare an open file with the `stamp` that was taken before; None stands for any.

    Raises:
        FormatError: another file took its place, or it was written to or cut.
    """
    found = stamp(os.fstat(fd))
    if expected is None or found == expected:
        return
    if found[:2] != expected[:2]:
        how = "another file took its place"
    elif found[2] != expected[2]:
        how = f"{expected[2]} bytes then, {found[2]} now"
    else:
        how = "it was written to"
    raise FormatError(f"{path}: it changed while it was open ({how}); open it again", file=path)


def open_regular(path: str) -> io.FileIO:
    """As `open_fd`, as an unbuffered binary file object."""
    return io.FileIO(open_fd(path), "rb")


def read_exactly(fd: int, offset: int, count: int, path: str) -> bytes:
    """Read bytes at a place that the caller has checked against the file's size.

    Raises:
        FormatError: the file ended before (it shrank since), or the system refused.
    """
    parts = []
    while count:
        try:
            part = pread(fd, min(count, 1 << 30), offset)
        except OSError as error:
            raise _unreadable(path, error, offset) from None
        if not part:
            raise _cut(path, offset, count)
        parts.append(part)
        offset += len(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_into(fd: int, offset: int, buffer: memoryview, path: str) -> None:
    """Fill memory with bytes from a place that the caller has checked against the file's size.

    Raises:
        FormatError: the file ended before (it shrank since), or the system refused.
    """
    done = 0
    while done < len(buffer):
        try:
            count = readv(fd, buffer[done : done + (1 << 30)], offset + done)
        except OSError as error:
            raise _unreadable(path, error, offset + done) from None
        if not count:
            raise _cut(path, offset + done, len(buffer) - done)
        done += count


def _cut(path: str, offset: int, missing: int) -> FormatError:
    return FormatError(
        f"{path}: ends at byte {offset}, {missing} bytes early; it was cut while it was read",
        file=path,
        offset=offset,
    )


def _require_regular(path: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
    raise FormatError(f"{path}: is {kind}; a checkpoint is read from a regular file", file=path)


def _unreadable(path: str, error: OSError | ValueError, offset: int | None = None) -> FormatError:
    if isinstance(error, ValueError):
        return FormatError(f"{path!r} is no path: {error}")
    reasons = {
        errno.ENOENT: "does not exist"
        if not os.path.islink(path)
        else "is a link to a file that does not exist",
        errno.EACCES: "may not be read (permission denied)",
        errno.ELOOP: "is a link that leads to itself",
        errno.ENOTDIR: "does not exist (a part of the path is a file)",
        errno.ENAMETOOLONG: "is longer than the system allows",
    }
    reason = reasons.get(error.errno or 0) or f"cannot be read: {error.strerror or error}"
    instead = where_instead(path) if error.errno in (errno.ENOENT, errno.ENOTDIR) else None
    hint = f"; {instead}" if instead else ""
    name = path[:300] or "'' (an empty name)"
    return FormatError(f"{name}: {reason}{hint}", file=path, offset=offset)
