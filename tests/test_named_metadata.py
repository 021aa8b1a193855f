"""String metadata that names keys: carried through renames by its scheme, else called stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import ckptkit

Named = dict[str, Any]


def flattened(model: Named, older: bool) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A model of plain tensors and of quantised ones (dicts of parts), laid out as torchao does."""
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for name, value in model.items():
        module, _, last = name.rpartition(".")
        if isinstance(value, torch.Tensor):
            tensors[f"{name}:_data" if older else name] = value
            metadata[name] = json.dumps({"_type": "Tensor"})
            continue
        for part, tensor in value.items():
            tensors[f"{name}:{part}" if older else f"{module}._{last}_{part}"] = tensor
        told: Named = {"_type": "Float8Tensor", "_data": {"block_size": [1, 2]}}
        metadata[name] = json.dumps(told if older else {**told, "_tensor_data_names": list(value)})
    metadata["tensor_names"] = json.dumps(list(model))
    return {key: value.clone() for key, value in tensors.items()}, metadata


def as_torchao_reads(path: Path, older: bool) -> tuple[Named, set[str]]:
    """What torchao's reader makes of a file: the tensors by name, and the keys that belong to none."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    model: Named = {}
    left = set(tensors)
    for name in json.loads(metadata["tensor_names"]):
        told = json.loads(metadata[name])
        module, last = name.rsplit(".", 1)
        prefix = f"{name}:" if older else f"{module}._{last}_"
        parts = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        if told["_type"] == "Tensor":
            key = f"{name}:_data" if older else name
            if key in tensors:
                model[name] = tensors[key]
                left.discard(key)
        elif older or len(parts) == len(told["_tensor_data_names"]):
            model[name] = parts
            left -= {prefix + part for part in parts}
    return model, left


def same(one: Named, other: Named) -> bool:
    if list(one) != list(other):
        return False
    pairs = [(one[key], other[key]) for key in one]
    return all(same(a, b) if isinstance(a, dict) else torch.equal(a, b) for a, b in pairs)


_MODULES = ["a", "b.0", "b.1", "layers.0.mlp", "head"]


@st.composite
def models(draw: st.DrawFn) -> Named:
    model: Named = {}
    for number, module in enumerate(draw(st.lists(st.sampled_from(_MODULES), min_size=1, unique=True))):
        value = torch.full((2, 2), float(number))
        parts = {"qdata": value.to(torch.int8), "scale": value[0], "zero_point_": value[:1]}
        model[f"{module}.weight"] = parts if draw(st.booleans()) else value
        if draw(st.booleans()):
            model[f"{module}.bias"] = value[0]
    return model


RENAMES: list[tuple[list[dict[str, Any]], Any]] = [
    ([{"op": "add_prefix", "prefix": "model."}], lambda name: f"model.{name}"),
    ([{"op": "rename", "pattern": r"^b\.", "replacement": "blocks.", "required": False}],
     lambda name: f"blocks.{name[2:]}" if name.startswith("b.") else name),
    ([{"op": "rename", "pairs": [[r"^b\.0", "b.1"], [r"^b\.1", "b.0"]], "required": False}],
     lambda name: {"b.0": "b.1", "b.1": "b.0"}.get(name[:3], name[:3]) + name[3:]),
    ([{"op": "rename", "pattern": r"(?<=[._])weight(?=_|:|$)", "replacement": "kernel"}],
     lambda name: name.replace("weight", "kernel")),
    ([{"op": "drop", "keys": ["a.*"], "required": False}], lambda name: None if name.startswith("a.") else name),
    ([], lambda name: name),
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(model=models(), rename=st.sampled_from(RENAMES), older=st.booleans(), folder=st.booleans())
def test_torchao_reads_back_after_a_rename_what_it_wrote_under_the_new_names(
    tmp_path_factory: pytest.TempPathFactory, model: Named, rename: Any, older: bool, folder: bool
) -> None:
    rules, new_name = rename
    expected = {new_name(name): value for name, value in model.items() if new_name(name) is not None}
    tmp_path = tmp_path_factory.mktemp("torchao")
    tensors, metadata = flattened(model, older)
    save_file(tensors, tmp_path / "a.safetensors", metadata={**metadata, "format": "pt"})
    if not expected:
        return
    target = tmp_path / ("out" if folder else "b.safetensors")
    written = ckptkit.save(ckptkit.remap(tmp_path / "a.safetensors", rules), target)
    read, left = as_torchao_reads(target / "model.safetensors" if folder else target, older)
    assert not left
    assert same({name: read[name] for name in expected}, expected)
    assert len(read) == len(expected)
    assert not any("stale" in note or "lost" in note for note in written.notes)


def test_metadata_goes_back_to_what_it_was_with_the_inverse_of_a_plan(tmp_path: Path) -> None:
    tensors, metadata = flattened({"a.weight": {"qdata": torch.ones(2), "scale": torch.ones(1)}}, False)
    save_file(tensors, tmp_path / "a.safetensors", metadata={**metadata, "format": "pt"})
    plan = ckptkit.plan(tmp_path / "a.safetensors", [{"op": "add_prefix", "prefix": "m."}])
    ckptkit.save(ckptkit.remap(tmp_path / "a.safetensors", plan), tmp_path / "b.safetensors")
    ckptkit.save(ckptkit.remap(tmp_path / "b.safetensors", plan.invert()), tmp_path / "c.safetensors")
    assert dict(ckptkit.open(tmp_path / "c.safetensors").metadata) == {**metadata, "format": "pt"}


def test_parts_of_a_quantised_tensor_that_are_taken_apart_are_said_to_be_lost(tmp_path: Path) -> None:
    tensors, metadata = flattened({"a.weight": {"qdata": torch.ones(2), "scale": torch.ones(1)}}, False)
    save_file(tensors, tmp_path / "a.safetensors", metadata=metadata)
    rules = [{"op": "rename", "pattern": "^a._weight_scale$", "replacement": "b._weight_scale"}]
    written = ckptkit.save(ckptkit.remap(tmp_path / "a.safetensors", rules), tmp_path / "b.safetensors")
    assert "torchao's metadata lost a.weight" in " ".join(written.notes)
    assert json.loads(ckptkit.open(tmp_path / "b.safetensors").metadata["tensor_names"]) == []


def test_the_slices_that_torch_wrote_keep_their_places_under_new_names(tmp_path: Path) -> None:
    told = {"a.w": {"saved_offsets": [0, 0]}, "b.w": {"saved_offsets": [0, 0]}, "c.w": {"saved_offsets": [0]}}
    state = {"a.w": torch.ones(2, 3), "b.w": torch.ones(2, 3), "c.w": torch.ones(4)}
    save_file(state, tmp_path / "a.safetensors", metadata={"DCP_SHARDING_INFO": json.dumps(told)})
    rules = [
        {"op": "add_prefix", "prefix": "m."},
        {"op": "concat", "patterns": [r"m\.a\.w", r"m\.b\.w"], "into": "m.ab"},
        {"op": "cast", "dtype": "float16", "keys": ["m.c.w"]},
    ]
    written = ckptkit.save(ckptkit.remap(tmp_path / "a.safetensors", rules), tmp_path / "out")
    metadata = ckptkit.open(tmp_path / "out").metadata
    assert json.loads(metadata["DCP_SHARDING_INFO"]) == {
        "m.ab": {"saved_offsets": [0, 0]},
        "m.c.w": {"saved_offsets": [0]},
    }
    assert not any("DCP" in note for note in written.notes)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("a.w", "quantised"),
        ("note", "a.w"),
        ("config", '{"a.w": {"bits": 4}}'),
        ("config", '{"modules": ["b", {"deep": ["a.w"]}]}'),
    ],
)
def test_other_metadata_that_names_a_renamed_or_dropped_key_is_kept_and_called_stale(
    entry: str, value: str, tmp_path: Path
) -> None:
    source = tmp_path / "a.safetensors"
    save_file({"a.w": torch.ones(2), "b.w": torch.ones(3)}, source, metadata={entry: value})
    for rules in ([{"op": "rename", "pattern": "^a", "replacement": "c"}], [{"op": "drop", "keys": ["a.w"]}]):
        target = tmp_path / f"{len(rules[0])}.safetensors"
        written = ckptkit.save(ckptkit.remap(source, rules), target)
        words = " ".join(written.notes)
        assert (
            f"metadata '{entry}' is kept as it is and is stale: it names a.w, which the plan renames" in words
        )
        with safetensors.safe_open(target, "pt") as file:
            assert file.metadata()[entry] == value
    written = ckptkit.save(
        ckptkit.remap(source, [{"op": "rename", "pattern": "^b", "replacement": "c"}]),
        tmp_path / "b.safetensors",
    )
    assert not any("stale" in note for note in written.notes)
    to_torch = ckptkit.save(ckptkit.remap(source, [{"op": "add_prefix", "prefix": "x."}]), tmp_path / "b.pt")
    assert not any("stale" in note for note in to_torch.notes)
    assert f"metadata {entry!r}" in to_torch.left_out


def test_shards_of_which_each_names_its_own_keys_are_one_in_the_file_they_become(tmp_path: Path) -> None:
    weight_map = {}
    for number, name in enumerate(("a.weight", "b.weight"), 1):
        tensors, metadata = flattened({name: {"qdata": torch.ones(2), "scale": torch.ones(1)}}, False)
        metadata["DCP_SHARDING_INFO"] = json.dumps({key: {"saved_offsets": [0]} for key in tensors})
        metadata["author"] = f"rank {number}"
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file(tensors, tmp_path / shard, metadata=metadata)
        weight_map |= dict.fromkeys(tensors, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with ckptkit.open(tmp_path) as opened:
        assert any("'author'" in note and "the first counts" in note for note in opened.source.notes)
        ckptkit.save(opened, tmp_path / "one.safetensors")
    read, left = as_torchao_reads(tmp_path / "one.safetensors", False)
    assert (list(read), left) == (["a.weight", "b.weight"], set())
    with safetensors.safe_open(tmp_path / "one.safetensors", "pt") as file:
        assert set(json.loads(file.metadata()["DCP_SHARDING_INFO"])) == set(weight_map)
