"""Model folders: which files are the checkpoint, which come along, and which go when a folder is replaced."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from ckptkit.execute import write
from ckptkit.files.claims import Claim
from ckptkit.formats.base import WriteOptions
from ckptkit.plans import make_plan

# Index, and shards whose names follow no pattern.
OWN_NAMES = [
    ("model.safetensors.index.json", ("part1.safetensors", "part2.safetensors")),
    ("model.safetensors.index.json", ("model-1-of-2.safetensors", "model-2-of-2.safetensors")),
    ("pytorch_model.bin.index.json", ("a.pt", "b.pt")),
    ("pytorch_model.bin.index.json", ("one.bin", "two.ckpt")),
    ("weights.index.json", ("a.pth", "b.pth")),
]
STATE = {"k0": torch.zeros(1000), "k1": torch.ones(1000)}
NEW = {
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
}
SMALL = WriteOptions(max_shard_size=4000, overwrite=True)


def sharded(folder: Path, index: str, names: tuple[str, ...], *beside: str) -> Path:
    """A folder with a tensor in each shard, and other files."""
    folder.mkdir(parents=True)
    for (key, tensor), name in zip(STATE.items(), names, strict=True):
        if name.endswith(".safetensors"):
            save_file({key: tensor}, folder / name)
        else:
            torch.save({key: tensor}, folder / name)
    weight_map = dict(zip(STATE, names, strict=True))
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for name in beside:
        (folder / name).write_text("{}")
    return folder


def renamed_in_place(folder: Path, options: WriteOptions = SMALL) -> tuple[str, ...]:
    with Claim(str(folder)) as claim, ckptkit.open(folder) as checkpoint:
        config = ckptkit.RemapConfig(rules=[{"op": "add_prefix", "prefix": "x."}])
        plan = make_plan(checkpoint.signature, config)
        notes = write(plan, checkpoint, folder, claim=claim, options=options).notes
    with ckptkit.open(folder) as checkpoint:
        assert set(checkpoint) == {f"x.{key}" for key in STATE}
    return notes


@pytest.mark.parametrize(("index", "names"), OWN_NAMES)
def test_shards_are_not_beside_the_weights_whatever_their_names(
    index: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    model = sharded(tmp_path / "m", index, names, "config.json", "optimizer.pt", "adapter.safetensors")
    for opened in (model, model / index):
        with ckptkit.open(opened) as checkpoint:
            beside = [os.path.basename(path) for path in checkpoint.source.companions]
        assert beside == ["adapter.safetensors", "config.json", "optimizer.pt"]
    written = ckptkit.save(model / index, tmp_path / "out")
    assert written.notes == ("came along: adapter.safetensors, config.json, optimizer.pt",)
    assert set(os.listdir(tmp_path / "out")) == {
        "model.safetensors",
        "adapter.safetensors",
        "config.json",
        "optimizer.pt",
    }


@pytest.mark.parametrize("beside", [(), ("config.json", "optimizer.pt", "adapter.safetensors")])
@pytest.mark.parametrize(("index", "names"), OWN_NAMES)
def test_in_place_no_shard_of_the_source_is_left(
    index: str, names: tuple[str, ...], beside: tuple[str, ...], tmp_path: Path
) -> None:
    """G23"""
    model = sharded(tmp_path / "m", index, names, *beside)
    notes = renamed_in_place(model)
    assert set(os.listdir(model)) == {*NEW, *beside}
    assert not any(name in note for note in notes for name in (*names, index))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors", "other.bin"])
def test_the_only_file_of_a_folder_is_not_beside_itself(name: str, tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.mkdir()
    ckptkit.save(STATE, model / name)
    (model / "config.json").write_text("{}")
    assert ckptkit.open(model).source.companions == (str(model / "config.json"),)
    ckptkit.save(model, tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == {"config.json", "model.safetensors"}
    renamed_in_place(model)
    assert set(os.listdir(model)) == {*NEW, "config.json"}


@pytest.mark.parametrize(("index", "names"), OWN_NAMES)
def test_no_shard_of_a_replaced_checkpoint_is_left_whatever_its_name(
    index: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    """G23: the index that goes says which files go with it; those that it does not name stay."""
    model = sharded(tmp_path / "m", index, names, "config.json", "optimizer.pt")
    written = ckptkit.save({"w": torch.ones(1)}, model, overwrite=True)
    assert set(os.listdir(model)) == {"model.safetensors", "config.json", "optimizer.pt"}
    assert written.notes == ("kept from the folder that was replaced: config.json, optimizer.pt",)


def test_an_index_that_cannot_be_read_says_nothing_of_other_files(tmp_path: Path) -> None:
    model = sharded(tmp_path / "m", "pytorch_model.bin.index.json", ("a.pt", "b.pt"))
    (model / "pytorch_model.bin.index.json").write_text('{"weight_map": {"k0": "../a.pt", "k1": "b.pt"}}')
    written = ckptkit.save({"w": torch.ones(1)}, model, overwrite=True)
    assert set(os.listdir(model)) == {"model.safetensors", "a.pt", "b.pt"}
    assert written.notes == ("kept from the folder that was replaced: a.pt, b.pt",)


def test_a_folder_with_the_name_of_a_shard_stays(tmp_path: Path) -> None:
    model = sharded(tmp_path / "m", "pytorch_model.bin.index.json", ("a.pt", "b.pt"))
    (model / "b.pt").unlink()
    (model / "b.pt").mkdir()
    (model / "b.pt" / "mine").write_text("x")
    ckptkit.save({"w": torch.ones(1)}, model, overwrite=True)
    assert set(os.listdir(model)) == {"model.safetensors", "b.pt"}
    assert (model / "b.pt" / "mine").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_what_replaces_shards_with_names_of_their_own_is_readable_by_nobody_else(tmp_path: Path) -> None:
    """G25"""
    model = sharded(tmp_path / "m", "pytorch_model.bin.index.json", ("a.pt", "b.pt"))
    for name in ("a.pt", "b.pt"):
        (model / name).chmod(0o600)
    renamed_in_place(model)
    for name in NEW:
        assert stat.S_IMODE((model / name).stat().st_mode) == 0o600, name
