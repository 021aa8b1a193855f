"""Several threads read one checkpoint of any format, as data loaders do, and get what one alone gets."""

from __future__ import annotations

import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

import ckptkit

from .test_dcp import PART, describe, described

STATE = {f"k{i}": torch.full((50 + i, 7), i, dtype=torch.int32) for i in range(90)}


def as_zip(path: Path) -> None:
    torch.save(STATE, path)


def as_deflated_zip(path: Path) -> None:
    torch.save(STATE, path.with_name("stored"))
    with (
        zipfile.ZipFile(path.with_name("stored")) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))


def as_legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


def as_safetensors(path: Path) -> None:
    ckptkit.save(STATE, path.with_suffix(".safetensors"))
    path.with_suffix(".safetensors").rename(path)


def as_shards(path: Path) -> None:
    ckptkit.save(STATE, f"{path}/", max_shard_size="9kB")


def as_distributed(path: Path) -> None:
    dcp.save(dict(STATE), storage_writer=dcp.FileSystemWriter(path), no_dist=True)


def as_many_parts(path: Path) -> None:
    """A file for each tensor: more than are kept open."""
    as_distributed(path)
    blob, metadata = (path / PART).read_bytes(), described(path)
    for number, info in enumerate((metadata.storage_data or {}).values()):
        (path / f"__{number}_0.distcp").write_bytes(blob[info.offset : info.offset + info.length])
        info.relative_path, info.offset = f"__{number}_0.distcp", 0
    describe(path, metadata)


def as_strided_parts(path: Path) -> None:
    turned = {key: tensor.t().contiguous().t() for key, tensor in STATE.items()}
    dcp.save(turned, storage_writer=dcp.FileSystemWriter(path), no_dist=True)


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(
    "form",
    [
        as_zip, as_deflated_zip, as_legacy, as_safetensors, as_shards, as_distributed, as_many_parts, as_strided_parts,
    ],
)  # fmt: skip
def test_threads_that_share_a_checkpoint_read_right_values(
    form: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "model"
    form(path)

    def read(seed: int) -> list[str]:
        keys = list(STATE)
        random.Random(seed).shuffle(keys)
        return [key for key in keys * 2 if not torch.equal(checkpoint[key], STATE[key])]

    with ckptkit.open(path) as checkpoint, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(16))) == [[]] * 16
