"""What replaces a file keeps its owner, group, mode and extended attributes, or says what it could not keep: G25."""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.files import carrying
from ckptkit.files.attributes import NOBODY, Attributes, attributes_of, give, shared

from ..cli.conftest import Shell

ROOT = sys.platform == "linux" and os.geteuid() == 0
OWNER, GROUP, OTHER = 12_345, 23_456, 34_567
STATE = {"w.a": torch.ones(8), "w.b": torch.zeros(8)}
needs_root = pytest.mark.skipif(not ROOT, reason="only root gives files away")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Python knows extended attributes on Linux only")


def access(group: int, mask: int) -> bytes:
    """An access list as Linux keeps it: version 2, then tag, permissions, id; user 34567 may read."""
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 4, OTHER), (4, group, nobody), (16, mask, nobody), (32, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def extended(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def decorate(path: Path, number: int = 0) -> None:
    try:
        os.setxattr(path, "user.note", b"from the lab %d" % number)
    except OSError:
        pytest.skip("this file system has no extended attributes")
    if path.is_file():
        os.chmod(path, 0o640)
    os.setxattr(path, "system.posix_acl_access", access(4, 4))
    if ROOT:
        os.setxattr(path, "trusted.site", b"x")
        os.setxattr(path, "security.site", b"y")
        os.chown(path, OWNER + number, GROUP)


def kept(path: Path) -> Attributes:
    return attributes_of(str(path))


def in_place(folder: Path, name: str) -> list[str]:
    return notes(Shell(folder), "remap", name, "--in-place", "--rename", "^w", "v")


def overwritten(folder: Path, name: str) -> list[str]:
    ckptkit.save(STATE, folder / "other.safetensors", overwrite=True)
    return notes(Shell(folder), "convert", "other.safetensors", name, "--overwrite")


def notes(shell: Shell, *argv: str) -> list[str]:
    ran = shell(*argv)
    assert ran.code == 0, ran
    return [line for line in ran.err.splitlines() if "not kept" in line]


WAYS = (in_place, overwritten)


@linux
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.json"])
def test_a_replaced_file_keeps_all_of_them(
    name: str, way: Callable[[Path, str], list[str]], tmp_path: Path
) -> None:
    if name == "m.json" and way is in_place:
        return
    ckptkit.save(STATE, tmp_path / name)
    decorate(tmp_path / name)
    before = kept(tmp_path / name)
    assert way(tmp_path, name) == []
    assert kept(tmp_path / name) == before
    assert {"user.note", "system.posix_acl_access"} <= set(before.extended)


@linux
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_replaced_folder_keeps_those_of_itself_its_files_and_what_is_beside(
    way: Callable[[Path, str], list[str]], links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    ckptkit.save(STATE, folder, max_shard_size=32)
    (folder / "config.json").write_text("{}")
    (folder / "logs" / "deep").mkdir(parents=True)
    (folder / "logs" / "first").write_text("log")
    paths = [folder, *sorted(folder.rglob("*"))]
    for number, path in enumerate(paths):
        decorate(path, number)
    before = {path: kept(path) for path in paths if path.exists()}
    if not links:

        def no_links(*_: object, **__: object) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(carrying.os, "link", no_links)
    assert way(tmp_path, "model") == []
    after = {path: kept(path) for path in paths if path.exists()}
    assert after == {path: before[path] for path in after}
    assert {path.name for path in after} >= {"model", "config.json", "logs", "deep", "first"}


@linux
@needs_root
def test_weights_under_new_names_get_what_all_the_old_ones_had(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    ckptkit.save(STATE, folder)
    for path in folder.iterdir():
        decorate(path)
    ckptkit.save(STATE, folder, overwrite=True, max_shard_size=32)
    assert len(list(folder.glob("model-*"))) == 2
    for path in folder.iterdir():
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (OWNER, GROUP, 0o640), path
        assert os.getxattr(path, "user.note") == b"from the lab 0"


def refuse(monkeypatch: pytest.MonkeyPatch, function: str, when: Callable[..., bool]) -> None:
    real = getattr(os, function)

    def refused(*arguments: Any) -> Any:
        if when(*arguments):
            raise PermissionError(1, "Operation not permitted")
        return real(*arguments)

    monkeypatch.setattr(os, function, refused)


@linux
@needs_root
@pytest.mark.parametrize("way", WAYS)
def test_what_the_system_refuses_is_said_and_nobody_may_do_more_than_before(
    way: Callable[[Path, str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is for all who are not root: a file of somebody else, and of a group that they are not in."""
    ckptkit.save(STATE, tmp_path / "m.pt")
    os.chown(tmp_path / "m.pt", OWNER, GROUP)
    os.chmod(tmp_path / "m.pt", 0o664)
    os.chmod(tmp_path, 0o777)
    with monkeypatch.context() as patch:
        refuse(patch, "fchown", lambda *_: True)
        found = way(tmp_path, "m.pt")
    assert found == [
        "note: not kept of what was replaced: the group (id 23456), of m.pt; set it again where it matters",
        "note: not kept of what was replaced: the owner (id 12345), of m.pt; set it again where it matters",
        "note: not kept of what was replaced: the mode 0664, which is 0644 now, of m.pt; set it again where it matters",
    ]
    status = (tmp_path / "m.pt").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o644)


@linux
@needs_root
def test_attributes_that_the_kernel_refuses_or_that_are_about_the_old_bytes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptkit.files import attributes

    ckptkit.save(STATE, tmp_path / "m.pt")
    decorate(tmp_path / "m.pt")
    os.setxattr(tmp_path / "m.pt", "security.ima", b"\x04\x04" + b"s" * 8)
    real = attributes._set

    def refused(fd: int, name: str, value: bytes) -> None:
        if name in ("security.site", "system.posix_acl_access"):
            raise PermissionError(1, "Operation not permitted")
        real(fd, name, value)

    monkeypatch.setattr(attributes, "_set", refused)
    found = in_place(tmp_path, "m.pt")
    assert [note.split(": ")[2].split(", of")[0] for note in found] == [
        "the extended attribute security.ima",
        "the extended attribute security.site",
        "the extended attribute system.posix_acl_access",
        "the mode 0640, which is 0600 now",
    ]
    assert set(extended(tmp_path / "m.pt")) == {"user.note", "trusted.site"}


@linux
@needs_root
def test_while_it_is_written_nobody_else_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of the one who writes is not the group that could read the old file."""
    from ckptkit.formats import safetensors_write, sharded_write

    ckptkit.save(STATE, tmp_path / "m.safetensors")
    ckptkit.save(STATE, tmp_path / "m")
    os.chmod(tmp_path / "m.safetensors", 0o666)
    os.chmod(tmp_path / "m", 0o777)
    real, seen = safetensors_write.write_shard, []

    def write_shard(fd: int, *arguments: Any) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        seen.append(stat.S_IMODE((path if path.parent == tmp_path else path.parent).stat().st_mode))
        return real(fd, *arguments)

    monkeypatch.setattr(safetensors_write, "write_shard", write_shard)
    monkeypatch.setattr(sharded_write, "write_shard", write_shard)
    in_place(tmp_path, "m.safetensors")
    in_place(tmp_path, "m")
    assert seen == [0o600, 0o700]
    assert stat.S_IMODE((tmp_path / "m.safetensors").stat().st_mode) == 0o666
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o777


@linux
def test_an_access_list_that_the_folder_gives_is_taken_from_what_had_none(tmp_path: Path) -> None:
    ckptkit.save(STATE, tmp_path / "m.pt")
    os.chmod(tmp_path / "m.pt", 0o600)
    before = kept(tmp_path / "m.pt")
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", access(6, 6))
    except OSError:
        pytest.skip("this file system has no access lists")
    assert in_place(tmp_path, "m.pt") == []
    assert kept(tmp_path / "m.pt") == before


modes = st.integers(0, 0o777)


@given(st.lists(st.builds(Attributes, modes, st.sampled_from([1, 2]), st.sampled_from([1, 2])), min_size=1))
def test_what_replaces_several_files_lets_nobody_do_what_one_of_them_forbids(many: list[Attributes]) -> None:
    one = shared(many)
    assert one is not None
    assert all(one.mode & ~each.mode == 0 for each in many)
    assert one.uid in {NOBODY, *(each.uid for each in many)}
    assert (one.gid == NOBODY) == (len({each.gid for each in many}) > 1)


@linux
@given(mode=modes)
def test_a_group_that_is_not_the_old_one_may_do_no_more_than_all_others(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        give(fd, Attributes(mode))
        now = stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
        os.unlink(path)
    assert now & ~0o070 == mode & ~0o070
    assert now >> 3 & 7 == mode >> 3 & mode & 7
