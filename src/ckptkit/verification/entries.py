"""Every entry of a zip archive against its CRC, whether any tensor reads it or not."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ..errors import FormatError
from ..formats.base import Progress
from ..formats.zipfmt import Archive, Entry
from .report import Damage

WORKERS = 2  # zlib lets go of the interpreter while it counts


class EntryCheck:
    """Reads the entries of one archive.

    Args:
        archive: the opened archive.
        readers: for each storage a key that reads it; None when the pickle that would say so is damaged.
        progress: called with the number of bytes just read, from one thread at a time.

    Attributes:
        problems: damaged entries, in the order of the file.
        nbytes: bytes of content that were read.
        unsigned: entries without a CRC.
    """

    def __init__(self, archive: Archive, readers: Mapping[str, str] | None, progress: Progress) -> None:
        self.archive = archive
        self.readers = readers
        self.progress = progress
        self.problems: list[Damage] = []
        self.nbytes = 0
        self.unsigned = sum(1 for entry in archive.entries.values() if entry.usize and not entry.crc)
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting = iter(sorted(archive.entries.values(), key=lambda entry: entry.offset))

    def run(self) -> None:
        """Check all entries."""
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="ckptkit-crc") as pool:
            work = [pool.submit(self._work) for _ in range(WORKERS)]
            try:
                for each in work:
                    each.result()
            finally:  # who interrupts does not wait for gigabytes
                self._stopped = True
        self.problems.sort(key=lambda damage: damage.offset or 0)

    def _work(self) -> None:
        try:
            while (entry := self._next()) is not None:
                damage = self._check(entry)
                if damage is not None:
                    self.problems.append(damage)
        except BaseException:
            self._stopped = True
            raise

    def _next(self) -> Entry | None:
        with self._lock:
            return None if self._stopped else next(self._waiting, None)

    def _check(self, entry: Entry) -> Damage | None:
        key = self._reader(entry)
        try:
            for chunk in self.archive.content(entry):
                with self._lock:
                    if self._stopped:
                        return None
                    self.nbytes += len(chunk)
                    self.progress(len(chunk))
        except FormatError as error:
            unread = self.readers is not None and key is None and entry.name.startswith("data/")
            words = f"{error.message}; no tensor reads this entry" if unread else error.message
            offset = entry.offset if error.offset is None else error.offset  # of the page that cannot be read
            return Damage(self.archive.path, words, key, offset)
        return None

    def _reader(self, entry: Entry) -> str | None:
        folder, _, storage = entry.name.partition("/")
        return (self.readers or {}).get(storage) if folder == "data" else None
