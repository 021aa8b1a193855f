"""What happens between two system calls: interrupts, neighbours, file systems that cannot exchange."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ckptkit.errors import WriteError
from ckptkit.files import atomic, locks
from ckptkit.files.atomic import AtomicFile
from ckptkit.files.atomic_dir import AtomicDir


def fill(folder: str) -> None:
    Path(folder, "model.safetensors").write_bytes(b"new")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    target = tmp_path / "out"
    target.mkdir()
    (target / "model.safetensors").write_bytes(b"old")
    (target / "model-00001-of-100000.safetensors").write_bytes(b"stale")
    return target


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_with_or_without_exchange(
    old: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(locks, "exchange", lambda a, b: False)
    with AtomicDir(str(old), overwrite=True) as folder:
        fill(folder.path)
    assert names(old) == ["model.safetensors"]
    assert (old / "model.safetensors").read_bytes() == b"new"
    assert names(old.parent) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("at", [1, 2])
def test_without_exchange_an_interrupt_at_either_rename_keeps_a_complete_folder(
    old: Path, at: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.rename, 0

    def rename(a: str, b: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise error
        real(a, b)

    monkeypatch.setattr(locks, "exchange", lambda a, b: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises((KeyboardInterrupt, WriteError)), AtomicDir(str(old), overwrite=True) as folder:
        fill(folder.path)
    assert (old / "model.safetensors").read_bytes() == b"old"
    assert names(old.parent) == ["out"]


def test_a_stop_between_the_two_renames_never_costs_the_old_folder(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run cleans up after a killed one, and must not take the only complete data for rubbish."""
    parent, real = old.parent, os.rename

    class Killed(BaseException):
        pass

    def rename(a: str, b: str) -> None:
        if b == str(old):
            raise Killed  # neither rename happens any more: the process is gone
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(locks, "exchange", lambda a, b: False)
        patch.setattr(os, "rename", rename)
        with pytest.raises(Killed), AtomicDir(str(old), overwrite=True) as folder:
            fill(folder.path)
    assert not old.exists()
    with AtomicFile(str(parent / "other"), fsync=False):
        pass
    (kept,) = [p for p in parent.iterdir() if p.is_dir()]
    assert (kept / "model.safetensors").read_bytes() == b"old"


def test_a_neighbour_that_cleans_up_too_early_makes_a_fresh_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, stolen = locks.hold, []

    def hold(fd: int) -> None:
        if not stolen:
            (name,) = [n for n in os.listdir(tmp_path) if atomic.is_temporary(n)]
            locks.remove_if_free(str(tmp_path / name))
            stolen.append(name)
        real(fd)

    monkeypatch.setattr(locks, "hold", hold)
    with AtomicFile(str(tmp_path / "a")) as file:
        os.write(file.fd, b"x")
    stolen.clear()
    with AtomicDir(str(tmp_path / "d")) as folder:
        fill(folder.path)
    assert names(tmp_path) == ["a", "d"]
    assert (tmp_path / "a").read_bytes() == b"x"
    assert names(tmp_path / "d") == ["model.safetensors"]


@pytest.mark.parametrize("kind", [AtomicFile, AtomicDir])
def test_a_name_that_is_not_made_durable_is_not_called_unwritten(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parent = atomic.sync_folder, str(tmp_path)

    def sync_folder(folder: str) -> None:
        if folder == parent:
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(atomic, "sync_folder", sync_folder)
    with (
        pytest.raises(WriteError, match="is complete, but its name could not be made durable"),
        kind(str(tmp_path / "a")),
    ):
        pass
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", [AtomicFile, AtomicDir])
def test_what_is_no_path_is_refused(kind: Any) -> None:
    with pytest.raises(WriteError, match="is no path"):
        kind("a\0b")


def test_foreign_entries_of_every_kind_are_carried_over_without_reading_them(old: Path) -> None:
    (old / "config.json").write_text("{}")
    (old / "link").symlink_to("config.json")
    os.mkfifo(old / "pipe")
    (old / "sub").mkdir()
    (old / "sub" / "tokenizer").write_text("t")
    inode = (old / "config.json").stat().st_ino
    with AtomicDir(str(old), overwrite=True) as folder:
        fill(folder.path)
    assert folder.carried == ("config.json", "link", "pipe", "sub")
    assert (old / "config.json").stat().st_ino == inode
    assert os.readlink(old / "link") == "config.json"
    assert (old / "pipe").is_fifo()
    assert (old / "sub" / "tokenizer").read_text() == "t"
