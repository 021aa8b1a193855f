"""Several processes at one name: each reader sees one whole output, whoever wrote it, and nothing is left: G20, G23."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ckptkit

from .corpus import TESTS

WRITER = """
import sys, torch, ckptkit
target, number, rounds, overwrite = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "yes"
state = {f"k{i}": torch.full((50,), number) for i in range(20)}
for turn in range(rounds):
    try:
        ckptkit.save(state, target, overwrite=overwrite, max_shard_size="1kB" if target.endswith("/") else None)
    except ckptkit.WriteError as error:
        print(error)
        sys.exit(2)
"""
TARGETS = ["out.safetensors", "out.pt", "out/"]


def writers(target: str, count: int, rounds: int, overwrite: str) -> list[subprocess.Popen[str]]:
    paths = [str(TESTS.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, target, str(number + 1), str(rounds), overwrite],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_sees_one_whole_output_while_two_processes_replace_it(name: str, tmp_path: Path) -> None:
    target = f"{tmp_path}/{name}"
    ckptkit.save(
        {f"k{i}": torch.zeros(50) for i in range(20)}, target, max_shard_size="1kB" if "/" in name else None
    )
    processes = writers(target, 2, 20, "yes")
    seen: set[float] = set()
    reads = refused = 0
    while any(process.poll() is None for process in processes):
        try:
            with ckptkit.open(target) as checkpoint:
                values = {float(value) for tensor in checkpoint.values() for value in tensor}
                assert len(checkpoint) == 20
        except ckptkit.FormatError as error:
            assert "changed while it was opened" in str(error), error  # noqa: PT017 - one of two right outcomes
            refused += 1
            continue
        assert len(values) == 1, values
        seen |= values
        reads += 1
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
    assert reads > 5 and refused <= reads
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]


@pytest.mark.parametrize("name", TARGETS)
def test_of_several_that_may_not_overwrite_one_wins(name: str, tmp_path: Path) -> None:
    processes = writers(f"{tmp_path}/{name}", 3, 1, "no")
    outcomes = [(process.communicate()[0], process.returncode) for process in processes]
    assert sorted(code for _, code in outcomes) == [0, 2, 2], outcomes
    assert all("exists already" in words for words, code in outcomes if code)
    assert [path.name for path in tmp_path.iterdir()] == [name.rstrip("/")]
    with ckptkit.open(tmp_path / name) as checkpoint:
        (value,) = {float(v) for tensor in checkpoint.values() for v in tensor}
    assert outcomes[int(value) - 1][1] == 0


def test_a_source_that_shrinks_under_a_reader_is_an_error_and_no_signal(tmp_path: Path) -> None:
    script = """
import os, sys, torch, ckptkit
path = sys.argv[1]
ckptkit.save({f"k{i}": torch.ones(100_000) for i in range(4)}, path)
with ckptkit.open(path) as checkpoint:
    print(float(checkpoint["k0"].sum()))
    os.truncate(path, 5000)
    for key in ("k3", "k0"):
        try:
            checkpoint[key].sum()
        except ckptkit.FormatError as error:
            print(str(error).partition(": ")[2])
"""
    for name in ("a.safetensors", "a.pt"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / name)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent / "src")},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("100000.0\n")
        assert done.stdout.count("it changed while it was open") == 2


def test_what_was_opened_stays_whole_when_its_name_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ckptkit.save({"k": torch.ones(3)}, path)
    with ckptkit.open(path) as checkpoint:
        ckptkit.save({"k": torch.zeros(3)}, path, overwrite=True)
        assert checkpoint["k"].sum() == 3
    with ckptkit.open(path) as checkpoint:
        assert checkpoint["k"].sum() == 0
