"""Files that appear complete or not at all: written beside the target, synced, then renamed."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from ..errors import WriteError
from . import locks
from .attributes import Attributes, attributes_of, collect, give, told
from .claims import PATIENCE, Claim, held_error

PREFIX = ".ckptkit-"
SUFFIX = ".tmp"
_TEMPORARY = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{16}}{re.escape(SUFFIX)}")


class AtomicFile:
    """A context manager whose file gets its name at the end, and only if nothing went wrong.

    Args:
        target: the final path; if it is a link, the file it points to is replaced and the link kept.
        overwrite: replace what is there; its owner, permissions and extended attributes are kept.
        fsync: make file and name durable before the end.
        claim: on the target, when it is rewritten in place; then only what was claimed is replaced.

    Attributes:
        fd: descriptor of the temporary file, open for reading and writing.
        notes: what could not be kept of the replaced file, after the end.

    Raises:
        WriteError: the target exists without `overwrite`, is no regular file, is locked or was changed by another
            process, or the system refuses.
    """

    fd: int

    def __init__(
        self, target: str, *, overwrite: bool = False, fsync: bool = True, claim: Claim | None = None
    ) -> None:
        if not os.path.basename(target):
            raise WriteError(f"{target!r} names no file to write; give one", file=target)
        self.target = target
        self.overwrite = overwrite
        self.fsync = fsync
        self.claim = claim
        self.fd = -1
        self.notes: tuple[str, ...] = ()
        self._final = resolve(target)
        self._folder = os.path.dirname(self._final)
        self._temporary = ""
        self._kept: Attributes | None = None

    def __enter__(self) -> Self:
        self._check_target()
        remove_stale(self._folder)
        try:
            self._create()
        except BaseException as error:  # Ctrl-C too: without an entry there is no exit
            self._discard()
            if isinstance(error, OSError):
                raise write_error(self.target, error) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._commit()
            except BaseException as failure:
                self._discard()
                if isinstance(failure, OSError):
                    raise write_error(self.target, failure) from None
                raise
            return
        self._discard()
        if isinstance(error, OSError):
            raise write_error(self.target, error) from None

    def _check_target(self) -> None:
        try:
            status = os.stat(self._final)
        except FileNotFoundError:
            if not os.path.isdir(self._folder):
                raise WriteError(
                    f"{self.target}: the folder {self._folder} does not exist; make it first",
                    file=self.target,
                ) from None
            return
        except OSError as error:
            raise write_error(self.target, error) from None
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise WriteError(
                f"{self.target}: is {what} and is not replaced; choose another target", file=self.target
            )
        if not self.overwrite:
            raise exists_error(self.target)
        try:
            self._kept = attributes_of(self._final)
        except OSError as error:
            raise write_error(self.target, error) from None

    def _commit(self) -> None:
        old, free = -1, True
        if self.overwrite and self.claim is None:
            old, free = locks.hold_named(self._final, PATIENCE)
        try:
            if not free:
                raise held_error(self.target)
            self._keep_attributes()
            if self.fsync:
                sync(self.fd)
            if os.name == "nt":  # which does not rename open files
                self._close()
            self._give_name()
        finally:
            if old >= 0:
                os.close(old)
        self._temporary = ""
        self._close()
        if self.fsync:
            sync_name(self._folder, self.target)

    def _keep_attributes(self) -> None:
        if self.overwrite:
            with suppress(
                FileNotFoundError
            ):  # removed meanwhile; they stay those of the file that was to be replaced
                self._kept = attributes_of(self._final)
        if self._kept is not None:
            lost: dict[str, list[str]] = {}
            collect(lost, self.target, give(self.fd, self._kept))
            self.notes = told(lost)

    def _give_name(self) -> None:
        if self.claim is not None:
            self._exchange(self.claim)
        elif self.overwrite:
            os.replace(self._temporary, self._final)
        else:
            rename_new(self._temporary, self._final, self.target)

    def _exchange(self, claim: Claim) -> None:
        """Replace the claimed file and nothing else: what a program puts there in the last moment gets its name back."""
        claim.check(self._final)
        new = os.stat(self._temporary)
        try:
            if not locks.exchange(self._temporary, self._final):
                os.replace(self._temporary, self._final)
                return
            claim.check(self._temporary)
        except FileNotFoundError:
            claim.check(self._final)  # which says that it was removed
            raise
        except BaseException:
            with suppress(OSError):
                if os.path.samestat(os.stat(self._final), new):
                    aside, self._temporary = self._temporary, ""  # not ours to remove, until it is back
                    if locks.exchange(aside, self._final):
                        self._temporary = aside
            raise
        os.unlink(self._temporary)

    def _create(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        while True:
            # Known before it is there, so that whatever comes between is cleaned up after.
            self._temporary = temporary_name(self._folder)
            # What replaces a file may be read by whoever may read that one, once it is complete.
            self.fd = os.open(self._temporary, flags, 0o666 if self._kept is None else 0o600)
            locks.hold(self.fd)
            # A neighbour may have taken it for stale between the two calls above.
            if locks.still_named(self.fd, self._temporary):
                return
            self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _discard(self) -> None:
        if os.name == "nt":  # which does not remove open files
            self._close()
        if self._temporary:
            # Unlink before the lock goes with the descriptor, or a neighbour could take it for stale.
            try:
                os.unlink(self._temporary)
            except OSError:
                pass  # the folder itself may be gone; the first error is the one to report
            self._temporary = ""
        self._close()


def temporary_name(folder: str) -> str:
    """A fresh recognisable name in a folder; it never derives from keys or the target."""
    return os.path.join(folder, f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}")


def is_temporary(name: str) -> bool:
    """Whether a file name is one of our temporary ones."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_stale(folder: str) -> None:
    """Remove what killed runs of this user left behind in a folder; what a live process holds is kept, and all that is
    none of ours.
    """
    try:
        names = [name for name in os.listdir(folder) if is_temporary(name)]
    except OSError:
        return
    for name in names:
        locks.remove_if_free(os.path.join(folder, name))


