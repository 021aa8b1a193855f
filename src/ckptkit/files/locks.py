"""What POSIX, Linux and the others offer for temporary files: locks, and renames with conditions."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from functools import lru_cache
from typing import Any

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


def hold(fd: int, patience: float | None = None) -> bool:
    """Lock an open temporary file or folder while its descriptor lives, so that nobody takes it for stale.

    A neighbour that just took it for stale holds it for a moment; that is waited for, and the caller looks
    whether it is still there (`still_named`).

    Args:
        fd: the open file or folder.
        patience: seconds to wait for one that somebody else may hold for reasons of their own; then it stays unlocked.

    Returns:
        Whether nobody else holds it, as far as the file system tells.
    """
    if sys.platform != "win32":
        import fcntl

        end = None if patience is None else time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if end is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if end is None or time.monotonic() > end:
                    return False
                time.sleep(0.005)
            except OSError:
                return (
                    True  # a file system without locks: then stale files are told apart by nobody, and kept
                )
    return True


def hold_named(path: str, patience: float) -> tuple[int, bool]:
    """Lock the file or folder that has a name, also when it is replaced while somebody else's lock is waited for.

    The lock goes with the descriptor, so that nothing is left of it when a process is killed.

    Returns:
        A descriptor, which the caller closes, or -1 where nothing can be locked; and as `hold` returns.
    """
    while os.name != "nt":  # which cannot open folders
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # not there, or not readable
            break
        try:
            free = hold(fd, patience)
            if still_named(fd, path):
                return fd, free
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return -1, True


def still_named(fd: int, path: str) -> bool:
    """Whether a path still names what the descriptor has open."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def remove_if_free(path: str) -> None:
    """Remove a temporary file or folder of this user that no live process holds."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        if not _is_own(os.lstat(path)):  # before it is opened, which can have effects on a device
            return
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        if not _is_own(status) or not still_named(fd, path):
            return
        if stat.S_ISDIR(status.st_mode):
            import shutil  # brings every compression of the standard library

            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass  # held by a live process, or gone already
    finally:
        os.close(fd)


def _is_own(status: os.stat_result) -> bool:
    """Whether it is of the kinds that are made here, and made by the same user."""
    kind = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return kind and (sys.platform == "win32" or status.st_uid == os.geteuid())


@lru_cache(maxsize=1)
def _renameat2() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


def _rename(source: str, target: str, flags: int) -> bool:
    """Whether renameat2 did it; False when the system or the file system does not know the flag.

    Raises:
        OSError: it knows the flag and refuses.
    """
    function = _renameat2()
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return True
    import ctypes

    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), target)


def rename_without_replacing(source: str, target: str) -> bool:
    """Rename in one step if nothing has the target's name; False where the system cannot.

    Raises:
        FileExistsError: the name is taken.
    """
    return _rename(source, target, RENAME_NOREPLACE)


def exchange(a: str, b: str) -> bool:
    """Swap two names in one step; False where the system cannot."""
    return _rename(a, b, RENAME_EXCHANGE)
