"""What is in a replaced folder, and what appears in it while it is replaced, is not lost."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.errors import WriteError
from ckptkit.files import locks
from ckptkit.files.atomic import remove_stale
from ckptkit.files.atomic_dir import AtomicDir

Act = Callable[[Path], Any]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    target = tmp_path / "out"
    (target / "logs").mkdir(parents=True)
    (target / "model.safetensors").write_bytes(b"old")
    (target / "config.json").write_text("old")
    (target / "logs" / "first").write_text("old")
    return target


def replaced(out: Path, monkeypatch: pytest.MonkeyPatch, act: Act, *, exchange: bool = True) -> AtomicDir:
    """Replace a folder; `act` happens in the old one at the last moment, when all was carried over already."""
    if exchange:
        real = locks.exchange

        def at_last(a: str, b: str) -> bool:
            act(Path(b))
            return real(a, b)

        monkeypatch.setattr(locks, "exchange", at_last)
    else:
        rename = os.rename

        def late(a: str, b: str) -> None:
            if a == str(out):
                act(Path(a))
            rename(a, b)

        monkeypatch.setattr(locks, "exchange", lambda a, b: False)
        monkeypatch.setattr(os, "rename", late)
    with AtomicDir(str(out), overwrite=True) as folder:
        os.close(folder.create("model.safetensors"))
    monkeypatch.undo()
    assert os.listdir(out.parent) == ["out"]
    return folder


def appear(folder: Path) -> None:
    (folder / "new.txt").write_text("new")
    (folder / "more").mkdir()
    (folder / "more" / "deep").write_text("new")
    (folder / "logs" / "second").write_text("new")
    (folder / "link").symlink_to("new.txt")


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("exchange", [True, False])
def test_what_appears_at_the_last_moment_is_in_the_new_folder_and_is_named(
    out: Path, exchange: bool, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G23, also on file systems that cannot exchange, and on those that have no second names."""
    if not links:

        def no_links(*_: object, **__: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", no_links)
    folder = replaced(out, monkeypatch, appear, exchange=exchange)
    assert (out / "new.txt").read_text() == (out / "link").read_text() == "new"
    assert (out / "more" / "deep").read_text() == (out / "logs" / "second").read_text() == "new"
    assert (out / "logs" / "first").read_text() == "old"
    assert (out / "model.safetensors").read_bytes() == b""
    assert folder.carried == ("config.json", "link", "logs", "more", "new.txt")
    assert folder.gone == ()


@pytest.mark.parametrize("links", [True, False])
def test_what_changes_at_the_last_moment_is_new_in_the_new_folder(
    out: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G23: written in place, or replaced as editors do it."""

    def change(folder: Path) -> None:
        (folder / "config.json").write_text("newer")
        (folder / "other").write_text("newer")
        os.replace(folder / "other", folder / "logs" / "first")

    if not links:
        monkeypatch.setattr("ckptkit.files.carrying._link", shutil.copy2)
    replaced(out, monkeypatch, change)
    assert (out / "config.json").read_text() == (out / "logs" / "first").read_text() == "newer"


def test_weights_that_appear_at_the_last_moment_go_and_are_named(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G23: beside the new weights nobody could tell which ones count."""
    folder = replaced(
        out, monkeypatch, lambda folder: (folder / "model-00001-of-00002.safetensors").write_bytes(b"x")
    )
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "logs", "model.safetensors"]
    assert folder.gone == ("model-00001-of-00002.safetensors",)


def test_files_that_vanish_while_they_are_carried_over_stop_nothing(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: str, target: str, **options: bool) -> None:
        os.unlink(source)
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)
    with AtomicDir(str(out), overwrite=True) as folder:
        os.close(folder.create("model.safetensors"))
    assert folder.carried == ("logs",)
    assert sorted(p.name for p in out.iterdir()) == ["logs", "model.safetensors"]


def test_whoever_still_fills_the_old_folder_loses_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G23: a process that has the folder open goes on writing into it after it was exchanged."""
    fd, real, left = os.open(out, os.O_RDONLY), os.rmdir, ["one", "two"]

    def rmdir(path: str) -> None:
        if left and Path(path).parent == out.parent:
            os.close(os.open(left.pop(), os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        real(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with AtomicDir(str(out), overwrite=True) as folder:
        os.close(folder.create("model.safetensors"))
    os.close(fd)
    assert (out / "one").exists()
    assert (out / "two").exists()
    assert folder.carried == ("config.json", "logs", "one", "two")


def test_what_can_be_neither_brought_nor_removed_is_kept_and_its_place_named(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G23: and what keeps it is no temporary name, which the next run would clear away."""
    with monkeypatch.context() as patch:

        def refuse(path: str) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr(os, "rmdir", refuse)
        written = ckptkit.save({"a": torch.ones(1)}, out, overwrite=True)
    (note,) = [note for note in written.notes if "could not be brought" in note]
    aside = Path(note.rpartition("they are in ")[2])
    assert aside.is_dir()
    ckptkit.save({"b": torch.ones(1)}, out, overwrite=True)
    assert aside.is_dir()


