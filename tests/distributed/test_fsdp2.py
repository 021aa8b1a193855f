"""Models that FSDP2 has sharded over two processes load from one file, each rank reading its part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from distributed.ranks import WIDE, WORLD, Net

TESTS = Path(__file__).parent.parent
DEADLINE = 240  # seconds; two ranks that wait for each other for ever must end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file({f"m.{key}": value for key, value in Net().state_dict().items()}, tmp_path / "net.safetensors")
    return tmp_path


def run(case: str, folder: Path) -> list[dict[str, Any]]:
    """The results of both ranks."""
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "distributed.ranks", case, str(folder), str(rank)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    try:
        errors = [rank.communicate(timeout=DEADLINE)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * WORLD, "\n".join(errors)
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(WORLD)]


def test_a_sharded_model_gets_what_the_unsharded_one_gets(folder: Path) -> None:
    for result in run("equal", folder):
        assert result == {"same": True, "output": True, "sharded": 11, "loaded": 14}


def test_a_sharded_meta_model_is_filled_by_assignment(folder: Path) -> None:
    for result in run("assigned", folder):
        assert result == {"same": True, "sharded": 11, "meta": []}


def test_a_load_that_is_refused_changes_no_rank(folder: Path) -> None:
    for result in run("refused", folder):
        assert result == {"error": "IncompatibleKeysError", "same": True}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through /proc")
def test_a_rank_takes_its_shard_and_one_tensor_of_memory(folder: Path) -> None:
    layers = {f"layers.{i}.weight": torch.full((WIDE, WIDE), float(i + 1)) for i in range(6)}
    save_file(layers, folder / "large.safetensors")
    tensor = WIDE * WIDE * 4
    for result in run("memory", folder):
        assert result["right"]
        assert result["shard"] == 6 * tensor // WORLD
        assert result["taken"] <= result["shard"] + tensor + (20 << 20)
