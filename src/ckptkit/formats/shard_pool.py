"""The opened shards of one checkpoint: as many as a process may well keep open, the others opened again when needed."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError
from ..files.regular import stamp
from ..signatures import Signature
from .base import PLAIN, Flags, Source, View

_MOST = 256
Opener = Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class Place:
    """What stays known of a tensor while its shard is not open.

    Args:
        view: where it lies, or why nobody may have its bytes.
        lazy: as `Source.lazy`, which is asked most where there is no view: the bytes of such tensors are not their values.
        stored: as `Source.storage_size`.
        flags: as `Source.flags`.
    """

    view: View | FormatError
    lazy: bool
    stored: int | None
    flags: Flags


@dataclass(frozen=True, slots=True)
class Shard:
    """What stays known of a shard while it is not open.

    Args:
        path: the file.
        stamp: `files.regular.stamp` of it when it was first opened.
        signature, format, files, notes, state_metadata, surroundings: as in `Source`.
        places: of its tensors, by key; empty while all shards are open.
    """

    path: str
    stamp: tuple[int, ...]
    signature: Signature
    format: str
    files: tuple[str, ...]
    notes: tuple[str, ...]
    state_metadata: dict[str, Any] | None
    surroundings: tuple[str, ...]
    places: dict[str, Place]


class ShardPool:
    """Shards by name.

    Args:
        opener: opens one.

    Attributes:
        shards: what is known of each.
        crowded: whether they are more than are kept open.
    """

    def __init__(self, opener: Opener) -> None:
        self.shards: dict[str, Shard] = {}
        self._opener = opener
        self._open: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False
        self._most = most_open()
        self.crowded = False

    def open(self, paths: dict[str, str]) -> None:
        """Open every shard once, and keep in mind what it holds.

        Args:
            paths: name to path.

        Raises:
            FormatError: one cannot be opened.
        """
        self.crowded = len(paths) > self._most
        for name, path in paths.items():
            before = _stamp(path)
            source = self._keep(name, self._opener(path))
            places = {key: _place(source, key) for key in source.signature} if self.crowded else {}
            self.shards[name] = Shard(
                path, before, source.signature, source.format, source.files, source.notes, source.state_metadata,
                source.surroundings, places,
            )  # fmt: skip

    @contextmanager
    def use(self, name: str) -> Iterator[Source]:
        """A shard, open as long as it is used.

        Raises:
            FormatError: it changed since it was first opened, or the pool is closed.
        """
        with self._lock:
            held = self._open.get(name) or self._again(name)
            self._open.move_to_end(name)
        yield held

    def view(self, name: str, key: str) -> View:
        """Where a tensor of a shard lies; errors as for `Source.view`."""
        if not self.crowded:  # asked for every key, and none is ever closed
            return self._open[name].view(key)
        view = self.shards[name].places[key].view
        if isinstance(view, FormatError):
            raise copy(view)  # each with a traceback of its own: that leads to the pool, and so would hold it
        return view

    def lazy(self, name: str, key: str) -> bool:
        """`Source.lazy` of a tensor of a shard."""
        if not self.crowded:
            return self._open[name].lazy(key)
        return self.shards[name].places[key].lazy

    def storage_size(self, name: str, key: str) -> int | None:
        """`Source.storage_size` of a tensor of a shard."""
        if not self.crowded:
            return self._open[name].storage_size(key)
        return self.shards[name].places[key].stored

    def flags(self, name: str, key: str) -> Flags:
        """`Source.flags` of a tensor of a shard."""
        if not self.crowded:
            return self._open[name].flags(key)
        return self.shards[name].places[key].flags

    def check_unchanged(self) -> None:
        """As `Source.check_unchanged`, of all shards."""
        for name, shard in self.shards.items():
            with self._lock:
                held = self._open.get(name)
            if held is None:
                self._check(shard)
            else:
                held.check_unchanged()

    def close(self) -> None:
        """Let go of all shards."""
        with self._lock:
            self._closed = True
            for held in self._open.values():
                held.close()

    def _again(self, name: str) -> Source:
        shard = self.shards[name]
        self._check(shard)
        held = self._keep(name, self._opener(shard.path))
        self._check(shard)
        return held

    def _check(self, shard: Shard) -> None:
        if self._closed:
            raise FormatError(f"{shard.path}: it was closed; open it again", file=shard.path)
        if _stamp(shard.path) != shard.stamp:
            raise FormatError(f"{shard.path}: it changed while it was open; open it again", file=shard.path)

    def _keep(self, name: str, source: Source) -> Source:
        self._open[name] = source
        while len(self._open) > self._most:  # closed when no other thread is in the middle of reading from it
            self._open.popitem(last=False)
        return source


def most_open() -> int:
    """How many files one checkpoint keeps open: a quarter of what the process may open, for it is not alone."""
    if sys.platform == "win32":
        return _MOST
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if soft < 0 else max(4, min(_MOST, soft // 4))


def _stamp(path: str) -> tuple[int, ...]:
    try:
        return stamp(os.stat(path))
    except (OSError, ValueError):
        return ()


def _place(source: Source, key: str) -> Place:
    lazy, stored, flags = False, None, PLAIN
    try:
        lazy, stored, flags = source.lazy(key), source.storage_size(key), source.flags(key)
        return Place(source.view(key), lazy, stored, flags)
    except FormatError as error:
        return Place(error.with_traceback(None), lazy, stored, flags)
