"""Folders of shards with an index, and folders with one file."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.__main__ import main
from ckptkit.errors import FormatError
from ckptkit.formats.base import Item
from ckptkit.formats.sharded_write import split_into_shards
from ckptkit.signatures import TensorInfo

from ..strategies import content

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def folder(path: Path, weight_map: Any, shards: dict[str, list[str]]) -> Path:
    for name, keys in shards.items():
        safetensors.torch.save_file({key: torch.ones(2) for key in keys}, path / name)
    text = (
        weight_map if isinstance(weight_map, str) else json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    (path / INDEX).write_text(text)
    return path


def test_a_sharded_folder_is_one_checkpoint_in_the_order_of_its_index(tmp_path: Path) -> None:
    folder(tmp_path, {"b": TWO, "a": ONE}, {ONE: ["a"], TWO: ["b"]})
    for opened in (tmp_path, tmp_path / INDEX):
        with ckptkit.open(opened) as checkpoint:
            assert list(checkpoint) == ["b", "a"]
            assert checkpoint.source.format == "sharded safetensors"


def test_torch_shards_are_read_too(tmp_path: Path) -> None:
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, key in zip(names, "ab", strict=True):
        torch.save({key: torch.ones(2)}, tmp_path / name)
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {"total_size": 16}, "weight_map": dict(zip("ab", names, strict=True))})
    )
    with ckptkit.open(tmp_path) as checkpoint:
        assert content(checkpoint) == content({"a": torch.ones(2), "b": torch.ones(2)})
        assert checkpoint.source.format == "sharded torch zip"


BROKEN = {
    "missing_shard": ({"a": ONE, "b": TWO}, {ONE: ["a"]}, f"1 of 2 shards is missing: '{TWO}'"),
    "key_not_in_shard": (
        {"a": ONE, "b": TWO},
        {ONE: ["a"], TWO: ["c"]},
        "'b' is not in the shard that the index names",
    ),
    "key_not_in_index": (
        {"a": ONE, "b": TWO},
        {ONE: ["a"], TWO: ["b", "c"]},
        "which the index does not list",
    ),
    "key_in_two_shards": (
        {"a": ONE, "b": TWO},
        {ONE: ["a", "b"], TWO: ["b"]},
        "which of them counts is not known",
    ),
    "fewer_than_named": ({"a": ONE}, {ONE: ["a"]}, "call themselves 2, and the index lists 1"),
    "parent_folder": ({"a": "../x.safetensors"}, {}, "no plain file name on every system"),
    "absolute": ({"a": "/x.safetensors"}, {}, "no plain file name on every system"),
    "backslash": ({"a": "x\\y.safetensors"}, {}, "no plain file name on every system"),
    "windows_device": ({"a": "con.safetensors"}, {}, "no file name on Windows"),
    "accents": (
        {"a": "\u00e9.bin", "b": "e\u0301.bin"},
        {},
        r"the shards 'e\u0301.bin' and '\xe9.bin' differ in case only, or in how accents are spelled",
    ),
    "number": ({"a": 3}, {}, "is no text"),
    "script": ({"a": "x.py"}, {}, "no suffix of a checkpoint file"),
    "case": ({"a": "X.bin", "b": "x.bin"}, {}, "differ in case only"),
    "twice": ('{"weight_map": {"a": "x.bin", "a": "y.bin"}}', {}, "stands twice"),
    "no_map": ("{}", {}, "an index needs a weight_map"),
    "no_json": ("{", {}, "no valid JSON: Expecting property name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_index_is_one_error_that_says_why(name: str, tmp_path: Path) -> None:
    weight_map, shards, words = BROKEN[name]
    with pytest.raises(FormatError) as caught:
        ckptkit.open(folder(tmp_path, weight_map, shards))
    assert words in caught.value.message


DEVICES = [
    "CON",
    "nul",
    "Com1",
    "LPT9",
    "COM0",
    "COM\xb9",
    "lpt\xb3",
    "CONIN$",
    "conout$",
    "con ",
    " con",
    "aux .x",
]


@pytest.mark.parametrize("stem", [*DEVICES, "a ", "a.", "a. "])
def test_a_shard_has_no_name_that_is_another_file_on_windows(stem: str, tmp_path: Path) -> None:
    """G15: devices, by whatever spelling, and what Windows would cut off."""
    with pytest.raises(FormatError, match="which is no file name on Windows"):
        ckptkit.open(folder(tmp_path, {"a": f"{stem}.safetensors"}, {f"{stem}.safetensors": ["a"]}))


@pytest.mark.parametrize(
    "char", ["\u202e", "\u200b", "\ufeff", "\u2066", "\x7f", "\x85", "\xa0", "\u2028", "\t"]
)
def test_a_shard_has_no_name_that_shows_as_another_one(char: str, tmp_path: Path) -> None:
    """G15"""
    name = f"a{char}b.safetensors"
    with pytest.raises(FormatError, match="may look like another name") as caught:
        ckptkit.open(folder(tmp_path, {"a": name}, {name: ["a"]}))
    assert char not in str(caught.value)


@pytest.mark.parametrize(
    "stem", ["console", "com10", "a con", "nul-1", "\u00e9t\u00e9", "\u6a21\u578b", "conin", "\U0001f917"]
)
def test_a_shard_may_have_any_name_that_is_plain(stem: str, tmp_path: Path) -> None:
    """G15"""
    name = f"{stem}.safetensors"
    assert list(ckptkit.open(folder(tmp_path, {"a": name}, {name: ["a"]}))) == ["a"]


def test_a_folder_with_several_checkpoints_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save({"w": torch.ones(1)}, tmp_path / name)
    with pytest.raises(
        FormatError, match=r"holds 2 checkpoints \('a.pt', 'b.pt'\) and no index; name one of them"
    ):
        ckptkit.open(tmp_path)
    os.unlink(tmp_path / "b.pt")
    assert list(ckptkit.open(tmp_path)) == ["w"]
    os.unlink(tmp_path / "a.pt")
    with pytest.raises(FormatError, match="holds no checkpoint"):
        ckptkit.open(tmp_path)


@given(sizes=st.lists(st.integers(0, 30), max_size=30), limit=st.integers(1, 40))
def test_shards_are_a_pure_function_of_sizes_and_none_is_needlessly_small(
    sizes: list[int], limit: int
) -> None:
    items = [Item(str(i), TensorInfo((size,), "uint8")) for i, size in enumerate(sizes)]
    shards = split_into_shards(items, limit)
    assert [item for shard in shards for item in shard] == items
    for one, two in pairwise(shards):
        assert sum(i.info.nbytes for i in one) <= limit or len(one) == 1
        assert sum(i.info.nbytes for i in one) + two[0].info.nbytes > limit


def test_overwriting_a_folder_leaves_no_stale_shard(tmp_path: Path) -> None:
    state = {str(i): torch.full((100,), float(i)) for i in range(4)}
    ckptkit.save(state, tmp_path / "m", max_shard_size=400)
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    written = ckptkit.save(state, tmp_path / "m", overwrite=True)
    assert sorted(os.listdir(tmp_path / "m")) == ["model.safetensors", "tokenizer.json"]
    assert written.notes == ("kept from the folder that was replaced: tokenizer.json",)


def test_writing_into_the_folder_of_the_source_is_refused(tmp_path: Path) -> None:
    ckptkit.save({"a": torch.ones(2)}, tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    with ckptkit.open(tmp_path / "m") as checkpoint:
        for target in ("m", "m/", "m/model.safetensors"):
            with pytest.raises(ckptkit.UsageError, match="choose another target, or --in-place"):
                ckptkit.save(
                    checkpoint, str(tmp_path / target) + ("/" if target.endswith("/") else ""), overwrite=True
                )
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before


def test_files_behind_links_come_along_as_files(tmp_path: Path) -> None:
    """Downloaded models are folders of relative links, which would lead nowhere from another place."""
    blobs, model = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir()
    model.mkdir()
    (blobs / "1").write_text("{}")
    (model / "config.json").symlink_to("../blobs/1")
    ckptkit.save({"a": torch.ones(1)}, model / "model.safetensors")
    (tmp_path / "far").mkdir()
    ckptkit.save(ckptkit.open(model), tmp_path / "far" / "out")
    assert not (tmp_path / "far" / "out" / "config.json").is_symlink()
    assert (tmp_path / "far" / "out" / "config.json").read_text() == "{}"


def test_checkpoints_that_were_passed_over_are_named(tmp_path: Path) -> None:
    folder(tmp_path, {"a": ONE, "b": TWO}, {ONE: ["a"], TWO: ["b"]})
    torch.save({"z": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    source = ckptkit.open(tmp_path).source
    assert source.notes == (f"{INDEX} was taken; the folder also holds 'pytorch_model.bin'",)
    os.unlink(tmp_path / "pytorch_model.bin")
    assert ckptkit.open(tmp_path).source.notes == ()


def test_a_folder_is_never_taken_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(".")
    with pytest.raises(FormatError, match="the folder holds no checkpoint"):
        ckptkit.open(tmp_path)
    (tmp_path / "x.safetensors").mkdir()
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors" / "model.safetensors")
    with pytest.raises(FormatError, match=r"the shard 'x.safetensors' is a directory"):
        ckptkit.open(folder(tmp_path, {"a": "x.safetensors"}, {}))


@given(
    names=st.sets(
        st.sampled_from(
            [
                "config.json",
                "adapter.safetensors",
                "training_args.bin",
                "optimizer.pt",
                "notes.txt",
                "OLD.safetensors",
            ]
        )
    )
)
def test_no_file_of_a_replaced_folder_goes_without_a_word(
    names: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("replaced") / "out"
    ckptkit.save({"a": torch.ones(1)}, out)
    for name in names:
        (out / name).write_bytes(b"x")
    written = ckptkit.save({"b": torch.ones(1)}, out, overwrite=True)
    assert list(ckptkit.open(out)) == ["b"]
    told = {name for note in written.notes for name in note.partition(": ")[2].split(", ")}
    assert told >= names
    assert {p.name for p in out.iterdir()} <= {"model.safetensors", *names}


def test_ties_that_an_index_names_are_keys_and_go_through_a_rename_in_place(tmp_path: Path) -> None:
    """huggingface_hub records them in the index's metadata, and in no shard."""
    place = tmp_path / "hub"
    embed, norm = torch.ones(4, 2), torch.zeros(2)
    place.mkdir()
    safetensors.torch.save_file(
        {"embed.weight": embed}, place / "model-00001-of-00002.safetensors", metadata={"format": "pt"}
    )
    safetensors.torch.save_file(
        {"norm.weight": norm}, place / "model-00002-of-00002.safetensors", metadata={"format": "pt"}
    )
    index = {
        "metadata": {"total_size": 40, "head.weight": "embed.weight", "author": "norm.weight"},
        "weight_map": {f"{name}.weight": f"model-0000{n}-of-00002.safetensors" for n, name in ((1, "embed"), (2, "norm"))},
    }  # fmt: skip
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    for prefix in ("", "m."):
        with ckptkit.open(place) as opened:
            assert opened.signature.tied == ((f"{prefix}embed.weight", f"{prefix}head.weight"),)
            assert set(opened) == {f"{prefix}{name}.weight" for name in ("embed", "head", "norm")}
            assert torch.equal(opened[f"{prefix}head.weight"], embed)
            assert torch.equal(opened.get_slice(f"{prefix}head.weight")[1:], embed[1:])
        assert ckptkit.verify(place).ok
        assert main(["remap", str(place), "--in-place", "--add-prefix", "m."]) == 0
