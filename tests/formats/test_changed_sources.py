"""A source that is replaced, rewritten or cut between opening and writing is an error, never other bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.files import copy


def replace(path: Path) -> None:
    """As a training run does that saves again: another file of the same size under the same name."""
    other = path.with_name("other")
    ckptkit.save({"a": torch.full((4,), 7.0), "b": torch.full((4,), 8.0)}, other.with_suffix(".safetensors"))
    os.replace(other.with_suffix(".safetensors"), path)


def rewrite(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\2\3\4")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


@pytest.mark.parametrize("change", [replace, rewrite, cut])
@pytest.mark.parametrize("target", ["out.safetensors", "folder"])
def test_a_source_that_changed_since_it_was_opened_is_never_copied(
    change: Callable[[Path], None], target: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.safetensors"
    ckptkit.save({"a": torch.ones(4), "b": torch.zeros(4)}, path)
    checkpoint = ckptkit.open(path)
    change(path)
    with pytest.raises(
        ckptkit.FormatError, match=r"was replaced or changed since it was opened|changed while"
    ):
        ckptkit.save(checkpoint, tmp_path / target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.safetensors"]


def test_a_source_that_changes_during_the_copy_is_told_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.safetensors"
    ckptkit.save({"a": torch.ones(4)}, path)
    checkpoint, real = ckptkit.open(path), copy._kernel_copy

    def copy_then_change(*args: object) -> int:
        done = real(*args)  # type: ignore[arg-type]
        rewrite(path)
        return done

    monkeypatch.setattr(copy, "_kernel_copy", copy_then_change)
    with pytest.raises(ckptkit.FormatError, match=r"in.safetensors: was replaced or changed"):
        ckptkit.save(checkpoint, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["in.safetensors"]


def test_renames_that_shuffle_the_data_open_the_source_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptkit.formats import safetensors_write

    state = {f"k{i:03}": torch.full((2,), float(i)) for i in range(200)}
    ckptkit.save(state, tmp_path / "in.safetensors")
    opened, real = [], safetensors_write.open_fd

    def open_fd(path: str) -> int:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(safetensors_write, "open_fd", open_fd)
    # Reversed digits sort differently, so hardly two neighbours stay neighbours.
    rules = [{"op": "rename", "pattern": r"^k(.)(.)(.)$", "replacement": r"k\3\2\1"}]
    ckptkit.save(ckptkit.remap(tmp_path / "in.safetensors", rules), tmp_path / "out.safetensors")
    assert len(opened) == 1
    with ckptkit.open(tmp_path / "out.safetensors") as back:
        assert {k: v.tolist() for k, v in back.items()} == {
            "k" + k[:0:-1]: v.tolist() for k, v in state.items()
        }
