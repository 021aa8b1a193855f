"""Rewriting in place: what is replaced is what was read, and of several who do so one goes first."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Self

from ..errors import WriteError
from . import locks

PATIENCE = 10.0  # seconds; whoever rewrites a large file needs longer, and is not waited for
_TICK = 20_000_000  # nanoseconds; clocks of files go in steps of up to 10 ms, and two changes in one step look like one
_TRIES = 100
_Seen = dict[str, tuple[int, ...]]
_HOW = (
    (2, "another file took its place"),
    (3, "it has another size"),
    (4, "it was written to"),
    (5, "its owner, mode, links or attributes changed"),
)


class Claim:
    """A file or folder that is to be rewritten in place, from before it is read until it is replaced; a context manager.

    Whoever else claims it, or replaces it through `AtomicFile`, waits a while and is told. Programs that know nothing of
    claims change it when they like: `check` finds that.

    Args:
        path: the file or folder; it need not be there, which who reads it says better.

    Raises:
        WriteError: another process holds it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._final = os.path.realpath(path)
        self._fd = -1
        self._seen: _Seen = {}

    def __enter__(self) -> Self:
        self._fd, free = locks.hold_named(self._final, PATIENCE)
        try:
            if not free:
                raise held_error(self.path)
            for _ in range(_TRIES):
                self._seen = _look(self._final)
                newest = max((max(each[4:], default=0) for each in self._seen.values()), default=0)
                if not 0 <= time.time_ns() - newest < _TICK:
                    break
                time.sleep(_TICK / 4e9)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def check(self, at: str, goes: Callable[[str, bool], bool] = lambda *_: False) -> None:
        """Ask whether what lies somewhere is what was there when it was claimed.

        Args:
            at: the path, or another one that it was moved to.
            goes: whether an entry of a folder, by name and whether it is a folder, makes way; the others may change.

        Raises:
            WriteError: it was changed, replaced or removed meanwhile.
        """
        moved = at != self._final
        found = _look(at)
        names = {name for each in (self._seen, found) for name in each}
        for name in sorted(names):
            old, new = self._seen.get(name), found.get(name)
            if name and not goes(name, stat.S_ISDIR((new or old or (0,))[0])):
                continue
            # A move is a change of the file's status, and the time of a folder is that of its last entry.
            upto = 3 if stat.S_ISDIR((old or (0,))[0]) else 5 if moved and not name else 6
            if (old and old[:upto]) != (new and new[:upto]):
                raise self._changed(name, old, new)

    def _changed(self, name: str, old: tuple[int, ...] | None, new: tuple[int, ...] | None) -> WriteError:
        if old is None or new is None:
            how = "it appeared" if old is None else "it was removed"
        else:
            how = next(words for upto, words in _HOW if old[: upto + 1] != new[: upto + 1])
        path = os.path.join(self.path, name) if name else self.path
        return WriteError(
            f"{path}: another process changed it while it was being rewritten ({how}); nothing was written, and it stays "
            "as that process left it; run again",
            file=path,
        )


def held_error(path: str) -> WriteError:
    """The error for a target that another process holds."""
    return WriteError(
        f"{path}: another process is rewriting it, or has locked it; nothing was written; run again when that one is done",
        file=path,
    )


def _look(path: str) -> _Seen:
    """Kind, device, inode, size and times of a file, under the empty name, or of a folder and everything in it."""
    seen: _Seen = {}
    try:
        status = os.lstat(path)
        seen[""] = _stamp(status)
        if stat.S_ISDIR(status.st_mode):
            for entry in os.scandir(path):
                try:
                    seen[entry.name] = _stamp(os.lstat(entry.path))
                except FileNotFoundError:
                    continue  # removed in this moment
    except OSError:
        pass  # not there, which who reads it says, or `check`
    return seen


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (
        stat.S_IFMT(status.st_mode),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
