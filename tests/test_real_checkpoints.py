"""Files that other people made: what we read, rename and write equals what torch and safetensors read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import ckptkit

from .strategies import content
from real_models import import_transformers, packaged_checkpoints

FILES = packaged_checkpoints()


def reference(path: Path) -> dict[str, torch.Tensor]:
    """The weights as the format's own library reads them."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return loaded.get("model_state", loaded)


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_is_read_bit_for_bit(name: str) -> None:
    with ckptkit.open(FILES[name]) as checkpoint:
        assert content(checkpoint) == content(reference(FILES[name]))
        assert list(checkpoint.signature.tensors) == list(checkpoint)


@pytest.mark.parametrize("target", ["out.safetensors", "out.pt", "folder"])
@pytest.mark.parametrize("name", ["minilm", "lpips", "resemblyzer"])
def test_a_real_file_renamed_equals_the_same_renames_in_memory(
    name: str, target: str, tmp_path: Path
) -> None:
    rules = [
        {"op": "add_prefix", "prefix": "model."},
        {"op": "rename", "pattern": r"\.weight$", "replacement": ".kernel", "required": False},
    ]
    ckptkit.save(ckptkit.remap(FILES[name], rules), tmp_path / target)
    expected = {
        "model." + (k.removesuffix(".weight") + ".kernel" if k.endswith(".weight") else k): v
        for k, v in reference(FILES[name]).items()
    }
    with ckptkit.open(tmp_path / target) as back:
        assert content(back) == content(expected)
    if target == "out.safetensors":
        assert content(safetensors.torch.load_file(tmp_path / target)) == content(expected)
    if target == "out.pt":
        loaded: Any = torch.load(tmp_path / target, weights_only=True)
        assert content(loaded.get("model_state", loaded)) == content(expected)


def test_what_surrounds_the_weights_of_a_real_training_file_survives(tmp_path: Path) -> None:
    ckptkit.save(
        ckptkit.remap(FILES["resemblyzer"], [{"op": "add_prefix", "prefix": "x."}]), tmp_path / "out.pt"
    )
    before = torch.load(FILES["resemblyzer"], map_location="cpu", weights_only=True)
    after = torch.load(tmp_path / "out.pt", weights_only=True)
    assert list(after) == list(before)
    assert after["step"] == before["step"]
    assert after["optimizer_state"]["param_groups"] == before["optimizer_state"]["param_groups"]
    for number, slots in before["optimizer_state"]["state"].items():
        for slot, value in slots.items():
            again = after["optimizer_state"]["state"][number][slot]
            assert torch.equal(again, value) if isinstance(value, torch.Tensor) else again == value


def test_a_model_folder_with_its_companions_still_loads_with_from_pretrained(tmp_path: Path) -> None:
    transformers = import_transformers()
    source = FILES["minilm"].parent
    rules = [{"op": "add_prefix", "prefix": "bert."}]
    there = tmp_path / "there"
    written = ckptkit.save(ckptkit.remap(ckptkit.open(source), rules), there, max_shard_size="20MB")
    assert len([f for f in written.files if f.tensors]) > 1
    assert written.left_out == ("1_Pooling/",)
    back = tmp_path / "back"
    ckptkit.save(ckptkit.remap(ckptkit.open(there), [{"op": "strip_prefix", "prefix": "bert."}]), back)
    one = transformers.AutoModel.from_pretrained(source, local_files_only=True)
    two = transformers.AutoModel.from_pretrained(back, local_files_only=True)
    assert content(one.state_dict()) == content(two.state_dict())
