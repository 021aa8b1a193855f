"""Writing torch's zip format: storages are streamed one by one, equal requests give equal bytes.

The layout is torch.save's, without ``.format_version``: with it a reader may compute offsets from the data
descriptors that torch writes behind entries, and entries of known size have none.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from ..errors import FormatError, WriteError
from ..files.atomic import AtomicFile
from ..files.copy import Writeback, write_all
from .base import Buffer, Progress, Region, Source, Storage, WriteRequest, Written, WrittenFile
from .pickled.writer import PickleWriter
from .torch_check import check_readable
from .torch_copy import Copier, compare_crc
from .torch_layout import OutStorage, lay_out
from .torch_tree import TreeBuilder
from .zip_write import ZipWriter
from .zipfmt import Archive

TOP = "archive"
_SMALL = 256 << 10


def write_torch_zip(request: WriteRequest) -> Written:
    """Write a torch file that ``torch.load(weights_only=True)`` reads, also with ``mmap=True``.

    Ties and overlapping views keep sharing a storage, disjoint views are separated, and only bytes that some
    view can reach are written. With `request.around` the tree around the root is kept, without opaque values.
    Every tensor is written with location ``cpu``.

    Args:
        request: what to write; string metadata has no place in a torch file and is named as left out.

    Returns:
        The file, and what was left out.

    Raises:
        FormatError: the bytes of a source are damaged.
        WriteError: an entry cannot be written or would not be read, or the system refuses; the target is as it was.
    """
    builder = TreeBuilder(request)
    tree = builder.build()
    storages = lay_out(builder.tensors)
    writer = PickleWriter()
    try:
        writer.emit(tree)
    except TypeError as error:
        raise WriteError(f"{request.target}: {error}", file=request.target) from None
    pickle = writer.finish()
    notes = check_readable(
        request, pickle, builder.tensors, storages, plain=builder.plain, root=builder.root_path
    )
    options = request.options
    with AtomicFile(
        request.target, overwrite=options.overwrite, fsync=options.fsync, claim=options.claim
    ) as file:
        size = _write(file.fd, pickle, storages, options.progress, request.target)
        request.check_source()
    left_out = [*builder.left_out, *(f"metadata {name!r}" for name in request.metadata)]
    tensors = sum(item.info.kind == "tensor" for item in request.items)
    return Written((WrittenFile(request.target, size, tensors),), tuple(left_out), (*notes, *file.notes))


def _write(fd: int, pickle: bytes, storages: list[OutStorage], progress: Progress, target: str) -> int:
    out = ZipWriter(fd, TOP)
    out.add("data.pkl", pickle)
    out.add("byteorder", b"little")
    with Copier(fd, out, progress) as copier:
        for storage in storages:
            name = f"data/{storage.key}"
            if storage.nbytes < _SMALL:
                data = _small(storage)
                out.add(name, data)
                progress(len(data))
                continue
            number, offset = out.reserve(name, storage.nbytes)
            region = None if storage.storage is None else storage.storage.region
            if region is not None and storage.make is None:
                declared = region.crc if _is_whole(storage) else None
                if declared is None and storage.source is not None and storage.storage is not None:
                    storage.source.check(storage.storage)
                part = Region(
                    region.path, region.offset + storage.start, storage.nbytes, declared, region.stamp
                )
                copier.copy(number, part, offset, storage.label)
            else:
                out.seal(number, _stream(fd, offset, storage, progress))
    out.add("version", b"3\n")
    # torch writes a 40-digit number here; ours depends on the content alone.
    digest = hashlib.sha256(pickle + b"".join(entry.crc.to_bytes(4, "little") for entry in out.entries))
    out.add(".data/serialization_id", f"{int.from_bytes(digest.digest()[:16], 'little'):040d}".encode())
    size = out.finish()
    _check(fd, target, out)
    return size


def _check(fd: int, target: str, out: ZipWriter) -> None:
    """Read the directory and every header back before the file gets its name."""
    found = {f"{TOP}/{name}".encode(): (e.crc, e.usize) for name, e in Archive(target, fd).entries.items()}
    if found != {entry.name: (entry.crc, entry.nbytes) for entry in out.entries}:
        raise WriteError(f"{target}: what was written is not what was planned; nothing was kept", file=target)


def _is_whole(out: OutStorage) -> bool:
    return out.storage is not None and out.start == 0 and out.nbytes == out.storage.nbytes


def _small(out: OutStorage) -> bytes:
    if out.nbytes == 0:
        return b""
    if out.make is not None:
        return b"".join([bytes(chunk) for chunk in _computed(out)])
    source, storage = _origin(out)
    data = b"".join(source.read(storage, out.start, out.start + out.nbytes))
    if len(data) != out.nbytes:
        raise FormatError(
            f"{source.path}: the bytes of {out.label!r} are short by {out.nbytes - len(data)}", key=out.label
        )
    if _is_whole(out) and storage.region is not None and storage.region.crc is not None:
        compare_crc(storage.region, zlib.crc32(data), out.label)
    return data


def _stream(fd: int, offset: int, out: OutStorage, progress: Progress) -> int:
    """Put bytes that are computed, inflated or swapped at their place; returns their CRC."""
    crc, at = 0, 0
    behind = Writeback(fd)
    for chunk in _computed(out) if out.make is not None else _read(out):
        write_all(fd, chunk, offset + at)
        behind.wrote(offset + at, len(chunk))
        crc = zlib.crc32(chunk, crc)
        at += len(chunk)
        progress(len(chunk))
    if at != out.nbytes:
        raise FormatError(f"the bytes of {out.label!r} are short by {out.nbytes - at}", key=out.label)
    return crc


def _read(out: OutStorage) -> Iterator[Buffer]:
    source, storage = _origin(out)
    yield from source.read(storage, out.start, out.start + out.nbytes)


def _computed(out: OutStorage) -> Iterator[Buffer]:
    assert out.make is not None
    count = 0
    for chunk in out.make():
        count += len(chunk)
        yield chunk
    if count != out.nbytes:
        raise WriteError(
            f"{out.label!r} was planned as {out.nbytes} bytes and computed as {count}", key=out.label
        )


def _origin(out: OutStorage) -> tuple[Source, Storage]:
    if out.source is None or out.storage is None:
        raise WriteError(f"{out.label!r} has neither bytes nor a way to compute them", key=out.label)
    return out.source, out.storage
