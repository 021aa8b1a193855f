"""A safetensors file as a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..dtypes import DTYPES
from ..errors import FormatError
from ..files.mapped import MappedFile
from ..signatures import Signature, TensorInfo, tied_groups
from .base import Buffer, Region, Source, Storage, View
from .safetensors_header import TIES, read_header, ties
from .strides import row_major

if TYPE_CHECKING:
    import torch


class SafetensorsSource(Source):
    """One safetensors file.

    The Hugging Face tools write tied tensors once and record the dropped name in the metadata as
    ``{dropped: kept}``. The dropped name is then a tied key, listed last; `ties` says which entries count.

    Args:
        path: the file.

    Raises:
        FormatError: it breaks a law of the format.
    """

    format = "safetensors"

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = (path,)
        self.file = MappedFile(path)
        try:
            header = read_header(self.file)
        except BaseException:
            self.file.close()
            raise
        self._header = header
        self._alias = ties(header.metadata, header.entries)
        tensors = {key: entry.info for key, entry in header.entries.items()}
        tensors |= {dropped: tensors[kept] for dropped, kept in self._alias.items()}
        self.signature = Signature(
            tensors,
            tied_groups((key, self._alias.get(key, key)) for key in tensors) if self._alias else (),
            {k: v for k, v in header.metadata.items() if k not in self._alias and k != TIES},
        )

    def view(self, key: str) -> View:
        name = self._alias.get(key, key)
        entry = self._header.entries[name]
        size = entry.stop - entry.start
        region = Region(self.file.path, self._header.data + entry.start, size, None, self.file.stamp)
        shape = entry.info.shape
        return View(
            Storage((self.file.path, name), size, region), 0, shape, row_major(shape), entry.info.dtype
        )

    def read(self, storage: Storage, start: int, stop: int) -> Iterator[Buffer]:
        assert storage.region is not None
        yield from self.file.chunks(storage.region.offset + start, stop - start)

    def tensor(self, key: str) -> torch.Tensor:
        info, dtype, offset = self._place(key)
        if not info.numel:
            return self._empty(key, info, dtype)
        try:
            memory = memoryview(self.file.buffer())
        except OSError:  # a file system that cannot map, or a process that has no more descriptors
            return self.loaded(key)
        return self._shaped(memory[offset : offset + info.nbytes], info, dtype, offset)

    def loaded(self, key: str) -> torch.Tensor:
        info, dtype, offset = self._place(key)
        if not info.numel:
            return self._empty(key, info, dtype)
        memory = memoryview(bytearray(info.nbytes))
        self.file.read_into(offset, memory)
        return self._shaped(memory, info, dtype, 0)

    def _place(self, key: str) -> tuple[TensorInfo, torch.dtype, int]:
        """What a tensor is, its dtype in torch, and the offset of its first byte in the file."""
        import torch

        entry = self._header.entries[self._alias.get(key, key)]
        info = entry.info
        dtype = getattr(torch, info.dtype, None) if DTYPES[info.dtype].torch else None
        if dtype is None:
            raise FormatError(
                f"{self.path}: {key!r} has the dtype {info.dtype}, which this torch lacks; it can be inspected and "
                "copied, but not opened",
                file=self.path,
                key=key,
            )
        return info, dtype, self._header.data + entry.start

    @staticmethod
    def _shaped(memory: memoryview, info: TensorInfo, dtype: torch.dtype, offset: int) -> torch.Tensor:
        import torch

        raw = torch.frombuffer(memory, dtype=torch.uint8)
        if offset % DTYPES[info.dtype].align:
            raw = raw.clone()
        return raw.view(dtype).reshape(info.shape)

    def _empty(self, key: str, info: TensorInfo, dtype: torch.dtype) -> torch.Tensor:
        import torch

        try:
            return torch.empty(info.shape, dtype=dtype)
        except (RuntimeError, TypeError):  # a size beside the 0 that torch's 64 signed bits cannot count
            raise FormatError(
                f"{self.path}: {key!r} has the shape {str(list(info.shape))[:120]}, which torch cannot hold; it can be "
                "inspected and copied, but not opened",
                file=self.path,
                key=key,
            ) from None

    def check_unchanged(self) -> None:
        self.file.check_unchanged()

    def close(self) -> None:
        self.file.close()
