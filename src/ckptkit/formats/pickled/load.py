"""From bytes to a tree: run the machine, then prove that the tree is small enough to be walked."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import FormatError
from .errors import Refused, Truncated
from .machine import Machine
from .measuring import measure
from .tree import Opaque, StorageNode, StorageType

# What is no pickle is seen by its beginning, before gigabytes of it are read; the others lose a hundredth.
LARGE, BEGINNING = 64 << 20, 1 << 20
Read = Callable[[int], bytes]


class StorageIds:
    """Describes torch's persistent ids; one key is one storage with one type and length.

    Args:
        legacy: whether ids carry a view as sixth part, and may name modules.
    """

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
        self.storages: dict[str, StorageNode] = {}
        self.views: dict[str, StorageNode] = {}

    def __call__(self, pid: Any) -> Any:
        """The node of one persistent id."""
        if type(pid) is not tuple or not pid:
            raise Refused("a persistent id that is no tuple")
        if self.legacy and pid[0] == "module" and len(pid) == 4 and type(pid[1]) is Opaque:
            return pid[1]
        if pid[0] != "storage" or len(pid) != (6 if self.legacy else 5):
            raise Refused("a persistent id that names no storage")
        kind, key, location, numel = pid[1:5]
        if type(kind) is Opaque:
            raise Refused(f"{kind.label} is used as the type of a storage")
        if type(kind) is not StorageType:
            raise Refused("a storage without a storage type")
        if type(key) is not str or type(location) is not str:
            raise Refused("a storage whose key or location is no string")
        if type(numel) is not int or numel < 0:
            raise Refused(f"storage {ascii(key)[:60]} has an impossible number of elements")
        known = self.storages.get(key)
        if known is None:
            known = self.storages[key] = StorageNode(key, kind.dtype, numel, location)
        elif known.dtype != kind.dtype or known.numel != numel:
            raise Refused(
                f"storage {ascii(key)[:60]} is declared as {known.numel} x {known.dtype} and as "
                f"{numel} x {kind.dtype}"
            )
        view = self._view(pid[5]) if self.legacy else None
        return known if view is None else self._viewed(known, view)

    def _viewed(self, base: StorageNode, view: tuple[str, int, int]) -> StorageNode:
        known = self.views.get(view[0])
        if known is None:
            known = self.views[view[0]] = StorageNode(
                view[0], base.dtype, view[2], base.location, (base.key, *view[1:])
            )
        elif known.view != (base.key, *view[1:]):
            raise Refused(f"storage view {ascii(view[0])[:60]} is declared twice, differently")
        return known

    @staticmethod
    def _view(view: Any) -> tuple[str, int, int] | None:
        if view is None:
            return None
        if type(view) is not tuple or len(view) != 3:
            raise Refused("a storage view that is no triple")
        key, offset, numel = view
        if (
            type(key) is not str
            or type(offset) is not int
            or type(numel) is not int
            or min(offset, numel) < 0
        ):
            raise Refused("a storage view with an impossible range")
        return key, offset, numel


def no_persistent_ids(_: Any) -> Any:
    """For pickles that have none."""
    raise Refused("a persistent id where none belongs")


def load_pickle(
    data: bytes, *, file: str, what: str, persistent: Callable[[Any], Any] = no_persistent_ids,
    start: int | None = None,
) -> Any:  # fmt: skip
    """Describe a pickle that fills `data` exactly.

    Args:
        data: the pickle.
        file: the file it came from, for messages.
        what: its name inside that file, e.g. ``data.pkl``.
        persistent: describes persistent ids.
        start: where the pickle begins in the file, where that is known.

    Returns:
        The tree (see `tree`): acyclic, at most `measuring.MAX_DEPTH` deep, and small enough to be walked naively.

    Raises:
        FormatError: it is damaged, breaks a law of the restricted reader, or bytes follow its STOP.
    """
    machine = Machine(data, persistent)
    with paused_gc(), _refusals(file, what, machine, start):
        value, end = machine.run()
        if end != len(data):
            raise Refused(f"{len(data) - end} bytes follow the end of the pickle")
        measure(value, len(data))
    return value


def check_beginning(
    read: Read, size: int, *, file: str, what: str, persistent: Callable[[Any], Any] = no_persistent_ids,
    start: int | None = None,
) -> None:  # fmt: skip
    """Refuse a large pickle whose first bytes are none; says nothing of one below `LARGE`.

    Args:
        read, size, file, what, persistent, start: as in `load_prefix`; `persistent` is not to be used again.

    Raises:
        FormatError: it is refused.
    """
    if size < LARGE:
        return
    machine = Machine(read(BEGINNING), persistent, size)
    with paused_gc(), _refusals(file, what, machine, start), suppress(Truncated):
        _, end = machine.run()
        raise Refused(f"{size - end} bytes follow the end of the pickle")


def load_prefix(
    read: Read, size: int, *, file: str, what: str, persistent: Callable[[Any], Any] = no_persistent_ids,
    window: int = 1 << 16, limit: int = 1 << 29, start: int | None = None,
) -> tuple[Any, int]:  # fmt: skip
    """Describe a pickle that is followed by other bytes, reading no more than needed.

    Args:
        read: gives the first n bytes, fewer at the end of the file.
        size: how many bytes there are at most.
        file, what, persistent, start: as in `load_pickle`.
        window: bytes to try first.
        limit: a longer pickle is refused.

    Returns:
        The tree, and the number of bytes that the pickle takes.

    Raises:
        FormatError: as in `load_pickle`.
    """
    while True:
        data = read(min(window, size))
        machine = Machine(data, persistent)
        with paused_gc(), _refusals(file, what, machine, start):
            try:
                value, end = machine.run()
                measure(value, end)
                return value, end
            except Truncated as short:
                if len(data) >= size or short.need > size:
                    raise
                if short.need > limit:
                    raise Refused(f"it goes on beyond {limit} bytes, which are the most") from None
                window = min(max(window * 8, short.need), limit)
        del data, machine  # two at a time would be twice the memory


@contextmanager
def _refusals(file: str, what: str, machine: Machine, start: int | None) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise FormatError(
            f"{file}: {what} is refused at byte {machine.pos}: {refused}",
            file=file,
            offset=None if start is None else start + machine.pos,
        ) from None
    except Truncated as short:
        raise FormatError(
            f"{file}: {what} is cut: it needs at least {short.need} bytes and has {len(machine.data)}",
            file=file,
            offset=None if start is None else start + len(machine.data),
        ) from None


@contextmanager
def paused_gc() -> Iterator[None]:
    """No cyclic collections inside: hundreds of thousands of small objects are born and none dies."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
