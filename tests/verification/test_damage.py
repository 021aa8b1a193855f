"""Whatever bit of a file is damaged, cut off or refused by the disk: `verify` says so, and where."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.formats.zipfmt import Archive, Entry

from ..strategies import IN_TORCH, state_dicts
from .test_verify import state, write


def with_orphans(blob: bytes) -> bytes:
    """The same archive with entries that no tensor reads, one of them packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blob)) as source, zipfile.ZipFile(out, "w") as target:
        top = source.namelist()[0].partition("/")[0]
        for name in source.namelist():
            target.writestr(zipfile.ZipInfo(name), source.read(name))
        target.writestr(zipfile.ZipInfo(f"{top}/data/orphan"), b"left behind")
        target.writestr(
            zipfile.ZipInfo(f"{top}/extra/notes.txt"), b"packed " * 999, compress_type=zipfile.ZIP_DEFLATED
        )
    return out.getvalue()


def entries(path: Path) -> dict[str, Entry]:
    with path.open("rb") as file:
        return Archive(str(path), file.fileno()).entries


@given(weights=state_dicts(dtypes=IN_TORCH), data=st.data())
def test_a_flipped_bit_in_any_entry_of_an_archive_is_found_and_located(
    weights: dict[str, Any], data: st.DataObject
) -> None:
    buffer = io.BytesIO()
    torch.save(
        {"model": weights, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "param_groups": []}}, buffer
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pt")
        path.write_bytes(with_orphans(buffer.getvalue()))
        assert ckptkit.verify(path, root="model").ok
        entry = data.draw(st.sampled_from([e for e in entries(path).values() if e.csize]))
        blob = bytearray(path.read_bytes())
        blob[entry.offset + data.draw(st.integers(0, entry.csize - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(blob)
        (damage,) = ckptkit.verify(path, root="model").problems
    assert (damage.file, damage.offset) == (str(path), entry.offset)
    assert repr(entry.name) in damage.problem
    if entry.name == "data/orphan":
        assert damage.key is None
        assert damage.problem.endswith("no tensor reads this entry")
    elif entry.name.startswith("data/"):
        assert damage.key in {*weights, "optimizer.state.0.m"}


def test_damage_outside_the_weights_has_its_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    torch.save({name: {"w": torch.full((9,), value)} for name, value in (("g", 1.5), ("d", 2.5))}, path)
    blob = bytearray(path.read_bytes())
    blob[blob.index(torch.full((9,), 2.5).numpy().tobytes())] ^= 1
    path.write_bytes(blob)
    report = ckptkit.verify(path)
    assert [damage.key for damage in report.problems] == ["d.w"]
    assert report.notes[0].startswith("the weights could be in 'g', 'd'; name one of them")
    assert [damage.key for damage in ckptkit.verify(path, root="d").problems] == ["w"]


def test_all_damaged_entries_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({str(i): torch.full((5,), float(i)) for i in range(40)}, path)
    blob = bytearray(path.read_bytes())
    every = sorted((e for e in entries(path).values() if e.usize), key=lambda entry: entry.offset)
    for entry in every:
        blob[entry.offset + entry.usize // 2] ^= 1
    path.write_bytes(blob)
    assert [damage.offset for damage in ckptkit.verify(path).problems] == [entry.offset for entry in every]


@pytest.mark.parametrize("name", ["a.pt", "l.pt", "a.safetensors", "own.pt"])
def test_a_file_cut_at_any_length_is_not_whole(name: str, tmp_path: Path) -> None:
    small = {"a": torch.ones(3), "b": torch.tensor(2)}
    torch.save(small, tmp_path / "a.pt")
    torch.save(small, tmp_path / "l.pt", _use_new_zipfile_serialization=False)
    for target in ("a.safetensors", "own.pt"):
        ckptkit.save(small, tmp_path / target)
    path = tmp_path / name
    blob = path.read_bytes()
    assert ckptkit.verify(path).ok
    for length in range(len(blob)):
        path.write_bytes(blob[:length])
        report = ckptkit.verify(path, finite=True, hash=True)
        assert (report.ok, report.hash) == (False, None), length
    path.write_bytes(blob + b"\0")
    assert not ckptkit.verify(path).ok


@given(data=st.data())
def test_damage_of_any_kind_is_a_report_and_never_another_exception(data: st.DataObject) -> None:
    """Headers too, where there is no checksum: a flipped bit may go unnoticed there, and nothing else may happen."""
    with tempfile.TemporaryDirectory() as folder:
        every = [path for path in write(Path(folder)).values() if path.is_file()]
        every += sorted(Path(folder, "sharded").iterdir())
        path = data.draw(st.sampled_from(every))
        blob = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        path.write_bytes(blob)
        report = ckptkit.verify(path.parent if path.parent != Path(folder) else path)
        assert report.ok is (not report.problems)


def unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, low: int, high: int) -> None:
    """A disk that does not give back some bytes of one file."""
    real, inode = os.pread, path.stat().st_ino

    def pread(fd: int, count: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode and offset < high and low < offset + count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, count, offset)

    for module in (
        "files.regular", "formats.zipfmt", "formats.torch_legacy", "verification.reading", "verification.one_file",
    ):  # fmt: skip
        monkeypatch.setattr(f"ckptkit.{module}.pread", pread)


@pytest.mark.parametrize("name", ["big.safetensors", "big-l.pt"])
def test_what_the_disk_does_not_give_back_is_located_by_the_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = {"a": torch.ones(1 << 18), "b": torch.ones(1 << 19)}
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(big, path, _use_new_zipfile_serialization=False)
    else:
        ckptkit.save(big, path)
    with ckptkit.open(path) as checkpoint:
        region = checkpoint.source.view("b").storage.region
    assert region is not None
    low, high = region.offset + 100_000, region.offset + 1_500_000
    unreadable(monkeypatch, path, low, high)
    report = ckptkit.verify(path)
    (damage,) = report.problems
    start, stop = low // 4096 * 4096, -(-high // 4096) * 4096
    assert (damage.key, damage.offset) == ("b", start)
    assert damage.problem == f"bytes {start} to {stop} cannot be read: Input/output error"
    assert report.nbytes == path.stat().st_size - (stop - start)


@pytest.mark.parametrize("name", ["a.pt", "l.pt", "a.safetensors", "sharded"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_first_or_last_page_that_cannot_be_read_is_a_problem_of_every_format(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)[name]
    file = path / "model.safetensors.index.json" if path.is_dir() else path
    low = 0 if place == "first" else file.stat().st_size - 1
    unreadable(monkeypatch, file, low, low + 1)
    assert not ckptkit.verify(path).ok


def test_a_tensor_on_a_bad_page_of_an_archive_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1 << 19), "b": torch.ones(4)}, path)
    entry = entries(path)["data/0"]
    unreadable(monkeypatch, path, entry.offset + (1 << 20) + 5, entry.offset + (1 << 20) + 6)
    (damage,) = ckptkit.verify(path).problems
    assert (damage.key, damage.offset) == ("a", entry.offset + (1 << 20))
    assert "Input/output error" in damage.problem


OFFSETS: dict[str, tuple[str, Callable[[bytes], tuple[bytes, int]]]] = {
    "header claims too much": ("a.safetensors", lambda b: (b"\xff\xff\xff" + b[3:], 0)),
    "no JSON": ("a.safetensors", lambda b: (b[:9] + b"?" + b[10:], 9)),
    "cut data": ("a.safetensors", lambda b: (b[:-3], len(b) - 3)),
    "bytes behind the data": ("a.safetensors", lambda b: (b + b"?", len(b))),
    "bytes behind the last storage": ("l.pt", lambda b: (b + b"?", len(b))),
    "cut storage": ("l.pt", lambda b: (b[:-1], len(b) - 1)),
    "an opcode": ("l.pt", lambda b: (b[: b.index(b"}q")] + b"\xff" + b[b.index(b"}q") + 1 :], b.index(b"}q") + 1)),
    "an entry's name": ("a.pt", lambda b: (b.replace(b"a/version", b"a/versiom", 1), b.index(b"a/version") - 30)),
    "the directory": ("a.pt", lambda b: (b.replace(b"PK\1\2", b"PK\1\3", 1), b.index(b"PK\1\2"))),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFSETS)
def test_broken_laws_say_where(name: str, tmp_path: Path) -> None:
    file, change = OFFSETS[name]
    path = write(tmp_path)[file]
    blob, offset = change(path.read_bytes())
    path.write_bytes(blob)
    (damage,) = ckptkit.verify(path).problems
    assert damage.offset == offset, damage


def test_entries_without_a_checksum_are_counted_in_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(state(), path)
    blob = bytearray(path.read_bytes())
    for magic, crc in ((b"PK\3\4", 14), (b"PK\1\2", 16), (b"PK\7\x08", 4)):
        at = blob.find(magic)
        while at >= 0:
            blob[at + crc : at + crc + 4] = bytes(4)
            at = blob.find(magic, at + 1)
    path.write_bytes(blob)
    report = ckptkit.verify(path)
    assert report.ok
    count = len([e for e in entries(path).values() if e.usize])
    assert any(note.startswith(f"{count} of {count} entries declare no CRC") for note in report.notes)


def test_a_file_that_is_written_to_meanwhile_is_not_called_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ckptkit.save(state(), path)

    def touch(_: int) -> None:
        os.utime(path, ns=(1, 1))

    (damage,) = ckptkit.verify(path, progress=touch).problems
    assert "it was written to while it was read" in damage.problem


@pytest.mark.parametrize("name", ["a.pt", "l.pt", "a.safetensors", "sharded"])
def test_progress_tells_every_byte_and_may_stop_the_work(name: str, tmp_path: Path) -> None:
    path = write(tmp_path)[name]
    told: list[int] = []
    report = ckptkit.verify(path, progress=told.append)
    index = path / "model.safetensors.index.json"
    assert sum(told) == report.nbytes - (index.stat().st_size if path.is_dir() else 0)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ckptkit.verify(path, progress=stop)
