"""Torch files whose pickles are put together opcode by opcode, for what torch itself would never write."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

ORDERED = b"ccollections\nOrderedDict\n)R"
VALUES = struct.pack("<4f", 1, 2, 3, 4)


def text(value: str) -> bytes:
    """A string."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """An integer of any size."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    """A global."""
    return f"c{module}\n{attribute}\n".encode()


def several(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    """A global, called."""
    return name(module, attribute) + several(*arguments) + b"R"


def mapping(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary with these keys."""
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def ordered(entries: Mapping[str, bytes], attributes: Mapping[str, bytes]) -> bytes:
    """An ordered dictionary on which attributes are set."""
    inside = b"".join(text(key) + value for key, value in entries.items())
    return ORDERED + b"(" + inside + b"u" + mapping(attributes) + b"b"


def storage(kind: str = "FloatStorage", key: str = "0", numel: int = 4) -> bytes:
    """A storage by its persistent id."""
    return several(text("storage"), name("torch", kind), text(key), text("cpu"), number(numel)) + b"Q"


def tensor(
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    holder: bytes | None = None,
    *more: bytes,
    version: str = "v2",
) -> bytes:
    """A tensor that looks into a storage, by default the four floats of `VALUES`; `more` are further arguments."""
    ints = (several(*map(number, values)) for values in (size, stride))
    return call(
        "torch._utils",
        f"_rebuild_tensor_{version}",
        holder or storage(),
        number(offset),
        *ints,
        b"\x89",
        ORDERED,
        *more,
    )


def pickled(value: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + value + b"."


def torch_file(
    path: Path,
    value: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    order: bytes = b"little",
    deflated: bool = False,
    damage: int | None = None,
) -> str:
    """A torch zip file.

    Args:
        path: where.
        value: the opcodes of its object.
        storages: their bytes, as the file holds them; by default one of `VALUES`.
        order: the byte order that it declares.
        deflated: whether storages are.
        damage: a byte of each storage that has another bit than its checksum tells.
    """
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    checksums: dict[bytes, bytes] = {}
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/byteorder", order)
        for key, data in ({"0": VALUES} if storages is None else storages).items():
            if damage is not None:
                bad = data[:damage] + bytes([data[damage] ^ 1]) + data[damage + 1 :]
                checksums[struct.pack("<I", zlib.crc32(bad))] = struct.pack("<I", zlib.crc32(data))
                data = bad
            archive.writestr(f"archive/data/{key}", data, compress_type=method)
        archive.writestr("archive/version", "3\n")
    raw = out.getvalue()
    for found, declared in checksums.items():
        raw = raw.replace(found, declared)
    path.write_bytes(raw)
    return str(path)
