"""What stays when a folder is replaced: everything in it that is not the checkpoint that goes."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..errors import WriteError
from .attributes import attributes_of, collect, give
from .regular import stamp

_SHARD = re.compile(
    r"(?:model|pytorch_model)\.(?:safetensors|bin)|.*-\d{5,}-of-\d{5,}\.(?:safetensors|bin)|.*\.(?:safetensors|bin)\.index\.json"
)
_PASSES = 100


def is_weight_file(name: str) -> bool:
    """Whether a file of a model folder belongs to the checkpoint itself: weights, shards, an index."""
    return _SHARD.fullmatch(name) is not None


def is_stale(name: str) -> bool:
    """Whether a file of a replaced folder would be taken for weights of the new checkpoint beside it."""
    return is_weight_file(name) or name.endswith(".safetensors")


class _Seen(NamedTuple):
    """An entry when it got its place in the new folder: what it was, and what it became."""

    old: tuple[int, ...]
    new: tuple[int, int]


class Carrying:
    """The foreign entries of one folder that another one replaces.

    Args:
        before: the names in the old folder when the work on the new one began.
        own: the names that the new folder has of its own; they win.
        weights: files that are weights of the old folder, though their names alone do not say so.

    Attributes:
        carried: names that have their place in the new folder.
        gone: names that went with the old folder, other than the weights that were there before.
        lost: what folders and copies in the new folder could not have of the old ones, for `attributes.told`.
    """

    def __init__(
        self, before: frozenset[str], own: frozenset[str], weights: frozenset[str] = frozenset()
    ) -> None:
        self.before = before
        self.own = own
        self.weights = weights
        self.carried: set[str] = set()
        self.gone: set[str] = set()
        self.lost: dict[str, list[str]] = {}
        self._seen: dict[str, _Seen] = {}

    def carry(self, old: str, new: str) -> None:
        """Give what is in the old folder a second place in the new one, before that one gets the name.

        Raises:
            WriteError: a folder has the name of a file of the new folder.
            OSError: the system refuses.
        """
        for name in os.listdir(old):
            folder = _is_folder(os.path.join(old, name))
            if folder and name in self.own:
                raise WriteError(
                    f"{os.path.join(old, name)}: is a folder, and a file of this name is to be written; move it away",
                    file=os.path.join(old, name),
                )
            if not self.goes(name, folder):
                self._carry(os.path.join(old, name), os.path.join(new, name), name)
        self.carried = {name for name in os.listdir(new) if name not in self.own}

    def settle(self, old: str, new: str) -> bool:
        """Once the new folder has the name: bring what appeared since `carry`, and remove the old folder.

        Nothing is removed but what goes by its name, and what is in the new folder too. Can be called again after
        an interrupt.

        Returns:
            Whether anything was brought.

        Raises:
            OSError: something could neither be brought nor removed, and is still in the old folder.
        """
        brought = False
        for left in reversed(range(_PASSES)):  # whoever still has the old folder open may go on filling it
            with _vanishing(old):
                brought |= self._settle(old, new, "")
            try:
                os.rmdir(old)
            except FileNotFoundError:
                break
            except OSError:
                if not left or not os.listdir(old):
                    raise
            else:
                break
        return brought

    def goes(self, name: str, folder: bool) -> bool:
        """Whether an entry makes way. A folder is nobody's weights, whatever its name: it may be a whole checkpoint."""
        return name in self.own or ((is_stale(name) or name in self.weights) and not folder)

    def _carry(self, old: str, new: str, place: str) -> None:
        with _vanishing(old):
            self._carry_one(old, new, place)

    def _carry_one(self, old: str, new: str, place: str) -> None:
        status = os.lstat(old)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(new)
            for name in os.listdir(old):
                self._carry(os.path.join(old, name), os.path.join(new, name), os.path.join(place, name))
            shutil.copystat(old, new)
            self._keep(old, new, place)
        elif not _link(old, new) and stat.S_ISREG(status.st_mode):
            self._keep(old, new, place)
        self._seen[place] = _Seen(stamp(status), _identity(new))

    def _keep(self, old: str, new: str, place: str) -> None:
        os.chmod(new, 0o700)  # to open it; nobody else may look into the new folder yet
        fd = os.open(new, os.O_RDONLY)
        try:
            collect(self.lost, place, give(fd, attributes_of(old)))
        finally:
            os.close(fd)

    def _settle(self, old: str, new: str, place: str) -> bool:
        brought = False
        _let_remove(old)
        for entry in list(os.scandir(old)):
            here, there = os.path.join(place, entry.name), os.path.join(new, entry.name)
            folder = entry.is_dir(follow_symlinks=False)
            if not place and self.goes(entry.name, folder):
                weights = is_weight_file(entry.name) or entry.name in self.weights
                known = weights and entry.name in self.before
                if folder or (entry.name not in self.own and not known):
                    self.gone.add(entry.name)
                with _vanishing(entry.path):
                    _remove(entry.path)
            elif folder and _is_folder(there):
                with _vanishing(entry.path):
                    brought |= self._settle(entry.path, there, here)
                    os.rmdir(entry.path)
            else:
                with _vanishing(entry.path):
                    brought |= self._settle_one(entry.path, there, here)
                if not place and os.path.lexists(there):
                    self.carried.add(entry.name)
        return brought

    def _settle_one(self, old: str, new: str, place: str) -> bool:
        """Bring one entry if it appeared, or changed, since it was carried; what is newer in the new folder stays."""
        seen = self._seen.get(place)
        if seen is None:
            appeared = not os.path.lexists(new)
        else:
            found = stamp(os.lstat(old))
            # A second name shows whatever was written since; a copy can be older than its origin.
            same = found[:2] == seen.new or found == seen.old
            appeared = not same and _identity(new) == seen.new
        if not appeared:
            _remove(old)
            return False
        if seen is not None:
            _remove(new)
        try:
            os.rename(old, new)
        except OSError:  # another file system is mounted there
            if os.path.isdir(old) and not os.path.islink(old):
                raise
            _link(old, new)
            os.unlink(old)
        return True


def _link(source: str, target: str) -> bool:
    """Give an entry of the folder that is about to go its place in the new one.

    A name of its own, so that large files cost nothing and FIFOs are not waited for; a copy where the file
    system has no second names.

    Returns:
        Whether it is the same file.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)
        return False
    return True


@contextmanager
def _vanishing(path: str) -> Iterator[None]:
    """Around work on an entry that its owner may remove meanwhile, as programs do with files they only need for a moment."""
    try:
        yield
    except FileNotFoundError:
        if os.path.lexists(path):
            raise


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0, 0
    return status.st_dev, status.st_ino


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _let_remove(folder: str) -> None:
    """A folder that may not be written to cannot be emptied."""
    mode = stat.S_IMODE(os.lstat(folder).st_mode)
    if mode & 0o700 != 0o700:
        with suppress(OSError):
            os.chmod(folder, mode | 0o700)


def _remove(path: str) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
