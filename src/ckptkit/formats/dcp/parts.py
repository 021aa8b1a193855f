"""The part files of a DCP folder as bytes: each piece is a small torch file inside one of them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NoReturn

from ...errors import FormatError
from ...files.mapped import MappedFile
from ...files.regular import check_stamp
from ...threads import one_thread
from ..base import CHUNK, Storage
from ..pickled import StorageIds, TensorNode
from ..torch_bytes import Bytes
from ..torch_views import ITEMSIZE, prove, readable
from ..torch_zip import describe
from ..zip_local import STORED
from ..zipfmt import Archive
from .metadata import Piece, Place, StoredTensor
from .tiles import runs

MAX_OPEN = 64  # hundreds of ranks write hundreds of files, and a process may open a thousand


class PartFiles:
    """The files of a folder, opened when they are needed, the last few kept open.

    Args:
        folder: where they lie.
        places: what is to be read from them.

    Attributes:
        paths: of all of them.

    Raises:
        FormatError: one is missing, no regular file, or shorter than what is said to lie in it.
    """

    def __init__(self, folder: str, places: Iterable[Place]) -> None:
        self.folder = folder
        self._open: OrderedDict[str, MappedFile] = OrderedDict()
        self._lock = threading.Lock()
        self._stamps: dict[str, tuple[int, ...]] = {}
        ends: dict[str, int] = {}
        for place in places:
            ends[place.file] = max(ends.get(place.file, 0), place.start + place.length)
        self.paths = tuple(os.path.join(folder, name) for name in ends)
        for name, end in ends.items():
            size = self.file(name).size
            if end > size:
                path = os.path.join(folder, name)
                raise FormatError(
                    f"{path}: it has {size} bytes, and {end} are in use: it is cut, or belongs to another save",
                    file=path,
                )

    def file(self, name: str) -> MappedFile:
        """A file, the same as the first time."""
        with self._lock:
            file = self._open.get(name)
            if file is None:
                file = MappedFile(os.path.join(self.folder, name))
                check_stamp(file.fd, file.path, self._stamps.setdefault(name, file.stamp))
                self._open[name] = file
                while len(self._open) > MAX_OPEN:  # closed when no other thread reads it any more
                    self._open.popitem(last=False)
            self._open.move_to_end(name)
        file.check_unchanged()
        return file

    def check_unchanged(self) -> None:
        """Ask whether all of them are what they were at first.

        Raises:
            FormatError: one is not.
        """
        for name in self._stamps:
            self.file(name)

    def archive(self, place: Place) -> Archive:
        """The torch file at a place.

        Raises:
            FormatError: there is none, or it is damaged.
        """
        file = self.file(place.file)
        try:
            archive = Archive(file.path, file.fd, place.start, place.length, owner=file)
        except FormatError as error:
            error.offset = place.start if error.offset is None else error.offset
            raise
        if any(entry.method != STORED for entry in archive.entries.values()):
            raise FormatError(
                f"{file.path}: the data at byte {place.start} is compressed, which ckptkit does not read in a distributed "
                "checkpoint; save without extensions",
                file=file.path,
                offset=place.start,
            )
        return archive

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            for file in self._open.values():
                file.close()
            self._open.clear()


class DcpBytes(Bytes):
    """Storages of a DCP folder: one for each tensor, put together from its pieces, and those inside pickled values.

    Args:
        file: the ``.metadata`` file.
        files: the part files.
    """

    def __init__(self, file: MappedFile, files: PartFiles) -> None:
        super().__init__(file, {})
        self.files = files
        self.tensors: dict[str, StoredTensor] = {}
        self.loose: dict[str, tuple[Place, str]] = {}
        self._begins: dict[Place, int] = {}
        self._strided: tuple[str, dict[Place, bytearray]] = ("", {})

    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        loose = self.loose.get(key)
        if loose is not None:
            archive = self.files.archive(loose[0])
            yield from archive.content(archive.entries[f"data/{loose[1]}"], start, stop)
            return
        tensor = self.tensors[key]
        blocks = [(piece.offsets, piece.sizes) for piece in tensor.pieces]
        held = bytearray()
        for number, first, count in runs(tensor.shape, ITEMSIZE[tensor.dtype], blocks, start, stop):
            for at in range(first, first + count, CHUNK):
                held += self._bytes(tensor, tensor.pieces[number], at, min(CHUNK, first + count - at))
                if len(held) >= CHUNK:
                    yield bytes(held)
                    held.clear()
        if held:
            yield bytes(held)

    def check_piece(self, tensor: StoredTensor, piece: Piece) -> None:
        """Read all of a piece, once.

        Raises:
            FormatError: it is damaged, or not what the metadata says.
        """
        if piece.place not in self._begins:
            self._begins[piece.place] = self._open_piece(tensor, piece)

    def check_value(self, place: Place) -> None:
        """Read all of a pickled value.

        Raises:
            FormatError: it is damaged.
        """
        archive = self.files.archive(place)
        for entry in archive.entries.values():
            for _ in archive.content(entry):
                pass

    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        raise AssertionError("archives compare their own checksums")

    def check(self, storage: Storage) -> None:
        if str(storage.id) in self.loose:  # all others are compared piece by piece, when one is first read
            super().check(storage)

    def close(self) -> None:
        super().close()
        self.files.close()

    def _bytes(self, tensor: StoredTensor, piece: Piece, at: int, count: int) -> bytes:
        """Bytes of the row-major block."""
        self.check_piece(tensor, piece)
        begin = self._begins[piece.place]
        if begin < 0:
            return bytes(memoryview(self._made_contiguous(tensor, piece))[at : at + count])
        return self.files.file(piece.place.file).read(begin + at, count)

    def _open_piece(self, tensor: StoredTensor, piece: Piece) -> int:
        """Where the block begins in its file; -1 where its elements do not lie in row-major order."""
        archive, node, storages = self._described(tensor, piece)
        view = prove(node, storages, archive.path, tensor.name)
        assert view is not None
        entry = archive.entries[f"data/{view.storage.id}"]
        for _ in archive.content(entry):
            pass  # compares the checksum
        assert view.storage.region is not None
        return view.storage.region.offset + view.offset * ITEMSIZE[node.dtype] if view.contiguous else -1

    def _described(
        self, tensor: StoredTensor, piece: Piece
    ) -> tuple[Archive, TensorNode, dict[str, Storage]]:
        archive = self.files.archive(piece.place)
        node, storages, swapped = describe(archive, StorageIds())
        reason = None
        if type(node) is not TensorNode:
            reason = "holds no tensor"
        elif node.reason is not None or node.conj or node.neg:
            what = node.reason or f"lazily {'conjugated' if node.conj else 'negated'}"
            reason = f"is {what}, which is not held; resolve, convert or drop it where it is saved"
        elif (node.dtype, node.size) != (tensor.dtype, piece.sizes):
            reason = (
                f"is {node.dtype} {list(node.size)}, the metadata says {tensor.dtype} {list(piece.sizes)}"
            )
        elif swapped:
            reason = "is big-endian, which ckptkit does not read in a distributed checkpoint"
        if reason is not None:
            raise FormatError(
                f"{archive.path}: the piece of {readable(tensor.name)} at byte {piece.place.start} {reason}",
                file=archive.path,
                key=tensor.name,
                offset=piece.place.start,
            )
        return archive, node, storages

    def _made_contiguous(self, tensor: StoredTensor, piece: Piece) -> bytearray:
        """The row-major bytes of a block that was saved with other strides; those of the last tensor are kept."""
        held = self._strided
        if held[0] != tensor.name:
            held = self._strided = (tensor.name, {})
        known = held[1].get(piece.place)
        if known is None:
            import torch

            archive, node, storages = self._described(tensor, piece)
            view = prove(node, storages, archive.path, tensor.name)
            assert view is not None
            raw = bytearray(view.storage.nbytes)
            at = 0
            for chunk in archive.content(archive.entries[f"data/{view.storage.id}"]):
                raw[at : at + len(chunk)] = chunk
                at += len(chunk)
            dtype = getattr(torch, view.dtype)
            whole = torch.frombuffer(raw, dtype=torch.uint8).untyped_storage()
            looked = torch.empty(0, dtype=dtype).set_(whole, view.offset, view.shape, view.stride)
            known = bytearray(looked.numel() * looked.element_size())
            with one_thread(looked):
                torch.frombuffer(known, dtype=dtype).view(view.shape).copy_(looked)
            held[1][piece.place] = known  # once it is filled: other threads look there
        return known
