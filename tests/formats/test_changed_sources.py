"""A source that is replaced, rewritten or cut between opening and writing is an error, never other bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.execute import write_source
from ckptkit.formats.base import WriteOptions


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
    with pytest.raises(ckptkit.FormatError, match=r"it changed while it was open \("):
        ckptkit.save(checkpoint, tmp_path / target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.safetensors"]


def by_dcp(state: dict[str, torch.Tensor], path: Path) -> None:
    from torch.distributed.checkpoint import save

    save(dict(state), checkpoint_id=str(path))


SOURCES: dict[str, tuple[str, Callable[[dict[str, torch.Tensor], Path], object]]] = {
    "in.safetensors": ("in.safetensors", ckptkit.save),
    "in": ("in/model.safetensors", ckptkit.save),
    "zip.pt": ("zip.pt", torch.save),
    "legacy.pt": ("legacy.pt", lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False)),
    "nested.pt": ("nested.pt", lambda s, p: torch.save({"state_dict": s, "epoch": 3}, p)),
    "dcp": ("dcp/__0_0.distcp", by_dcp),
}
NUMBERS = {"few": 4, "many": 200_000}  # what is read in one go, and what is copied beside its checksum
WAYS: dict[str, list[dict[str, object]]] = {
    "copied": [],
    "computed": [{"op": "cast", "dtype": "float64", "keys": ["*"]}],
}


@pytest.mark.parametrize("target", ["out.safetensors", "folder/", "out.pt"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_changes_during_the_copy_gives_no_output(
    source: str, numbers: str, way: str, target: str, tmp_path: Path
) -> None:
    """G26: exit 0 only for one state of the source; here it is written to after the last byte was read."""
    holder, save = SOURCES[source]
    save({"a": torch.ones(NUMBERS[numbers])}, tmp_path / source)
    before = sorted(p.name for p in tmp_path.iterdir())
    with ckptkit.open(tmp_path / source) as checkpoint:
        planned = ckptkit.remap(checkpoint, WAYS[way])
        options = WriteOptions(fsync=False, progress=lambda _: rewrite(tmp_path / holder))
        with pytest.raises(ckptkit.FormatError, match=rf"{re.escape(holder)}: .*changed"):
            write_source(planned.source, f"{tmp_path}/{target}", options=options)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_source_that_is_cut_during_the_copy_is_named(tmp_path: Path) -> None:
    """G3: the message names the file, whichever thread met its end."""
    path = tmp_path / "in.safetensors"
    ckptkit.save({"a": torch.ones(200_000), "b": torch.ones(200_000)}, path)
    with ckptkit.open(path) as checkpoint:
        options = WriteOptions(fsync=False, progress=lambda _: os.truncate(path, 4096))
        with pytest.raises(ckptkit.FormatError, match=r"^\S*in.safetensors: "):
            write_source(checkpoint.source, tmp_path / "out.pt", options=options)
    assert os.listdir(tmp_path) == ["in.safetensors"]


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
