"""What torch files say beside values (parameters, module versions, surroundings) in shards as in single files."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.formats import shard_pool

VERSIONED = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))


@pytest.fixture(params=[100, 1], ids=["all open", "one open"], autouse=True)
def _most_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_pool, "most_open", lambda: request.param)


def shard(values: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    state: dict[str, Any] = OrderedDict(values)
    if metadata is not None:
        vars(state)["_metadata"] = OrderedDict(metadata)
    return state


def sharded(folder: Path, *shards: dict[str, Any], root: str = "") -> Path:
    names = [f"pytorch_model-{n:05d}-of-{len(shards):05d}.bin" for n in range(1, len(shards) + 1)]
    weight_map = {}
    for state, name in zip(shards, names, strict=True):
        torch.save(state, folder / name)
        weight_map |= dict.fromkeys(state[root] if root else state, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def halves(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    keys = list(state)
    return tuple({key: state[key] for key in part} for part in (keys[:3], keys[3:]))  # type: ignore[return-value]


def described(state: dict[str, Any]) -> dict[str, Any]:
    return {key: (type(value), value.requires_grad, value.tolist()) for key, value in state.items()}


def test_parameters_of_shards_stay_parameters_in_a_torch_file(tmp_path: Path) -> None:
    """G18"""
    state = VERSIONED.state_dict(keep_vars=True)
    state["frozen"] = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    state["trained"] = torch.ones(2, requires_grad=True)
    model = sharded(tmp_path, *halves(state))
    written = ckptkit.save(model, tmp_path / "out.pt")
    back = torch.load(tmp_path / "out.pt", weights_only=True)
    assert described(back) == described(state) and written.left_out == ()


def test_lazily_conjugated_parameters_stay_parameters(tmp_path: Path) -> None:
    """G18: in a single file as in shards."""
    state = {
        key: torch.nn.Parameter(torch.tensor([1 + 2j, 3]).conj(), requires_grad=key == "a") for key in "ab"
    }
    model = sharded(tmp_path, {"a": state["a"]}, {"b": state["b"]})
    torch.save(state, tmp_path / "single.pt")
    for source in (model, tmp_path / "single.pt"):
        ckptkit.save(source, tmp_path / "out.pt", overwrite=True)
        assert described(torch.load(tmp_path / "out.pt", weights_only=True)) == described(state)


@pytest.mark.parametrize("split", ["whole in each", "a part in each", "in one only"])
def test_module_versions_of_shards_are_kept_and_renamed(split: str, tmp_path: Path) -> None:
    state = VERSIONED.state_dict()
    metadata: dict[str, Any] = dict(state._metadata)  # type: ignore[attr-defined]
    first, second = {
        "whole in each": (metadata, metadata),
        "a part in each": ({"": metadata[""], "0": metadata["0"]}, {"": metadata[""], "1": metadata["1"]}),
        "in one only": (metadata, None),
    }[split]
    one, two = halves(state)
    model = sharded(tmp_path, shard(one, first), shard(two, second))
    with ckptkit.open(model) as checkpoint:
        assert checkpoint.source.state_metadata == metadata
        assert checkpoint.source.notes == ()
        written = ckptkit.save(checkpoint, tmp_path / "out.pt")
        left = ckptkit.save(checkpoint, tmp_path / "out.safetensors").left_out
    assert torch.load(tmp_path / "out.pt", weights_only=True)._metadata == metadata
    assert written.left_out == () and left == ("_metadata (module versions)",)
    config = ckptkit.RemapConfig(rules=[{"op": "add_prefix", "prefix": "net."}])
    ckptkit.save(ckptkit.remap(model, config), tmp_path / "renamed.pt")
    renamed = torch.load(tmp_path / "renamed.pt", weights_only=True)._metadata
    assert {path: renamed[path] for path in ("net.0", "net.1")} == {
        "net.0": metadata["0"],
        "net.1": metadata["1"],
    }


def test_module_versions_that_contradict_one_another_are_named_and_not_kept(tmp_path: Path) -> None:
    model = sharded(
        tmp_path,
        shard({"a.w": torch.ones(1)}, {"": {"version": 1}, "a": {"version": 1}, "b": {"version": 1}}),
        shard({"b.w": torch.ones(1)}, {"": {"version": 1}, "a": {"version": 2}, "c": {}}),
    )
    with ckptkit.open(model) as checkpoint:
        assert checkpoint.source.notes == (
            "entries of _metadata that are not kept, since the shards say different things: 'a'",
        )
        assert checkpoint.source.state_metadata == {"": {"version": 1}, "b": {"version": 1}, "c": {}}


def test_shards_without_module_versions_have_none(tmp_path: Path) -> None:
    model = sharded(tmp_path, {"a": torch.ones(1)}, {"b": torch.ones(1)})
    ckptkit.save(model, tmp_path / "out.pt")
    assert ckptkit.open(model).source.state_metadata is None
    assert not hasattr(torch.load(tmp_path / "out.pt", weights_only=True), "_metadata")


@pytest.mark.parametrize("version", [1, 2])
def test_module_versions_of_shards_say_how_they_are_loaded(version: int, tmp_path: Path) -> None:
    """A norm of version 1 had no counter of batches; one of version 2 has lost it."""
    state = {key: value for key, value in VERSIONED.state_dict().items() if "num_batches" not in key}
    metadata = {module: {"version": version} for module in ("", "0", "1")}
    one, two = halves(state)
    model = sharded(tmp_path, shard(one, metadata), shard(two, metadata))
    target = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    if version == 1:
        ckptkit.load(target, model)
    else:
        with pytest.raises(ckptkit.CkptkitError, match=r"1.num_batches_tracked"):
            ckptkit.load(target, model)


@pytest.mark.parametrize("target", ["out.pt", "out.safetensors"])
def test_what_surrounds_the_weights_in_shards_is_named_as_left_out(target: str, tmp_path: Path) -> None:
    model = sharded(
        tmp_path,
        {"state_dict": {"a": torch.ones(1)}, "epoch": 3},
        {"state_dict": {"b": torch.ones(1)}, "epoch": 3, "step": 7},
        root="state_dict",
    )
    assert ckptkit.save(model, tmp_path / target).left_out == ("epoch", "step")
    assert ckptkit.open(model).source.surroundings == ("epoch", "step")