def rename_new(source: str, target: str, shown: str) -> None:
    """Give a file or folder its name without ever replacing what appeared there meanwhile.

    Raises:
        WriteError: the name was taken since it was looked at.
        OSError: the system refuses.
    """
    try:
        if locks.rename_without_replacing(source, target):
            return
    except FileExistsError:
        raise exists_error(shown) from None
    if not os.path.isdir(source):
        try:
            os.link(source, target)
        except FileExistsError:
            raise exists_error(shown) from None
        except OSError:
            pass  # a file system without links: the check below is all there is
        else:
            os.unlink(source)
            return
    if os.path.lexists(target):
        raise exists_error(shown)
    os.rename(source, target)


def resolve(target: str) -> str:
    """The path of a target behind all links.

    Raises:
        WriteError: it is no path at all.
    """
    try:
        return os.path.realpath(target)
    except ValueError as error:
        raise WriteError(f"{target!r} is no path: {error}; choose another target", file=target) from None


def sync(fd: int) -> None:
    """Make what an open file holds durable. On macOS `fsync` alone leaves it in the drive's cache."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass  # a file system without it, where fsync is all there is
    os.fsync(fd)


def sync_name(folder: str, target: str) -> None:
    """Make the name of a finished output durable.

    Raises:
        WriteError: the system refuses. The output is complete then, which `write_error` would deny.
    """
    try:
        sync_folder(folder)
    except OSError as error:
        raise WriteError(
            f"{target}: is complete, but its name could not be made durable: {error.strerror or error}; check the "
            "drive, and write it again",
            file=target,
        ) from None


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable. Windows has no such call; its renames are journaled."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def exists_error(target: str) -> WriteError:
    """The error for a target that is there already."""
    return WriteError(
        f"{target}: exists already; choose another target, or allow it with --overwrite (overwrite=True in Python)",
        file=target,
    )


def write_error(target: str, error: OSError) -> WriteError:
    """A system error while writing, in our words."""
    reason = error.strerror or str(error)
    return WriteError(
        f"{target}: could not be written: {reason}; the target is as it was before", file=target
    )
