"""Storages of a torch file as bytes and as torch storages: mapped where they can be, else read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

from ..errors import FormatError
from ..files.copy import checksum
from ..files.mapped import MappedFile
from .base import CHUNK, Buffer, Storage

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 16  # the widest element, complex128


class Bytes(ABC):
    """Access to the storages of one open torch file.

    Args:
        file: the open file; closed by `close`.
        swapped: element width by storage id, for storages whose elements are big-endian.

    Attributes:
        inline: bytes that stand in a pickle, by storage id; they belong to no entry.
    """

    def __init__(self, file: MappedFile, swapped: dict[str, int]) -> None:
        self.path = file.path
        self.file = file
        self.swapped = swapped
        self.inline: Mapping[str, bytes] = {}
        self._verified: set[str] = set()
        self._last: tuple[tuple[str, int, int], torch.Tensor] | None = None
        self._mapped_storages: dict[str, torch.Tensor] = {}

    @abstractmethod
    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes of a storage as the file holds them, CRC-checked when they are all of it."""

    @abstractmethod
    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        """Refuse a damaged storage."""

    def close(self) -> None:
        """Let go of the file; mapped tensors stay valid."""
        self.file.close()
        self._last = None
        self._mapped_storages.clear()

    def check_unchanged(self) -> None:
        """Refuse to go on with a file that was changed since it was opened: a look into a mapped file that
        has shrunk kills the process, and the offsets no longer mean anything.

        Raises:
            FormatError: it was closed, changed, or cut.
        """
        self.file.check_unchanged()

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        """Little-endian bytes ``start:stop`` of a storage, in chunks of at most `CHUNK`; all of it is verified.

        Raises:
            FormatError: it is damaged.
        """
        self.check_unchanged()
        key = str(storage.id)
        if key in self.inline:
            held = memoryview(self.inline[key])[start:stop]
            yield from (held[at : at + CHUNK] for at in range(0, len(held), CHUNK))
            return
        if start > 0 or stop < storage.nbytes:
            self.check(storage)
        width = self.swapped.get(key, 1)
        if width == 1:
            yield from self.raw(key, start, stop)
            return
        low, high = start // width * width, min(-(-stop // width) * width, storage.nbytes)
        position, rest = low, b""
        for chunk in self.raw(key, low, high):
            data = rest + chunk
            whole = len(data) // width * width
            rest = data[whole:]
            swapped = swap(data[:whole], width)
            yield memoryview(swapped)[max(start - position, 0) : max(min(stop - position, whole), 0)]
            position += whole
        if rest:  # bytes behind the last whole element are nobody's
            yield rest[: max(stop - position, 0)]

    def memory(
        self, storage: Storage, start: int, stop: int, *, mapped: bool = True
    ) -> tuple[torch.Tensor, int]:
        """Bytes ``start:stop`` of a storage as a one-dimensional ``uint8`` tensor, verified the first time.

        Returns:
            The tensor, and the byte of the storage with which it begins: all of it, a private look into the mapped
            file, if that is asked for and it is plain and aligned, else a copy of the part.
        """
        self.check_unchanged()
        found = self._look(storage) if mapped else None
        return (self._copy(storage, start, stop), start) if found is None else (found, 0)

    def _look(self, storage: Storage) -> torch.Tensor | None:
        import torch

        key, region = str(storage.id), storage.region
        known = self._mapped_storages.get(key)  # ties share one storage in memory too
        if known is not None:
            return known
        if region is None or region.offset % _ALIGNMENT:
            return None
        try:
            mapped = self.file.buffer()
        except OSError:  # a file system that cannot map
            return None
        self.check(storage)
        view = memoryview(mapped)[region.offset : region.offset + region.nbytes]
        found = self._mapped_storages[key] = torch.frombuffer(view, dtype=torch.uint8)
        return found

    def _copy(self, storage: Storage, start: int, stop: int) -> torch.Tensor:
        import torch

        place = (str(storage.id), start, stop)
        last = self._last  # once: another thread may set it meanwhile
        if last is None or last[0] != place:
            last = self._last = None  # two at a time would be twice the memory
            memory = memoryview(bytearray(stop - start))
            at = 0
            for chunk in self.read(storage, start, stop):
                memory[at : at + len(chunk)] = chunk
                at += len(chunk)
            if at != stop - start:
                raise FormatError(
                    f"{self.path}: storage {place[0]} is short by {stop - start - at} bytes", file=self.path
                )
            self._last = last = (place, torch.frombuffer(memory, dtype=torch.uint8))
        return last[1]

    def verify(self, storages: Iterable[Storage]) -> None:
        """`check` storages, two at a time: zlib leaves the interpreter to others.

        Raises:
            FormatError: one is damaged.
        """
        self.check_unchanged()
        every = {str(storage.id): storage for storage in storages}
        with ThreadPoolExecutor(2, thread_name_prefix="ckptkit-crc") as pool:
            for _ in pool.map(self.check, every.values()):
                pass

    def check(self, storage: Storage) -> None:
        """Compare the declared checksum of a storage, once; read from the file, which may be cut meanwhile.

        Raises:
            FormatError: it is damaged.
        """
        key, region = str(storage.id), storage.region
        if key in self._verified or key in self.inline:
            return
        if region is None:
            for _ in self.raw(key, 0, storage.nbytes):
                pass
        elif region.crc is not None:
            found = checksum(self.file.fd, self.path, region.offset, region.nbytes)
            if found != region.crc:
                self.bad_crc(key, region.crc, found)
        self._verified.add(key)


def swap(data: bytes, width: int) -> bytes:
    """Reverse the bytes of each element of `width` bytes; `data` holds whole elements."""
    out = bytearray(len(data))
    for i in range(width):
        out[i::width] = data[width - 1 - i :: width]
    return bytes(out)
