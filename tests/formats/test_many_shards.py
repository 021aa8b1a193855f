"""More shards than a process may have open files are one checkpoint all the same."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from ckptkit.errors import FormatError
from ckptkit.files.mapped import MappedFile
from ckptkit.formats import shard_pool

COUNT = 12


@pytest.fixture(params=["safetensors", "bin"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Keys that go round the shards, so that each one that is asked for lies in a closed one."""
    suffix, weight_map = request.param, {}
    for n in range(COUNT):
        name = f"x-{n + 1:05d}-of-{COUNT:05d}.{suffix}"
        state = {f"k{n:02d}": torch.full((3,), float(n)), f"l{n:02d}": torch.full((2,), -float(n))}
        if suffix == "bin":
            torch.save(state, tmp_path / name)
        else:
            save_file(state, tmp_path / name)
        weight_map |= dict.fromkeys(state, name)
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (tmp_path / f"x.{suffix}.index.json").write_text(json.dumps(index))
    return tmp_path


def torch_shards(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """A folder with a torch file for each tensor."""
    folder.mkdir()
    weight_map = {key: f"x-{n:05d}-of-{len(state):05d}.bin" for n, key in enumerate(state, 1)}
    for key, name in weight_map.items():
        torch.save({key: state[key]}, folder / name)
    (folder / "x.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_pool, "most_open", lambda: 3)


def descriptors(folder: Path) -> int:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith(f"{folder}/x-") for link in links if os.path.islink(link))


def check(checkpoint: ckptkit.Checkpoint) -> None:
    assert len(checkpoint) == 2 * COUNT
    for key, tensor in checkpoint.items():
        sign = 1 if key[0] == "k" else -1
        assert (tensor == sign * float(key[1:])).all(), key


@pytest.mark.usefixtures("_few")
def test_only_a_few_shards_are_open_at_a_time_and_all_are_read(model: Path, tmp_path: Path) -> None:
    with ckptkit.open(model) as checkpoint:
        kept = dict(checkpoint)
        check(checkpoint)
        for target in ("out.pt", "out.safetensors", "out/"):
            ckptkit.save(checkpoint, f"{tmp_path}/{target}")
            with ckptkit.open(f"{tmp_path}/{target}") as copy:
                check(copy)
        if os.path.isdir("/proc/self/fd"):
            assert 0 < descriptors(model) <= 3
    assert all((kept[f"k{n:02d}"] == n).all() for n in range(COUNT))
    if os.path.isdir("/proc/self/fd"):
        assert descriptors(model) == 0


@pytest.mark.usefixtures("_few")
def test_a_shard_that_is_read_by_one_thread_stays_open_while_others_want_more(model: Path) -> None:
    with ckptkit.open(model) as checkpoint, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(check, [checkpoint] * 24):
            pass


@pytest.mark.usefixtures("_few")
def test_a_shard_that_changed_while_it_was_not_open_is_an_error(model: Path) -> None:
    with ckptkit.open(model) as checkpoint:
        shard = next(model.glob("x-00001-*"))
        shard.write_bytes(shard.read_bytes())
        os.utime(shard, ns=(1, 1))
        with pytest.raises(FormatError, match="x-00001.*it changed while it was open; open it again"):
            checkpoint["k00"]
        with pytest.raises(FormatError, match="it changed while it was open"):
            checkpoint.source.check_unchanged()


@pytest.mark.usefixtures("_few")
def test_a_closed_checkpoint_opens_no_shard_again(model: Path) -> None:
    checkpoint = ckptkit.open(model)
    checkpoint.close()
    for key in checkpoint:
        with pytest.raises(FormatError, match="it was closed; open it again"):
            checkpoint[key]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_commands_work_where_fewer_files_may_be_open_than_there_are_shards(tmp_path: Path) -> None:
    state = {f"k{n}": torch.full((3,), float(n)) for n in range(60)}
    ckptkit.save(state, tmp_path / "model", max_shard_size="12B")
    command = f"ulimit -n 40; exec {sys.executable} -m ckptkit convert model out.safetensors"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    with ckptkit.open(tmp_path / "out.safetensors") as copy:
        assert all(copy[key].equal(tensor) for key, tensor in state.items())


@pytest.mark.parametrize("most", [3, 100])
def test_lazily_conjugated_tensors_are_read_from_shards_whether_or_not_all_are_open(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G18"""
    monkeypatch.setattr(shard_pool, "most_open", lambda: most)
    state = {f"k{n}": torch.tensor([n, n + 1j], dtype=torch.complex64).conj() for n in range(COUNT)}
    with ckptkit.open(torch_shards(tmp_path / "model", state)) as checkpoint:
        assert all(checkpoint.source.lazy(key) for key in state)
        assert all(checkpoint[key].equal(tensor) for key, tensor in state.items())
        for target in ("out.safetensors", "out.pt"):
            ckptkit.save(checkpoint, tmp_path / target)
            with ckptkit.open(tmp_path / target) as copy:
                assert all(copy[key].equal(tensor) for key, tensor in state.items())


@pytest.mark.parametrize("most", [3, 100])
def test_a_lazily_conjugated_view_that_repeats_a_few_bytes_without_end_is_refused_in_a_shard_too(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_pool, "most_open", lambda: most)
    wide = torch.ones(1, dtype=torch.complex64).expand(1 << 22, 1 << 22)
    state = {f"k{n}": wide.conj() for n in range(4)}
    with (
        ckptkit.open(torch_shards(tmp_path / "model", state)) as checkpoint,
        pytest.raises(FormatError, match=r"'k0' is an expanded view"),
    ):
        ckptkit.save(checkpoint, tmp_path / "out.safetensors")


def test_a_file_that_cannot_be_mapped_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: MappedFile) -> mmap.mmap:
        raise OSError(24, "Too many open files")

    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(MappedFile, "buffer", refuse)
    with ckptkit.open(tmp_path / "a.safetensors") as checkpoint:
        assert checkpoint["a"].equal(torch.ones(3))
