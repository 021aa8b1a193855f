"""Sharded models over several processes load from one file: each rank reads its part, and all agree on the outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import ckptkit
from distributed.ranks import WIDE, Net, numbered

TESTS = Path(__file__).parent.parent
DEADLINE = 150  # seconds; ranks that wait for each other for ever must end
Results = list[dict[str, Any]]  # of each rank, by case


def write_files(folder: Path) -> None:
    torch.manual_seed(0)
    state = Net().state_dict()
    prefixed = {f"m.{key}": value for key, value in state.items()}
    save_file(prefixed, folder / "net.safetensors")
    save_file({k: v for k, v in prefixed.items() if k != "m.odd.bias"}, folder / "short.safetensors")
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    half["odd.a"], half["odd.b"] = half.pop("odd.weight").split([2, 3])
    torch.save({"state_dict": {k: v.clone() for k, v in half.items()}, "epoch": 1}, folder / "half.pt")
    layers = {f"layers.{i}.weight": torch.full((WIDE, WIDE), float(i + 1)) for i in range(6)}
    save_file(layers, folder / "large.safetensors")


def run(world: int, folder: Path) -> Results:
    """What each rank found, by case."""
    write_files(folder)
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    errors = [folder / f"errors-{rank}.txt" for rank in range(world)]
    command = [sys.executable, "-W", "ignore", "-m", "distributed.ranks", str(world)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(folder)], env=environment, stderr=errors[rank].open("w"))
        for rank in range(world)
    ]
    end = time.monotonic() + DEADLINE
    try:
        for rank in ranks:
            rank.wait(timeout=end - time.monotonic())
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(e.read_text() for e in errors)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("four")


@pytest.fixture(scope="module")
def four(place: Path) -> Results:
    return run(4, place)


def test_a_sharded_model_gets_what_the_unsharded_one_gets(two: Results) -> None:
    for result in two:
        assert result["equal"] == {"same": True, "output": True, "sharded": 11, "loaded": 14}


def test_a_sharded_meta_model_is_filled_by_assignment(two: Results) -> None:
    for result in two:
        assert result["assigned"] == {"same": True, "sharded": 11, "meta": []}


def test_an_assigned_model_trains_as_the_unsharded_one_and_loads_again(two: Results) -> None:
    # Batch statistics are each rank's own, and both see the same batch.
    for result in two:
        assert result["trains"] == {"differ": [], "again": True}


def test_what_rules_compute_and_another_dtype_reach_the_shards(two: Results) -> None:
    for result in two:
        assert result["torch_file"] == {"same": True}


def test_a_load_that_is_refused_changes_no_rank(two: Results) -> None:
    for result in two:
        assert result["refused"]["error"] == "IncompatibleKeysError"
        assert result["refused"]["same"]


@pytest.mark.parametrize(
    "case,error",
    [
        ("one_lacks_a_key", "IncompatibleKeysError"),
        ("one_has_no_file", "FormatError"),
        ("one_refuses_the_data", "IncompatibleKeysError"),
    ],
)
def test_what_one_rank_cannot_load_no_rank_loads(two: Results, case: str, error: str) -> None:
    for result in two:
        assert result[case]["error"] == error
        assert result[case]["same"]
    assert "rank 1" in two[0][case]["words"]  # where to look
    assert "rank 1" not in two[1][case]["words"]


def test_a_rank_that_is_interrupted_leaves_all_ranks_old_or_all_new(two: Results) -> None:
    outcomes = [result["interrupted"]["outcomes"] for result in two]
    for (_, one, told), (_, other, error) in zip(*outcomes, strict=True):
        assert one == other
        assert one in (["old"], ["new"])
        assert error == "KeyboardInterrupt"
        assert told == ("IncompatibleKeysError" if one == ["old"] else "")
    assert {one[0] for _, one, _ in outcomes[0]} == {"old", "new"}


def test_every_placement_on_a_grid_gets_its_part(four: Results) -> None:
    for result in four:
        assert result["grids"] == {"wrong": []}


@pytest.mark.parametrize(
    "case,kinds",
    [("hybrid", ["Replicate", "Shard"]), ("tensor_parallel", ["Replicate", "Shard", "_StridedShard"])],
)
def test_two_dimensional_meshes_load_and_fail_together(four: Results, case: str, kinds: list[str]) -> None:
    for result in four:
        assert result[case]["same"]
        assert result[case]["kinds"] == kinds
        assert result[case]["failed"]["error"] == "IncompatibleKeysError"
        assert result[case]["failed"]["same"]
    for result in four[:3]:
        assert "rank 3" in result[case]["failed"]["words"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through /proc")
def test_a_rank_takes_its_shard_and_one_tensor_of_memory(two: Results) -> None:
    tensor = WIDE * WIDE * 4
    for result in two:
        memory = result["memory"]
        assert memory["right"]
        assert memory["shard"] == 6 * tensor // 2
        assert memory["shard"] <= memory["taken"] <= memory["shard"] + tensor + (20 << 20)


def test_what_four_ranks_saved_is_one_checkpoint(four: Results, place: Path) -> None:
    with ckptkit.open(place / "saved", root="tensors") as checkpoint:
        assert len(checkpoint) == 9 * len(numbered())
        for key, tensor in checkpoint.items():
            expected = numbered()[key.partition(".")[0]]
            assert tensor.dtype == expected.dtype and torch.equal(tensor, expected), key
    truth = torch.load(place / "truth.pt")
    with ckptkit.open(place / "saved", root="net") as checkpoint:
        assert checkpoint.keys() == truth.keys()
        assert all(torch.equal(tensor, truth[key]) for key, tensor in checkpoint.items())
        assert set(checkpoint.source.surroundings) == {"tensors", "step", "optimizer"}
    plain = Net()
    assert ckptkit.load(plain, place / "saved", {"root": "net"}).ok
    assert all(torch.equal(value, truth[key]) for key, value in plain.state_dict().items())
    report = ckptkit.verify(place / "saved", root="net", finite=True)
    assert report.ok and report.files == 5
