"""What a file has besides its bytes: owner, group, permissions, extended attributes. They stay when it is replaced."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
# Sums and signatures of the bytes that go, and what these may do as a program: on other bytes they would be false.
_OF_THE_BYTES = frozenset({"security.ima", "security.evm", "security.capability"})
NOBODY = -1  # leaves an owner or group as it is, as chown does
Lost = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of one file or folder.

    Args:
        mode: permissions, with the special bits.
        uid, gid: owner and group; `NOBODY` where it does not matter.
        extended: name to value of its extended attributes, access lists among them.
        unread: names of those that may not be read.
    """

    mode: int
    uid: int = NOBODY
    gid: int = NOBODY
    extended: Mapping[str, bytes] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def attributes_of(path: str) -> Attributes:
    """Those of a file or folder; links are followed.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(path)
    extended, unread = {}, []
    for name in _names(path):
        try:
            extended[name] = _get(path, name)
        except OSError:
            unread.append(name)
    return Attributes(
        stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, extended, tuple(sorted(unread))
    )


def shared(many: Sequence[Attributes]) -> Attributes | None:
    """What all of several have, for a file that replaces them together; nobody may do more than with each. None of none."""
    if not many:
        return None
    first, *others = many
    same = {n: v for n, v in first.extended.items() if all(other.extended.get(n) == v for other in others)}
    mode = reduce(and_, (each.mode for each in many))
    if any(_ACCESS in each.extended for each in many) and _ACCESS not in same:
        mode = _without_group(mode)
    return Attributes(
        mode,
        first.uid if all(other.uid == first.uid for other in others) else NOBODY,
        first.gid if all(other.gid == first.gid for other in others) else NOBODY,
        same,
        tuple(sorted({name for each in many for name in each.unread})),
    )


def give(fd: int, wanted: Attributes) -> list[str]:
    """Give a new file or folder, which is open, the attributes of what it replaces.

    Where the group cannot be the old one, or the access list cannot, the group may do no more than all others: its members
    might have had no right to look.

    Returns:
        What could not be kept, in words.

    Raises:
        OSError: the permissions cannot be set.
    """
    if sys.platform == "win32":
        return []
    lost = _give_owner(fd, wanted)
    status = os.fstat(fd)
    refused = _give_extended(fd, wanted)
    group_is_theirs = wanted.gid == status.st_gid
    mode = wanted.mode
    if not group_is_theirs or _ACCESS in refused:
        mode = _without_group(mode)
    if wanted.uid not in (NOBODY, status.st_uid):
        mode &= ~stat.S_ISUID
    os.fchmod(fd, mode)
    lost += [f"the extended attribute {name}" for name in refused]
    if mode != wanted.mode:
        lost.append(f"the mode {wanted.mode:04o}, which is {mode:04o} now")
    return lost


def told(lost: Lost) -> tuple[str, ...]:
    """One line for each thing that could not be kept.

    Args:
        lost: what it is, as `give` says it, to the files that have lost it.
    """
    return tuple(
        f"not kept of what was replaced: {what}, of {', '.join(names[:3])}"
        f"{f' and {len(names) - 3} more' if len(names) > 3 else ''}; set it again where it matters"
        for what, names in lost.items()
    )


def _give_owner(fd: int, wanted: Attributes) -> list[str]:
    lost = []
    status = os.fstat(fd)
    # The group first: who has given a file away may not change its group any more.
    if wanted.gid not in (NOBODY, status.st_gid):
        try:
            os.fchown(fd, NOBODY, wanted.gid)
        except OSError:
            lost.append(f"the group (id {wanted.gid})")
    if wanted.uid not in (NOBODY, status.st_uid):
        try:
            os.fchown(fd, wanted.uid, NOBODY)
        except OSError:
            lost.append(f"the owner (id {wanted.uid})")
    return lost


def _give_extended(fd: int, wanted: Attributes) -> list[str]:
    """Set them, and take away access lists that came from the folder; returns the names of those that were refused."""
    refused = list(wanted.unread)
    own = set(_names(fd))
    for name in (own & {_ACCESS, _DEFAULT}) - set(wanted.extended):
        with suppress(OSError):
            _remove(fd, name)
    for name, value in wanted.extended.items():
        try:
            if name in own and _get(fd, name) == value:  # the kernel's own often are, and may not be set
                continue
            if name in _OF_THE_BYTES:
                refused.append(name)
            else:
                _set(fd, name, value)
        except OSError:
            refused.append(name)
    return sorted(refused)


def _without_group(mode: int) -> int:
    return mode & ~(stat.S_ISGID | 0o070) | mode & (mode & 0o007) << 3


def early(attributes: Attributes) -> Attributes:
    """What a folder has while it is filled: new files in it get the group and the access lists that are usual there, and
    nobody else may look.
    """
    return replace(attributes, mode=attributes.mode & stat.S_ISGID | 0o700, uid=NOBODY)


def collect(lost: dict[str, list[str]], name: str, what: Iterable[str]) -> None:
    """Add to what `told` tells."""
    for each in what:
        lost.setdefault(each, []).append(name)


if sys.platform == "linux":

    def _names(path: str | int) -> list[str]:
        try:
            return os.listxattr(path)
        except OSError:  # a file system without them
            return []

    _get, _set, _remove = os.getxattr, os.setxattr, os.removexattr
else:  # Python has no way to them

    def _names(path: str | int) -> list[str]:
        return []

    def _get(path: str | int, name: str) -> bytes:
        raise OSError(name)

    def _set(path: str | int, name: str, value: bytes) -> None:
        raise OSError(name)

    def _remove(path: str | int, name: str) -> None:
        raise OSError(name)
