"""Folders that appear complete or not at all: built beside the target, then renamed or exchanged."""

from __future__ import annotations

import os
import re
import shutil
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

_SHARD = re.compile(
    r"(?:model|pytorch_model)\.(?:safetensors|bin)|.*-\d{5,}-of-\d{5,}\.(?:safetensors|bin)|.*\.(?:safetensors|bin)\.index\.json"
)


def is_weight_file(name: str) -> bool:
    """Whether a file of a model folder belongs to the checkpoint itself: weights, shards, an index."""
    return _SHARD.fullmatch(name) is not None


def is_stale(name: str) -> bool:
    """Whether a file of a replaced folder would be taken for weights of the new checkpoint beside it."""
    return is_weight_file(name) or name.endswith(".safetensors")


class AtomicDir:
    """A context manager whose folder gets its name at the end, and only if nothing went wrong.

    An existing folder is replaced in one step by exchange. Its old weight files (every safetensors file too) go; every other
    file in it is carried over, unless the new folder has one of that name.

    Args:
        target: the final path; if it is a link, the folder it points to is replaced and the link kept.
        overwrite: replace a folder that holds anything.
        fsync: make files and names durable before the end.

    Attributes:
        path: the temporary folder to fill.
        carried: names that were carried over, after the end.

    Raises:
        WriteError: the target exists without `overwrite`, is no folder, or the system refuses.
    """

    def __init__(self, target: str, *, overwrite: bool = False, fsync: bool = True) -> None:
        self.target = target
        self.overwrite = overwrite
        self.fsync = fsync
        self.carried: tuple[str, ...] = ()
        self.path = ""
        self._final = resolve(target)
        self._folder = os.path.dirname(self._final)
        self._lock = -1

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

    def _check_target(self) -> None:
        if os.path.lexists(self._final):
            if not os.path.isdir(self._final):
                raise WriteError(
                    f"{self.target}: is a file, but a folder is to be written there; choose another target",
                    file=self.target,
                )
            if not self.overwrite and os.listdir(self._final):
                raise exists_error(self.target)
        elif not os.path.isdir(self._folder):
            raise WriteError(
                f"{self.target}: the folder {self._folder} does not exist; make it first", file=self.target
            )

    def _create(self) -> None:
        while True:
            self.path = temporary_name(self._folder)
            os.mkdir(self.path)
            if os.name == "nt":  # which cannot open folders, and so cannot lock them
                return
            try:
                self._lock = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                continue  # a neighbour took it for stale before it could be locked
            locks.hold(self._lock)
            if locks.still_named(self._lock, self.path):
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
        replacing = os.path.isdir(self._final)
        if replacing:
            self._carry_over()
            shutil.copymode(self._final, self.path)
        if self.fsync:
            for entry in os.scandir(self.path):
                if entry.is_file(follow_symlinks=False):
                    _sync_file(entry.path)
            sync_folder(self.path)
        if not replacing:
            rename_new(self.path, self._final, self.target)
            self.path = ""
        elif not locks.exchange(self.path, self._final):
            self._replace_in_two_steps()
        if self.fsync:
            sync_name(self._folder, self.target)

    def _carry_over(self) -> None:
        carried = []
        for entry in sorted(os.scandir(self._final), key=lambda e: e.name):
            new = os.path.join(self.path, entry.name)
            if is_stale(entry.name) or os.path.lexists(new):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.copytree(entry.path, new, symlinks=True, copy_function=_move_over)
            else:
                _move_over(entry.path, new)
            carried.append(entry.name)
        self.carried = tuple(carried)

    def _replace_in_two_steps(self) -> None:
        """Without an exchange the name is missing for the moment between two renames; old data never is."""
        # No temporary name: should the machine stop between the two, the next run must not clean it away.
        aside = temporary_name(self._folder).removesuffix(SUFFIX) + ".old"
        try:
            os.rename(self._final, aside)
            os.rename(self.path, self._final)
        except BaseException:
            if not os.path.lexists(self._final):
                os.rename(aside, self._final)
            raise
        self.path = aside

    def _discard(self) -> None:
        """Remove what now has the temporary name: the unfinished new folder, or the replaced old one."""
        if self.path:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path = ""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def bring(source: str, target: str) -> None:
    """Give a file a second place: copied, never linked, so that a change to one never shows in the other.

    What a link leads to is copied: downloaded model folders are full of relative links, which lead nowhere
    from another place.
    """
    shutil.copy2(source, target)


def _move_over(source: str, target: str) -> str:
    """Give an entry of the folder that is about to go its place in the new one.

    A name of its own, so that large files cost nothing and FIFOs are not waited for; a copy where the file
    system has no second names.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)
