"""Every command that writes, on a disk that is full, has no room for a name, is read-only, or under a quota: G20 to G26."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit

from .corpus import TESTS

FAULTS = {
    "quota": "File too large",
    "full": "No space left on device",
    "inodes": "No space left on device",
    "readonly": "Read-only file system",
}
# What is written: the target, and the command that writes it.
WRITES: dict[str, tuple[str, list[str]]] = {
    "safetensors": ("out.safetensors", ["remap", "in.safetensors", "{}", "--rename", "^old", "new"]),
    "torch": ("out.pt", ["remap", "in.safetensors", "{}", "--rename", "^old", "new"]),
    "from torch": ("out.safetensors", ["convert", "in.pt", "{}"]),
    "a cast": ("out.safetensors", ["remap", "in.safetensors", "{}", "--cast", "float16"]),
    "shards": ("out/", ["convert", "in.safetensors", "{}", "--max-shard-size", "50KB"]),
    "a signature": ("out.json", ["convert", "in.safetensors", "{}"]),
    "rules": ("recipe.yaml", ["infer", "in.safetensors", "in.pt", "-o", "{}"]),
    "a fix": ("fix.yaml", ["explain", "error.txt", "-o", "{}"]),
    "a page": ("page.html", ["inspect", "in.safetensors", "--html", "{}"]),
    "a difference": ("page.html", ["diff", "in.safetensors", "in.pt", "--html", "{}"]),
}
ERROR = """RuntimeError: Error(s) in loading state_dict for Net:
\tMissing key(s) in state_dict: "fc.weight", "fc.bias".
\tUnexpected key(s) in state_dict: "module.fc.weight", "module.fc.bias".
"""


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs."""
    folder = tmp_path_factory.mktemp("seed")
    state = {f"old.{i}": torch.full((100, 100), float(i)) for i in range(5)}
    ckptkit.save(state, folder / "in.safetensors")
    torch.save({f"new{key[3:]}": tensor for key, tensor in state.items()}, folder / "in.pt")
    (folder / "error.txt").write_text(ERROR)
    return folder


def can_mount() -> bool:
    try:
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def fail(fault: str, seed: Path, tmp_path: Path, command: list[str]) -> dict[str, Any]:
    """Run a command on a disk with a fault."""
    if fault != "quota" and not can_mount():
        pytest.skip("no disk can be made here")
    (tmp_path / "disk").mkdir()
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [
            *(["unshare", "-rm"] if fault != "quota" else []),
            *(sys.executable, "-m", "reliability.disks", fault, str(tmp_path / "disk"), str(seed), "--"),
            *(sys.executable, "-m", "ckptkit", *command),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", WRITES)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    kind: str, fault: str, seed: Path, tmp_path: Path
) -> None:
    target, words = WRITES[kind]
    run = fail(fault, seed, tmp_path, [word.replace("{}", target) for word in words])
    assert run["code"] == 2, run
    (line,) = run["err"].splitlines()
    assert line.startswith("error: ") and target.rstrip("/") in line and FAULTS[fault] in line, line
    assert run["after"] == run["before"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["safetensors", "torch", "shards"])
def test_what_stood_there_before_stands_there_still(
    kind: str, fault: str, seed: Path, tmp_path: Path
) -> None:
    target, words = WRITES[kind]
    own = shutil.copytree(seed, tmp_path / "seed")
    ckptkit.save({"earlier": torch.ones(3)}, own / target if target != "out/" else f"{own / 'out'}{os.sep}")
    run = fail(fault, own, tmp_path, [*(word.replace("{}", target) for word in words), "--overwrite"])
    assert run["code"] == 2, run
    assert len(run["err"].splitlines()) == 1
    assert run["after"] == run["before"]
    assert any(name.startswith("out") for name in run["after"])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["in.safetensors", "in.pt"])
def test_in_place_it_is_the_old_file_or_the_new_one(
    name: str, fault: str, seed: Path, tmp_path: Path
) -> None:
    run = fail(
        fault, seed, tmp_path, ["remap", name, "--in-place", "--rename", "^(old|new)", "a.longer.name"]
    )
    others = {key: value for key, value in run["before"].items() if key != name}
    assert {key: value for key, value in run["after"].items() if key != name} == others
    assert (run["after"][name] != run["before"][name]) == (run["code"] == 0)
    assert run["code"] in (0, 2)
    if run["code"]:
        (line,) = run["err"].splitlines()
        assert line.startswith("error: ") and FAULTS[fault] in line
