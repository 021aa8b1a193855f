"""The strict zip reader: what torch and zipfile write is read, what could be read in two ways is not."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.errors import FormatError
from ckptkit.formats.zipfmt import Archive


def archive(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Top folder and all contents."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        opened = Archive("f.zip", file.fileno())
        return opened.top, {name: b"".join(opened.content(e)) for name, e in opened.entries.items()}


def build(files: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in files.items():
            target.writestr(zipfile.ZipInfo(name), content, method)
        target.comment = comment
    return out.getvalue()


GOOD = {"top/a": b"hello", "top/data/0": b"\0" * 100}


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=300), min_size=1, max_size=5),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.binary(max_size=20).filter(lambda c: b"PK" not in c),
)
@settings(max_examples=50, deadline=None)
def test_archives_of_zipfile_are_read(files: dict[str, bytes], method: int, comment: bytes) -> None:
    data = build({f"top/{name}": content for name, content in files.items()}, method, comment)
    assert archive(data) == ("top", files)


def test_streamed_entries_with_data_descriptors_are_read() -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    out = Unseekable()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in GOOD.items():
            target.writestr(name, content)
    assert archive(out.getvalue())[1] == {"a": b"hello", "data/0": b"\0" * 100}


def test_parts_of_an_entry_are_parts_of_its_content() -> None:
    content = os.urandom(3 << 20)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with tempfile.NamedTemporaryFile() as file:
            file.write(build({"top/a": content}, method))
            file.flush()
            opened = Archive("f.zip", file.fileno())
            for start, stop in ((0, 5), (1 << 20, 2 << 20), ((1 << 20) - 1, (2 << 20) + 7), (5, 5)):
                assert b"".join(opened.content(opened.entries["a"], start, stop)) == content[start:stop]


def patch(data: bytes, magic: bytes, offset: int, value: bytes, number: int = 0) -> bytes:
    """Overwrite bytes at an offset of the number-th record with that magic."""
    at = -1
    for _ in range(number + 1):
        at = data.index(magic, at + 1)
    return data[: at + offset] + value + data[at + offset + len(value) :]


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
BAD: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "cut": lambda: build(GOOD)[:-1],
    "half": lambda: build(GOOD)[: len(build(GOOD)) // 2],
    "junk before": lambda: b"junk" + build(GOOD),
    "junk behind": lambda: build(GOOD) + b"junk",
    "two archives": lambda: build(GOOD) + build(GOOD),
    "end record in the comment": lambda: build(GOOD, comment=b"x" * 4 + build({})[:22]),
    "duplicate": lambda: build(GOOD)[:0] + _twice("top/a"),
    "case-equal": lambda: build({**GOOD, "top/A": b""}),
    "two tops": lambda: build({**GOOD, "other/a": b""}),
    "no top": lambda: build({"a": b""}),
    "climbing": lambda: build({**GOOD, "top/../a": b""}),
    "absolute": lambda: build({"/top/a": b""}),
    "backslash": lambda: build({"top/..\\a": b""}),
    "folder with content": lambda: build({**GOOD, "top/x/": b"x"}),
    "encrypted": lambda: patch(patch(build(GOOD), CENTRAL, 8, b"\1\0"), LOCAL, 6, b"\1\0"),
    "flags differ": lambda: patch(build(GOOD), LOCAL, 6, b"\2\0"),
    "method differs": lambda: patch(build(GOOD), CENTRAL, 10, b"\x08\0"),
    "method unknown": lambda: patch(patch(build(GOOD), CENTRAL, 10, b"\x0c\0"), LOCAL, 8, b"\x0c\0"),
    "local name differs": lambda: build(GOOD).replace(b"top/a", b"top/b", 1),
    "size lies": lambda: patch(build(GOOD), CENTRAL, 20, struct.pack("<II", 9, 9)),
    "size without zip64": lambda: patch(build(GOOD), CENTRAL, 20, b"\xff" * 8),
    "offset beyond": lambda: patch(build(GOOD), CENTRAL, 42, struct.pack("<I", 1 << 31)),
    "overlap": lambda: patch(build(GOOD), CENTRAL, 42, struct.pack("<I", 0), 1),
    "count lies": lambda: patch(build(GOOD), END, 8, struct.pack("<HH", 60000, 60000)),
    "count less": lambda: patch(build(GOOD), END, 8, struct.pack("<HH", 1, 1)),
    "second disk": lambda: patch(build(GOOD), END, 4, b"\1\0"),
    "directory moved": lambda: patch(build(GOOD), END, 16, struct.pack("<I", 5)),
    "gap": lambda: _gap(),
    "crc": lambda: build(GOOD).replace(b"hello", b"hellO"),
    "deflate lies": lambda: _lying_deflate(10),
    "deflate short": lambda: _lying_deflate(5000),
}  # fmt: skip


def _twice(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (b"one", b"two"):
            target.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def _gap() -> bytes:
    data = build({"top/a": b"hello"})
    place = data.index(CENTRAL)
    moved = data[:place] + b"HIDDEN" + data[place:]
    return patch(moved, END, 16, struct.pack("<I", place + 6))


def _lying_deflate(declared: int) -> bytes:
    data = build({"top/a": b"\0" * 1000}, zipfile.ZIP_DEFLATED)
    size = struct.pack("<I", declared)
    return patch(patch(data, CENTRAL, 24, size), LOCAL, 22, size)


@pytest.mark.parametrize("name", BAD)
def test_an_unsound_archive_is_one_error(name: str) -> None:
    with pytest.raises(FormatError, match=r"f\.zip: "):
        archive(BAD[name]())


def test_inflating_stops_at_the_declared_size() -> None:
    zeros = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = zeros.compress(b"\0" * (64 << 20)) + zeros.flush()
    data = build({"top/a": b"\0" * 16}, zipfile.ZIP_DEFLATED)
    small = data.index(CENTRAL) - len(b"top/a") - 30
    head = bytearray(data[: 30 + len(b"top/a")])
    head[18:22] = struct.pack("<I", len(packed))
    rest = bytearray(data[data.index(CENTRAL) :])
    rest[20:24] = struct.pack("<I", len(packed))
    place = len(head) + len(packed)
    bomb = patch(bytes(head) + packed + bytes(rest), END, 16, struct.pack("<I", place))
    assert small > 0
    with pytest.raises(FormatError, match="unfolds beyond its 16 bytes"):
        archive(bomb)
