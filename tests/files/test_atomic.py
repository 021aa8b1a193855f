"""Files and folders appear complete or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ckptkit.errors import FormatError, WriteError
from ckptkit.files import locks
from ckptkit.files.atomic import PREFIX, SUFFIX, AtomicFile, remove_stale
from ckptkit.files.atomic_dir import AtomicDir
from ckptkit.files.copy import copy_bytes, write_all


def put(path: Path, data: bytes, **options: bool) -> None:
    with AtomicFile(str(path), **options) as file:
        write_all(file.fd, data, 0)


def test_a_new_file_has_the_mode_the_umask_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        put(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    os.chmod(tmp_path / "real", 0o604)
    (tmp_path / "link").symlink_to("real")
    put(tmp_path / "link", b"new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o604


def test_an_existing_target_is_refused_without_overwrite(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(
        WriteError, match="exists already; choose another target, or allow it with --overwrite"
    ):
        put(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("without_renameat2", [False, True])
def test_a_target_that_appears_meanwhile_is_never_replaced(
    tmp_path: Path, without_renameat2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_renameat2:
        monkeypatch.setattr(locks, "rename_without_replacing", lambda *_: False)
    with pytest.raises(WriteError, match="exists already"), AtomicFile(str(tmp_path / "a")) as file:
        write_all(file.fd, b"new", 0)
        (tmp_path / "a").write_bytes(b"theirs")
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_anything_goes_wrong(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), AtomicFile(str(tmp_path / "a"), overwrite=True) as file:
        write_all(file.fd, b"half", 0)
        raise error
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_system_errors_become_one_line_that_names_the_target(tmp_path: Path) -> None:
    with (
        pytest.raises(
            WriteError, match=r"a: could not be written: No space left on device; the target is as it was"
        ),
        AtomicFile(str(tmp_path / "a")),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(WriteError, match="does not exist; make it first"):
        put(tmp_path / "no" / "a", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="is a directory and is not replaced"):
        put(tmp_path / "folder", b"", overwrite=True)


def test_what_a_killed_run_left_is_removed_and_what_a_live_one_holds_is_kept(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}{1:016x}{SUFFIX}").write_bytes(b"x")
    (tmp_path / f"{PREFIX}{2:016x}{SUFFIX}").mkdir()
    code = (
        "import sys, os; from ckptkit.files.atomic import AtomicFile\n"
        "with AtomicFile(sys.argv[1]) as f: print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "live")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    remove_stale(str(tmp_path))
    assert len([n for n in os.listdir(tmp_path) if n.endswith(SUFFIX)]) == 1
    holder.communicate(b"")
    assert os.listdir(tmp_path) == ["live"]


def test_what_only_looks_like_a_temporary_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: nothing is touched that ckptkit did not make."""
    for name in ("notes", "", "1", f"{0xABC:016X}", f"{1:017x}", f"{1:016x}.bak"):
        (tmp_path / f"{PREFIX}{name}{SUFFIX}").write_text("mine")
    (tmp_path / f"{PREFIX}my-logs{SUFFIX}").mkdir()
    (tmp_path / f"{PREFIX}{1:016x}{SUFFIX}").symlink_to("nowhere")
    os.mkfifo(tmp_path / f"{PREFIX}{2:016x}{SUFFIX}")
    before = sorted(os.listdir(tmp_path))
    put(tmp_path / "a", b"x")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "a"])
    theirs = tmp_path / f"{PREFIX}{3:016x}{SUFFIX}"
    theirs.write_text("theirs")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
        remove_stale(str(tmp_path))
    assert theirs.exists()
    remove_stale(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "a"])


@pytest.mark.parametrize("without_exchange", [False, True])
def test_a_folder_is_replaced_whole_and_foreign_files_are_carried_over(
    tmp_path: Path, without_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without_exchange:
        monkeypatch.setattr(locks, "exchange", lambda *_: False)
    target = tmp_path / "model"
    target.mkdir()
    for name in (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "notes.txt",
    ):
        (target / name).write_text("old")
    with pytest.raises(WriteError, match="exists already"), AtomicDir(str(target)):
        pass
    with AtomicDir(str(target), overwrite=True) as folder:
        Path(folder.path, "model.safetensors").write_text("new")
        Path(folder.path, "config.json").write_text("new")
    assert sorted(p.name for p in target.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]
    assert (target / "config.json").read_text() == "new"
    assert folder.carried == ("notes.txt",)
    assert os.listdir(tmp_path) == ["model"]


def test_a_failed_folder_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("old")
    with pytest.raises(KeyboardInterrupt), AtomicDir(str(tmp_path / "model"), overwrite=True) as folder:
        Path(folder.path, "model.safetensors").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "model" / "model.safetensors").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_copies_are_exact_and_a_source_that_ends_early_is_told(tmp_path: Path, crc: bool, size: int) -> None:
    import zlib

    data = os.urandom(size)
    (tmp_path / "in").write_bytes(b"??" + data)
    source = os.open(tmp_path / "in", os.O_RDONLY)
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    steps: list[int] = []
    found = copy_bytes(source, 2, size, fd, 3, name="in", progress=steps.append, crc=crc)
    os.close(fd)
    assert (tmp_path / "out").read_bytes()[3:] == data
    assert sum(steps) == size
    assert found == (zlib.crc32(data) if crc else None)
    fd = os.open(tmp_path / "out", os.O_RDWR)
    with pytest.raises(FormatError, match=r"^in: .* bytes early; it was cut while it was read"):
        copy_bytes(source, 2, size + 1, fd, 0, name="in", crc=crc)
    os.close(fd)
    os.close(source)
