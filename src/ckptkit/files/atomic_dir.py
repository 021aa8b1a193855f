"""Folders that appear complete or not at all: built beside the target, then renamed or exchanged."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from types import TracebackType
from typing import Self

from ..errors import WriteError
from . import locks
from .atomic import (
    SUFFIX,
    exists_error,
    remove_stale,
    rename_new,
    resolve,
    sync,
    sync_folder,
    sync_name,
    temporary_name,
    write_error,
)
from .attributes import Attributes, attributes_of, collect, early, give, shared, told
from .carrying import Carrying, is_stale
from .claims import PATIENCE, Claim


class AtomicDir:
    """A context manager whose folder gets its name at the end, and only if nothing went wrong.

    An existing folder is replaced in one step by exchange. Its old weight files (every safetensors file too) go; every other
    file in it, also one that appears meanwhile, is carried over, unless the new folder has one of that name.

    Args:
        target: the final path; if it is a link, the folder it points to is replaced and the link kept.
        overwrite: replace a folder that holds anything.
        fsync: make files and names durable before the end.
        weights: names of more weight files of the old folder, which go too: an index may give its shards any name.
        claim: on the target, when it is rewritten in place; then only what was claimed is replaced.

    Attributes:
        path: the temporary folder to fill.
        carried: names that were carried over, after the end.
        gone: names that went with a replaced folder, other than the weights that were in it at the start, after the end.
        notes: what could not be kept of what was replaced, after the end.
        aside: where a replaced folder was left because something in it could neither be brought nor removed.

    Raises:
        WriteError: the target exists without `overwrite`, is no folder, was changed by another process, or the system
            refuses.
    """

    def __init__(
        self,
        target: str,
        *,
        overwrite: bool = False,
        fsync: bool = True,
        weights: frozenset[str] = frozenset(),
        claim: Claim | None = None,
    ) -> None:
        self.target = target
        self.overwrite = overwrite
        self.fsync = fsync
        self.weights = weights
        self.claim = claim
        self.carried: tuple[str, ...] = ()
        self.gone: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.aside: str | None = None
        self.path = ""
        self._final = resolve(target)
        self._folder = os.path.dirname(self._final)
        self._lock = self._old_lock = -1
        self._kept: dict[str, Attributes] = {}
        self._before: frozenset[str] = frozenset()
        self._replaced: Carrying | None = None

    def __enter__(self) -> Self:
        try:
            self._check_target()
            remove_stale(self._folder)
            self._create()
        except BaseException as error:  # Ctrl-C too: without an entry there is no exit
            self._discard()
            if isinstance(error, OSError):
                raise write_error(self.target, error) from None
            raise
        return self

    def create(self, name: str) -> int:
        """A new file in the folder, open for reading and writing.

        Raises:
            WriteError: the name is taken.
        """
        path = os.path.join(self.path, name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError as error:
            raise WriteError(f"{path}: appeared while it was written: {error.strerror}", file=path) from None
        return fd

    def bring(self, source: str) -> None:
        """Give a file a second place in the folder: copied, never linked, so that a change to one never shows in the other.

        What a link leads to is copied: downloaded model folders are full of relative links, which lead nowhere
        from another place.
        """
        name = os.path.basename(source)
        shutil.copy2(source, os.path.join(self.path, name))

    def _keep_attributes(self, carrying: Carrying) -> None:
        """Give the new folder and its files the attributes of what they replace: until now, nobody else may look into it.

        Weights under other names replace all weights together.
        """
        self._look()
        weights = shared(
            [kept for name, kept in self._kept.items() if is_stale(name) or name in self.weights]
        )
        lost = {what: [*names] for what, names in carrying.lost.items()}
        for name in sorted(carrying.own):
            kept = self._kept.get(name, weights if is_stale(name) else None)
            if kept is not None:
                self._give(name, kept, lost)
        if self._lock >= 0:
            collect(lost, self.target, give(self._lock, attributes_of(self._final)))
        self.notes = told(lost)

    def _give(self, name: str, kept: Attributes, lost: dict[str, list[str]]) -> None:
        if self._lock < 0:
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._lock)
        try:
            collect(lost, name, give(fd, kept))
        finally:
            os.close(fd)

    def _look(self) -> None:
        """Note the attributes of the files that are there."""
        for name in os.listdir(self._final):
            path = os.path.join(self._final, name)
            with suppress(OSError):  # gone again, or a link to nothing
                if stat.S_ISREG(os.stat(path).st_mode):
                    self._kept[name] = attributes_of(path)

    def _check_target(self) -> None:
        if os.path.lexists(self._final):
            if not os.path.isdir(self._final):
                raise WriteError(
                    f"{self.target}: is a file, but a folder is to be written there; choose another target",
                    file=self.target,
                )
            self._before = frozenset(os.listdir(self._final))
            if not self.overwrite and self._before:
                raise exists_error(self.target)
            self._look()
        elif not os.path.isdir(self._folder):
            raise WriteError(
                f"{self.target}: the folder {self._folder} does not exist; make it first", file=self.target
            )

    def _create(self) -> None:
        while True:
            self.path = temporary_name(self._folder)
            replaces = os.path.isdir(self._final)
            os.mkdir(self.path, 0o700 if replaces else 0o777)
            if os.name == "nt":  # which cannot open folders, and so cannot lock them
                return
            try:
                self._lock = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                continue  # a neighbour took it for stale before it could be locked
            locks.hold(self._lock)
            if locks.still_named(self._lock, self.path):
                if replaces:
                    give(self._lock, early(attributes_of(self._final)))
                return
            os.close(self._lock)
            self._lock = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise write_error(self.target, failure) from None
        finally:
            self._discard()
        if isinstance(error, OSError):
            raise write_error(self.target, error) from None

    def _commit(self) -> None:
        carrying = None
        if os.path.isdir(self._final):
            self._hold_old()
            if not self.overwrite and os.listdir(self._final):  # filled since it was looked at
                raise exists_error(self.target)
            carrying = Carrying(self._before, frozenset(os.listdir(self.path)), self.weights)
            carrying.carry(self._final, self.path)
            self._keep_attributes(carrying)
        if self.fsync:
            for entry in os.scandir(self.path):
                if entry.is_file(follow_symlinks=False):
                    _sync_file(entry.path)
            sync_folder(self.path)
        if carrying is None:
            rename_new(self.path, self._final, self.target)
            self.path = ""
        else:
            self._replace(carrying)
            self._settle()
        if self.fsync:
            sync_name(self._folder, self.target)

    def _hold_old(self) -> None:
        """Lock the folder that goes: of several who replace it one goes first, and nobody takes it for stale afterwards."""
        if self.claim is None:  # which locks it
            self._old_lock, _ = locks.hold_named(self._final, PATIENCE)

    def _replace(self, carrying: Carrying) -> None:
        new = os.stat(self.path)
        try:
            self._check_claim(carrying, self._final)
            if not locks.exchange(self.path, self._final):
                self._replace_in_two_steps(carrying)
            elif self.claim is not None:
                self._check_exchanged(carrying, new)
        finally:  # Ctrl-C right after it too: what has the temporary name then is the old folder
            with suppress(OSError):
                if os.path.samestat(os.stat(self._final), new):
                    self._replaced = carrying

    def _check_claim(self, carrying: Carrying, at: str) -> None:
        if self.claim is not None:
            self.claim.check(at, carrying.goes)

    def _check_exchanged(self, carrying: Carrying, new: os.stat_result) -> None:
        """What a program wrote in the last moment gets its name back."""
        try:
            self._check_claim(carrying, self.path)
        except BaseException:
            if os.path.samestat(os.stat(self._final), new):
                locks.exchange(self.path, self._final)
            raise

    def _replace_in_two_steps(self, carrying: Carrying) -> None:
        """Without an exchange the name is missing for the moment between two renames; old data never is."""
        aside = self._name_aside()
        try:
            os.rename(self._final, aside)
            self._check_claim(carrying, aside)
            os.rename(self.path, self._final)
        except BaseException:
            if not os.path.lexists(self._final):
                os.rename(aside, self._final)
            raise
        finally:
            if not os.path.lexists(self.path):
                self.path = aside

    def _name_aside(self) -> str:
        """No temporary name: should the machine stop now, the next run must not clean it away."""
        return temporary_name(self._folder).removesuffix(SUFFIX) + ".old"

    def _settle(self) -> None:
        """Empty the replaced folder into the new one, and remove it. The output is complete, whatever happens here."""
        carrying, old = self._replaced, self.path
        assert carrying is not None
        try:
            brought = carrying.settle(old, self._final)
            self.path = ""
            if brought and self.fsync:
                sync_folder(self._final)
        except OSError:
            if self.path:
                self.path, self.aside = "", self._name_aside()
                try:
                    os.rename(old, self.aside)
                except OSError:
                    self.aside = old
        self.carried, self.gone = tuple(sorted(carrying.carried)), tuple(sorted(carrying.gone))

    def _discard(self) -> None:
        """Remove what now has the temporary name: the unfinished new folder, or the replaced old one."""
        if self.path and self._replaced is not None:
            self._settle()
        elif self.path:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path = ""
        for fd in (self._lock, self._old_lock):
            if fd >= 0:
                os.close(fd)
        self._lock = self._old_lock = -1


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)
