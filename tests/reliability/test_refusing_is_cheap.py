"""What refusing costs: G6. Bodies that take many times their length in memory, and files that are mostly holes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from .corpus import sandboxed
from .sandbox import MOST

MB = 1 << 20
Maker = Callable[[Path], Path]


def put(name: str, blob: bytes, length: int | None = None) -> Maker:
    """A file of these bytes, and of zeros up to a length that take no place on the disk."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(blob)
            if length is not None:
                file.truncate(length)
        return path.parent if name.endswith("/.metadata") else path

    return make


def header(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(body) if length is None else length) + body


def archive(pickle: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in (("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")):
            target.writestr(zipfile.ZipInfo(f"top/{name}"), content)
    return out.getvalue()


def hollow(size: int) -> Maker:
    """An archive whose pickle begins like one, and is zeros that are not on the disk."""

    def make(folder: Path) -> Path:
        start = b"\x80\x02}"
        small = archive(start)
        path = folder / "hollow.pt"
        directory = small.index(b"PK\1\2")
        behind = small.index(start) + len(start)
        shift = size - len(start)
        tail = bytearray(small[directory:])
        with path.open("wb") as file:
            head = bytearray(small[:behind])
            head[14:26] = struct.pack("<III", 0, size, size)
            file.write(head)
            file.seek(shift, 1)
            file.write(small[behind:directory])
            tail[16:28] = struct.pack("<III", 0, size, size)
            for at in (tail.index(b"PK\1\2", 4), tail.rindex(b"PK\1\2")):
                old = int.from_bytes(tail[at + 42 : at + 46], "little")
                tail[at + 42 : at + 46] = struct.pack("<I", old + shift)
            tail[-6:-2] = struct.pack("<I", directory + shift)
            file.write(tail)
        return path

    return make


def pickled(*body: bytes) -> Maker:
    return put(f"{len(body)}.pt", archive(b"\x80\x02" + b"".join(body) + b"."))


COSTLY: dict[str, Maker] = {
    "marks": pickled(b"(" * 4 * MB),
    "tuples of one": pickled(b")", b"\x85" * 5 * MB),
    "a header of objects": put("a.safetensors", header(b'{"a":[' + b"{}," * 6 * MB + b"0]}")),
    "a header of lists": put("b.safetensors", header(b'{"a":[' + b"[]," * 6 * MB + b"0]}")),
    "an index of objects": put("a.safetensors.index.json", b'{"weight_map":[' + b"{}," * 6 * MB + b"0]}"),
    "a signature of lists": put("a.json", b'{"tensors":[' + b"[]," * 6 * MB + b"0]}"),
    "a hollow header": put("c.safetensors", header(b"{", 100_000_000), 200 * MB),
    "a hollow signature": put("b.json", b"{", 700 * MB),
    "a hollow pickle": put("l.pt", b"\x80\x02\x8e" + struct.pack("<Q", 500 * MB), 520 * MB),
    "a hollow distributed checkpoint": put("d/.metadata", b"\x80\x02", 500 * MB),
    "a hollow archive": hollow(500 * MB),
}  # fmt: skip


def test_refusing_takes_little_memory_whatever_the_file_would_become(tmp_path: Path) -> None:
    """G3, G6; the single kinds of costly opcodes are in `tests/formats/test_pickle_machine.py`."""
    cases = [("keys", str(make(tmp_path))) for make in COSTLY.values()]
    for name, done in zip(COSTLY, sandboxed(cases, tmp_path / "work"), strict=True):
        assert done["outcome"] == "error", name
        assert done["memory"] <= MOST, name
