"""Nothing is written that could not be read again: the reader is asked before the first byte."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.cli.config_out import write_config
from ckptkit.config import RemapConfig
from ckptkit.errors import CkptkitError, PlanError, WriteError
from ckptkit.execute import write_source
from ckptkit.formats import index
from ckptkit.formats.pickled import state as pickled_state
from ckptkit.plan_file import load_plan, save_plan

ONE, TWO = torch.ones(1), torch.ones(1)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("shape", "name", "words"),
    [
        ([1] * 1025, "out.pt", "'a' has 1025 dimensions, more than 1024"),
        ([1 << 62, 0], "out.pt", "torch cannot hold the shape"),
        ([0, 1 << 40, 1 << 40], "out.pt", "torch cannot hold the shape"),
        ([1 << 63, 0], "out.json", "the shape of 'a' is no list of sizes"),
    ],
)
def test_shapes_that_only_one_format_can_have_are_refused_for_the_others(
    shape: list[int], name: str, words: str, tmp_path: Path
) -> None:
    """G26"""
    size = int(0 not in shape)
    header = json.dumps({"a": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}).encode()
    source = tmp_path / "in.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + b"1" * size)
    with (
        ckptkit.open(source) as checkpoint,
        pytest.raises(WriteError) as caught,
    ):
        write_source(checkpoint.source, tmp_path / name)
    assert words in caught.value.message
    assert os.listdir(tmp_path) == ["in.safetensors"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"w": ONE, "v": ONE, "x": nested(99)}, "nested more than 100 deep"),
        ({"w": ONE, "v": ONE, "x": [[] for _ in range(10_000)]}, "too many lists, dictionaries and calls"),
        ({"w": ONE, "x\ud800": ONE}, "lone surrogate"),
        ({"w": ONE, "x": 1, "y\ud800": ONE}, "lone surrogate"),
    ],
)
def test_values_and_keys_beyond_the_bounds_of_the_reader_are_refused(
    state: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G26"""
    monkeypatch.setattr(pickled_state, "MIN_CONTAINERS", 1000)
    with pytest.raises(CkptkitError, match=words):
        ckptkit.save(state, tmp_path / "out.pt")
    assert os.listdir(tmp_path) == []


def test_values_within_the_bounds_are_read_again(tmp_path: Path) -> None:
    """G26: the bounds are those of the reader and no tighter."""
    state = {"w": ONE, "v": ONE, "u": TWO, "x": nested(98), "y": [[] for _ in range(10_000)]}
    written = ckptkit.save(state, tmp_path / "out.pt")
    assert written.notes == ()
    assert dict(ckptkit.signature(tmp_path / "out.pt").tensors) == dict(ckptkit.signature(state).tensors)


@pytest.mark.parametrize("state", [{"w": ONE, "x": {"a": ONE, "b": ONE}}, {"x": 5}])
def test_a_file_whose_weights_would_be_looked_for_elsewhere_says_its_root(
    state: dict[str, Any], tmp_path: Path
) -> None:
    """G26: the file holds what was asked for, and only with a word about its root is it found."""
    (note,) = ckptkit.save(state, tmp_path / "out.pt").notes
    assert note.startswith("opened without a root, ")
    assert note.endswith("; the root is 'none'")
    assert list(ckptkit.open(tmp_path / "out.pt", root="none").signature) == list(state)


def test_an_index_that_would_be_refused_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G26"""
    monkeypatch.setattr(index, "MAX_INDEX", 100)
    with pytest.raises(CkptkitError, match="JSON of 156 bytes; 100 are the most"):
        ckptkit.save({"a": ONE, "b": TWO}, tmp_path / "out", max_shard_size=4)
    assert os.listdir(tmp_path) == []


def test_rules_upon_rules_beyond_what_a_plan_can_hold_are_refused(tmp_path: Path) -> None:
    """G26, G3: what was planned can be kept with --save-plan, and carrying it out does not exhaust the stack."""
    rule = {"op": "transpose", "keys": ["a"], "dims": [0, 1]}
    state = {"a": torch.ones(2, 2)}
    save_plan(ckptkit.plan(state, RemapConfig(rules=[rule] * 200)), tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").signature["a"].shape == (2, 2)
    for count in (201, 2000):
        with pytest.raises(PlanError, match="'a' would be made by more than 200 operations"):
            ckptkit.plan(state, RemapConfig(rules=[rule] * count))


def test_rules_that_no_config_can_hold_are_not_written(tmp_path: Path) -> None:
    """G26"""
    pairs = [[f"^{'k' * 200}{i}$", "x"] for i in range(5000)]
    config = {"version": 1, "rules": [{"op": "rename", "pairs": pairs}]}
    with pytest.raises(WriteError, match=r"the rules take \d+ bytes, and a config may have 1000000"):
        write_config(str(tmp_path / "rules.yaml"), config, overwrite=False)
    assert os.listdir(tmp_path) == []
