"""Deflated entries of an archive: unfolded from the start, or in parts without starting over each time."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NoReturn, Protocol

from .base import CHUNK

MARKS = 1024  # places to go on from, in all; each takes about 45 kB
KEPT = 64  # chunks that are kept unfolded


class Entry(Protocol):
    """What is unfolded: ``zipfmt.Entry``."""

    @property
    def name(self) -> str: ...
    @property
    def csize(self) -> int: ...
    @property
    def usize(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Reader(Protocol):
    """What it is read from: ``zipfmt.Archive``."""

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes of the archive."""
        ...

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        """Refuse the archive."""
        ...


class Unfolding:
    """One pass over a deflated entry.

    Args:
        archive: where it lies.
        entry: the entry.
    """

    def __init__(self, archive: Reader, entry: Entry) -> None:
        self.archive = archive
        self.entry = entry
        self._inflate = zlib.decompressobj(-15)
        self._fed = self._done = 0
        self._waiting = b""

    def copy(self) -> Unfolding:
        """Another pass, which goes on from here."""
        other = Unfolding(self.archive, self.entry)
        other._inflate = self._inflate.copy()
        other._fed, other._done = self._fed - len(self._waiting), self._done
        return other

    def take(self, most: int) -> bytes:
        """The next bytes of the content: as many as asked for, fewer at its end.

        Raises:
            FormatError: the data is damaged, or has another length than declared.
        """
        entry = self.entry
        parts: list[bytes] = []
        missing = most
        while missing and not self._inflate.eof:
            if not self._waiting and self._fed < entry.csize:
                self._waiting = self.archive.pread(
                    entry.offset + self._fed, min(CHUNK, entry.csize - self._fed)
                )
                self._fed += len(self._waiting)
            try:
                part = self._inflate.decompress(self._waiting, missing)
            except zlib.error as error:
                self._fail(f"does not inflate: {error}")
            self._waiting = self._inflate.unconsumed_tail
            if not part and not self._waiting and self._fed >= entry.csize and not self._inflate.eof:
                self._fail("ends in the middle of its deflated data")
            parts.append(part)
            missing -= len(part)
            self._done += len(part)
            if self._done > entry.usize:
                self._fail(f"unfolds beyond its {entry.usize} bytes")
        if self._inflate.eof and (
            self._done != entry.usize
            or self._waiting
            or self._inflate.unused_data
            or self._fed != entry.csize
        ):
            self._fail(f"does not fill its {entry.usize} bytes")
        return b"".join(parts)

    def _fail(self, what: str) -> NoReturn:
        self.archive.fail(f"entry {ascii(self.entry.name)[:80]} {what}", self.entry.offset)


class Parts:
    """Parts of deflated entries in any order: each chunk is unfolded from a place shortly before it.

    Args:
        archive: where they lie.
        entries: those that may be asked for.
    """

    def __init__(self, archive: Reader, entries: Iterable[Entry]) -> None:
        self.archive = archive
        total = sum(entry.usize for entry in entries)
        self._step = max(1, -(-total // (MARKS * CHUNK)))  # chunks from mark to mark
        self._marks: dict[tuple[int, int], Unfolding] = {}
        self._last: tuple[int, int, Unfolding] | None = None
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, entry: Entry, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start:stop`` of the content.

        Raises:
            FormatError: the data is damaged.
        """
        for number in range(start // CHUNK, -(-stop // CHUNK)):
            first = number * CHUNK
            yield self._chunk(entry, number)[max(start - first, 0) : stop - first]

    def _chunk(self, entry: Entry, number: int) -> bytes:
        place = (entry.offset, number)
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            at, unfolding = self._before(entry, number)
            while True:
                if at % self._step == 0 and at:
                    self._marks.setdefault((entry.offset, at), unfolding.copy())
                data = self._kept[entry.offset, at] = unfolding.take(CHUNK)
                at += 1
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                if at > number:
                    break
            self._last = (entry.offset, at, unfolding)
            return data

    def _before(self, entry: Entry, number: int) -> tuple[int, Unfolding]:
        """The nearest chunk at or before one from which it can be unfolded."""
        last, self._last = self._last, None
        mark = number - number % self._step
        while mark and (entry.offset, mark) not in self._marks:
            mark -= self._step
        if last is not None and last[0] == entry.offset and mark <= last[1] <= number:
            return last[1], last[2]
        if mark:
            return mark, self._marks[entry.offset, mark].copy()
        return 0, Unfolding(self.archive, entry)
