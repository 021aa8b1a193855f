"""Files that numpy writes: one array (``.npy``), or a zip archive of them (``.npz``).

The format is NEP 1's: a magic string, a version, the length of a header, and the header, a Python dictionary of three
fields, which is matched and not evaluated; then the elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import NamedTuple, NoReturn

from ..errors import FormatError
from ..files.mapped import MappedFile
from .base import CHUNK, Region, Source, Storage
from .described.numpy_values import ARRAY, MAX_DIMS, named_dtype
from .pickled import Opaque, OrderedNode, StorageNode, TensorNode
from .strides import row_major
from .torch_bytes import Bytes
from .torch_source import TorchSource
from .torch_views import ITEMSIZE, too_large
from .unfolding import Parts
from .zip_local import STORED
from .zipfmt import Archive, Entry

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
_HEADER = re.compile(
    rb"\{'descr': (?:'([^'\\]{1,64})'|(\[.*\])), 'fortran_order': (True|False), 'shape': \(([0-9, L]{0,2000})\), \} *\n?",
    re.DOTALL,
)


class _Array(NamedTuple):
    """An array by its header: dtype, or None for one that torch has not, and how many bytes come before its elements."""

    dtype: str | None
    big: bool
    fortran: bool
    shape: tuple[int, ...]
    start: int
    named: str


class NumpyBytes(Bytes):
    """The elements of arrays behind their headers."""

    def __init__(self, file: MappedFile, archive: Archive | None, starts: dict[str, tuple[int, int]]) -> None:
        super().__init__(file, {})
        self.archive = archive
        self.starts = starts  # by storage: the first byte of the elements in the entry, and the end

    @cached_property
    def _parts(self) -> Parts:
        assert self.archive is not None
        return Parts(self.archive, (e for e in self.archive.entries.values() if e.method != STORED))

    def raw(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        first, last = self.starts[key]
        if self.archive is None:
            for at in range(first + start, first + stop, CHUNK):
                yield self.file.read(at, min(CHUNK, first + stop - at))
            return
        entry = self.archive.entries[key]
        if start == 0 and first + stop == last:  # the checksum is that of header and elements
            skip = first
            for chunk in self.archive.content(entry):
                yield chunk[skip:]
                skip = max(0, skip - len(chunk))
        elif entry.method == STORED:
            yield from self.archive.content(entry, first + start, first + stop)
        else:
            yield from self._parts.read(entry, first + start, first + stop)

    def bad_crc(self, key: str, declared: int, found: int) -> NoReturn:
        raise AssertionError("checksums are those of whole entries")


def open_numpy(path: str, root: str, archive: bool) -> Source:
    """Open a file of numpy.

    Args:
        path: a regular file.
        root: ``auto`` or ``none``.
        archive: whether it is a ``.npz``.

    Raises:
        FormatError: it is damaged.
    """
    file = MappedFile(path)
    try:
        return _open(file, root, Archive(path, file.fd, owner=file, flat=True) if archive else None)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise FormatError(f"{path}: it cannot be read: {error.strerror or error}", file=path) from None
        raise


def _open(file: MappedFile, root: str, archive: Archive | None) -> Source:
    heads: dict[str, tuple[bytes, int]] = {}
    if archive is None:
        heads["array"] = (file.read(0, min(MAX_HEADER, file.size)), file.size)
    else:
        for name, entry in archive.entries.items():
            if not name.endswith(".npy"):
                _fail(file.path, name, "it is no array")
            heads[name] = (_head(archive, entry), entry.usize)
    tree, storages = OrderedNode(), {}
    starts: dict[str, tuple[int, int]] = {}
    swapped: dict[str, int] = {}
    for name, (head, size) in heads.items():
        array = _parse(file.path, name, head)
        key = name.removesuffix(".npy") if archive is not None else name
        if array.dtype is None:
            tree[key] = Opaque("", f"(a numpy array of dtype {array.named})", ())
            continue
        width, numel = ITEMSIZE[array.dtype], prod(array.shape)
        if size - array.start != numel * width:
            _fail(file.path, name, f"its shape takes {numel * width} bytes, it has {size - array.start}")
        stride = tuple(reversed(row_major(array.shape[::-1]))) if array.fortran else row_major(array.shape)
        node = StorageNode(name, array.dtype, numel, "cpu")
        tree[key] = TensorNode(node, 0, array.shape, stride, array.dtype, origin=ARRAY)
        starts[name] = (array.start, size)
        part = width // (2 if array.dtype.startswith("complex") else 1)
        if array.big and part > 1:
            swapped[name] = part
        storages[name] = Storage(name, numel * width, _region(file, archive, array, size))
    data = NumpyBytes(file, archive, starts)
    data.swapped = swapped
    source = TorchSource(file.path, "numpy", tree, storages, data, root)
    source.frozen = "file of numpy arrays"
    return source


def _region(file: MappedFile, archive: Archive | None, array: _Array, size: int) -> Region | None:
    if archive is not None or array.big:
        return None  # checksums, and bytes that are swapped
    return Region(file.path, array.start, size - array.start, None, file.stamp)


def _head(archive: Archive, entry: Entry) -> bytes:
    if entry.method != STORED:
        archive.check_bound(entry)
    stop = min(entry.usize, MAX_HEADER) if entry.method == STORED else None
    parts: list[bytes] = []
    for chunk in archive.content(entry, 0, stop):
        parts.append(chunk)
        if sum(map(len, parts)) >= MAX_HEADER:
            break
    return b"".join(parts)[:MAX_HEADER]


def _parse(path: str, name: str, head: bytes) -> _Array:
    if not head.startswith(MAGIC) or len(head) < 12:
        _fail(path, name, "it is no array of numpy")
    width = 2 if head[6] == 1 else 4
    if head[6] not in (1, 2, 3):
        _fail(path, name, f"version {head[6]} of the format; 1 to 3 are known")
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    if start > len(head):
        _fail(path, name, f"its header takes {length} bytes; it is cut, or has more than {MAX_HEADER}")
    found = _HEADER.fullmatch(head[8 + width : start])
    if found is None:
        _fail(path, name, "its header is none that numpy writes")
    text = found[4].decode().replace("L", "").rstrip(", ")
    sizes = [part.strip() for part in text.split(",")] if text.strip() else []
    if len(sizes) > MAX_DIMS or not all(part.isdigit() and len(part) < 20 for part in sizes):
        _fail(path, name, "its shape is none")
    shape = tuple(map(int, sizes))
    if too_large(shape):
        _fail(path, name, "it has too many elements")
    named = "a record" if found[1] is None else found[1].decode("latin1")
    dtype, big = (named_dtype(named) if found[1] is not None else None) or (None, False)
    shown = ascii(named)
    return _Array(dtype, big, found[3] == b"True", shape, start, shown)


def _fail(path: str, name: str, why: str) -> NoReturn:
    raise FormatError(f"{path}: a NumPy file whose {ascii(name)[:120]} cannot be read: {why}", file=path)
