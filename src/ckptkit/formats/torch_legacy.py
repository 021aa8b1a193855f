"""torch's format before 1.6: five pickles in a row (magic number, protocol, system, object, storage keys),
then each storage as an int64 count of elements and its little-endian data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from struct import unpack
from typing import Any, NoReturn

from ..errors import FormatError, UnsupportedFormatError
from ..files.mapped import MappedFile
from ..files.positions import pread
from .base import CHUNK, NO_ROOT, Region, Source, Storage
from .pickled import Opaque, StorageIds, load_prefix, no_persistent_ids, paused_gc
from .recognise import is_tar
from .torch_bytes import Bytes
from .torch_objects import shown
from .torch_views import itemsize, storage_nbytes

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
PROTOCOL = 1001
MAX_PICKLE = 512 << 20
MAX_PLAIN, NAMED = 32 << 20, 1 << 16  # of a pickle without arrays; where the first array is named
SMALL = 1 << 20  # bytes of a pickle that only describes the file
_TAR = "a tar archive, torch's format before 0.1.10; load and save it again with the torch that made it"


class LegacyBytes(Bytes):
    """Storages as runs of bytes at the end of the file."""

    def __init__(self, file: MappedFile, regions: dict[str, Region]) -> None:
        super().__init__(file, {})
        self.regions = regions

    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        base = self.regions[key].offset
        for at in range(start, stop, CHUNK):
            yield self.file.read(base + at, min(CHUNK, stop - at))

    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        raise AssertionError("legacy files declare no CRC")


def open_torch_legacy(path: str, root: str) -> Source:
    """Open a torch file of the old format; reads its pickles and the counts between the data only.

    Args:
        path: a regular file.
        root: ``auto``, ``none`` or a dotted path.

    Raises:
        FormatError: it is damaged, another kind of pickle, or holds what has no place in a state_dict.
        RootError: no root, or more than one.
    """
    file = MappedFile(path)
    try:
        with paused_gc():
            return _Legacy(file).open(root)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise FormatError(f"{path}: it cannot be read: {error.strerror or error}", file=path) from None
        raise


class _Legacy:
    def __init__(self, file: MappedFile) -> None:
        self.path = file.path
        self.file = file
        self.size = file.size
        self.position = 0

    def fail(self, reason: str, offset: int | None = None) -> NoReturn:
        raise FormatError(f"{self.path}: {reason}", file=self.path, offset=offset)

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            data: bytes = pread(self.file.fd, count, offset)
        except OSError as error:
            self.fail(f"it cannot be read: {error.strerror or error}", offset)
        return data

    def open(self, root: str) -> Source:
        if is_tar(self._pread(512, 0)):
            self.fail(f"it is {_TAR}")
        if not self._is_torch(self._pread(256, 0)):
            return self._plain(root)
        self._check_magic()
        protocol = self._pickle("the protocol number", SMALL)
        if protocol != PROTOCOL or type(protocol) is not int:
            self.fail(f"torch legacy protocol {ascii(protocol)[:40]}; {PROTOCOL} is known")
        system = self._pickle("the system information", SMALL)
        if not isinstance(system, dict) or type(system.get("little_endian", True)) is not bool:
            self.fail("the system information of the torch legacy file is damaged")
        if not system.get("little_endian", True):
            self.fail("a torch legacy file from a big-endian machine; save it there with torch 1.6 or later")
        ids = StorageIds(legacy=True)
        tree = self._pickle("the object", MAX_PICKLE, ids)
        most = SMALL + sum(32 + 4 * len(key) for key in ids.storages)  # utf-8 has four bytes for a character
        regions = self._regions(ids, self._pickle("the list of storages", most))
        storages = {key: Storage(key, region.nbytes, region) for key, region in regions.items()}
        data = LegacyBytes(self.file, regions)
        return shown("torch legacy", tree, storages, data, root)

    @staticmethod
    def _is_torch(head: bytes) -> bool:
        """Whether the first pickle is torch's number, in any protocol."""
        return str(MAGIC).encode() in head or MAGIC.to_bytes(10, "little") in head[:32]

    def _plain(self, root: str) -> Source:
        """A pickle that torch did not write: dictionaries of arrays, as detectron2's model zoo has them."""
        # Arrays lie in the pickle itself and are held in memory; what names no arrays early on may not cost that much.
        most = MAX_PICKLE if b"numpy" in self._pread(NAMED, 0) else MAX_PLAIN
        try:
            tree = self._pickle("the pickle", most)
        except FormatError as error:
            raise FormatError(
                f"{self.path}: a pickle file, but no torch file ({error.message.removeprefix(self.path + ': ')}); it was "
                "not executed",
                file=self.path,
                offset=error.offset,
            ) from None
        if self.position != self.size:
            self.fail(f"{self.size - self.position} bytes follow the end of the pickle", self.position)
        what = f"an object of {tree.label}" if type(tree) is Opaque else f"a {type(tree).__name__}"
        data = LegacyBytes(self.file, {})
        source = shown("pickle", tree, {}, data, NO_ROOT)
        if not data.inline:
            raise UnsupportedFormatError(
                f"{self.path}: a pickle of {what}, but no torch file (it lacks torch's magic number), and without arrays of "
                "numpy; it was not executed; save the tensors with torch.save where the file was made",
                file=self.path,
            )
        return source if root == NO_ROOT else source.at(root)

    def _check_magic(self) -> None:
        magic = self._pickle("the first pickle", SMALL)
        if type(magic) is not int or magic != MAGIC:
            self.fail("the magic number of the torch legacy file is damaged")

    def _pickle(self, what: str, limit: int, persistent: StorageIds | None = None) -> Any:
        start = self.position

        def read(count: int) -> bytes:
            return self._pread(count, start)

        value, length = load_prefix(
            read,
            self.size - start,
            file=self.path,
            what=what,
            persistent=persistent or no_persistent_ids,
            start=start,
            limit=limit,
        )
        self.position += length
        return value

    def _regions(self, ids: StorageIds, keys: Any) -> dict[str, Region]:
        """Where each storage lies; every declared one must be there once, with the declared length."""
        if type(keys) is not list or any(type(key) is not str for key in keys):
            self.fail("the list of storages is damaged")
        if len(set(keys)) != len(keys):
            self.fail("the list of storages names one storage twice")
        missing, unknown = set(ids.storages) - set(keys), set(keys) - set(ids.storages)
        if missing or unknown:
            which = ascii(min(missing or unknown))[:60]
            self.fail(
                f"storage {which} is {'declared but not stored' if missing else 'stored but never declared'}"
            )
        regions: dict[str, Region] = {}
        at = self.position
        for key in keys:
            node = ids.storages[key]
            head = self._pread(8, at)
            if len(head) != 8:
                self.fail(
                    f"it is cut: storage {ascii(key)[:60]} begins at byte {at}, the file ends at {self.size}",
                    at,
                )
            (count,) = unpack("<q", head)
            nbytes = storage_nbytes(node)
            if count != node.numel:
                self.fail(
                    f"storage {ascii(key)[:60]} is declared with {node.numel} elements, stored with {count}",
                    at,
                )
            at += 8
            if at + nbytes > self.size:
                self.fail(
                    f"it is cut: storage {ascii(key)[:60]} needs {nbytes} bytes from byte {at}, "
                    f"the file ends at {self.size}",
                    self.size,
                )
            regions[key] = Region(self.path, at, nbytes, stamp=self.file.stamp)
            at += nbytes
        if at != self.size:
            self.fail(f"{self.size - at} bytes follow the last storage", at)
        self._add_views(ids, regions)
        return regions

    def _add_views(self, ids: StorageIds, regions: dict[str, Region]) -> None:
        for key, node in ids.views.items():
            assert node.view is not None
            whole, offset, numel = node.view
            width = itemsize(node.dtype)
            if key in ids.storages or (offset + numel) * width > regions[whole].nbytes:
                self.fail(f"storage view {ascii(key)[:60]} reaches outside its storage {ascii(whole)[:60]}")
            regions[key] = replace(
                regions[whole], offset=regions[whole].offset + offset * width, nbytes=numel * width
            )