def test_a_neighbour_that_cleans_up_leaves_the_replaced_folder_alone(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G23: it has a temporary name for as long as something may have to be brought from it."""
    real = locks.exchange

    def exchange(a: str, b: str) -> bool:
        (Path(b) / "new.txt").write_text("new")
        done = real(a, b)
        remove_stale(str(out.parent))
        return done

    monkeypatch.setattr(locks, "exchange", exchange)
    with AtomicDir(str(out), overwrite=True) as folder:
        os.close(folder.create("model.safetensors"))
    assert (out / "new.txt").read_text() == "new"


def test_an_interrupt_after_the_exchange_loses_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = locks.exchange

    def exchange(a: str, b: str) -> bool:
        (Path(b) / "new.txt").write_text("new")
        real(a, b)
        raise KeyboardInterrupt

    monkeypatch.setattr(locks, "exchange", exchange)
    with pytest.raises(KeyboardInterrupt), AtomicDir(str(out), overwrite=True) as folder:
        os.close(folder.create("model.safetensors"))
    assert (out / "model.safetensors").read_bytes() == b""
    assert (out / "new.txt").read_text() == "new"
    assert os.listdir(out.parent) == ["out"]


def test_a_folder_that_is_filled_meanwhile_is_not_replaced_without_leave(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(WriteError, match="exists already"), AtomicDir(str(target)) as folder:
        os.close(folder.create("model.safetensors"))
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"theirs")
    assert (target / "model.safetensors").read_bytes() == b"theirs"


@pytest.mark.parametrize("command", ["convert", "remap"])
def test_files_of_a_replaced_folder_keep_their_permissions(tmp_path: Path, command: str) -> None:
    """G25: also weights that are split or named anew, and nobody can look into the folder while it is made."""
    ckptkit.save({"old.a": torch.ones(2), "old.b": torch.ones(2)}, tmp_path / "s.safetensors")
    out = tmp_path / "out"
    ckptkit.save({"old.a": torch.ones(2), "old.b": torch.ones(2)}, out)
    (out / "config.json").write_text("{}")
    for path in out.iterdir():
        path.chmod(0o600)
    arguments = {
        "convert": ["convert", "s.safetensors", "out/", "--overwrite", "--max-shard-size", "8"],
        "remap": ["remap", "out", "--in-place", "--rename", "^old", "new"],
    }[command]
    subprocess.run([sys.executable, "-m", "ckptkit", *arguments], cwd=tmp_path, check=True)
    assert len(list(out.iterdir())) == (4 if command == "convert" else 2)
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


def test_files_that_replace_others_are_never_readable_by_more_people(tmp_path: Path) -> None:
    """G25: from the first byte on."""
    source, out = tmp_path / "config.json", tmp_path / "out"
    source.write_text("{}")
    out.mkdir()
    for name, mode in {"a.safetensors": 0o640, "b.safetensors": 0o604, "config.json": 0o600}.items():
        (out / name).touch()
        (out / name).chmod(mode)
    out.chmod(0o750)
    with AtomicDir(str(out), overwrite=True) as folder:
        assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
        os.close(folder.create("model.safetensors"))
        folder.bring(str(source))
    assert stat.S_IMODE(out.stat().st_mode) == 0o750
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()}
    assert modes == {"model.safetensors": 0o600, "config.json": 0o600}


def test_a_folder_with_the_name_of_weights_is_not_taken_for_them(out: Path) -> None:
    """G23: it may be a distributed checkpoint that somebody saved under such a name."""
    (out / "step-1.safetensors").mkdir()
    (out / "step-1.safetensors" / ".metadata").write_bytes(b"x")
    ckptkit.save({"a": torch.ones(1)}, out, overwrite=True)
    assert (out / "step-1.safetensors" / ".metadata").read_bytes() == b"x"
    (out / "model.safetensors").unlink()
    (out / "model.safetensors").mkdir()
    with pytest.raises(WriteError, match="model.safetensors: is a folder, and a file of this name"):
        ckptkit.save({"a": torch.ones(1)}, out, overwrite=True)
    assert (out / "model.safetensors").is_dir()
