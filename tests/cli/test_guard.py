"""No output may stand in the place of what the command reads, whatever is allowed to be overwritten: G24."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ckptkit

from .conftest import Shell

CASES = {
    "a plan over the source": ["remap", "a.safetensors", "out.pt", "--save-plan", "a.safetensors"],
    "a plan over a shard of the source": ["remap", "dir", "out.pt", "--save-plan", "dir/{shard}"],
    "a plan over a shard of an index": [
        "remap", "dir/model.safetensors.index.json", "out.pt", "--save-plan", "dir/{shard}",
    ],
    "a plan over the config": ["remap", "a.safetensors", "out.pt", "--config", "c.yaml", "--save-plan", "c.yaml"],
    "a plan over the old target": ["remap", "a.safetensors", "old.pt", "--save-plan", "old.pt"],
    "the target over the config": ["remap", "a.safetensors", "c.json", "--config", "c.json"],
    "the target over what it must fit": ["remap", "a.safetensors", "old.pt", "--like", "old.pt"],
    "a folder that holds what it must fit": ["remap", "a.safetensors", "dir/", "--like", "dir/{shard}"],
    "a fix over the text": ["explain", "error.txt", "-o", "error.txt"],
    "rules over a shard": ["infer", "dir", "a.safetensors", "-o", "dir/{shard}"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_output_that_is_an_input_is_refused_and_nothing_changes(case: str, shell: Shell) -> None:
    state = {f"k{i}": torch.ones(100) for i in range(4)}
    ckptkit.save(state, shell.folder / "a.safetensors")
    ckptkit.save(state, shell.folder / "old.pt")
    ckptkit.save(state, f"{shell.folder / 'dir'}/", max_shard_size="1kB")
    (shell.folder / "c.yaml").write_text("rules: []\n")
    (shell.folder / "c.json").write_text('{"rules": []}\n')
    (shell.folder / "error.txt").write_text(
        'Missing key(s) in state_dict: "a". Unexpected key(s) in state_dict: "module.a".'
    )
    shard = next(path.name for path in (shell.folder / "dir").iterdir() if path.suffix == ".safetensors")
    before = contents(shell.folder)
    ran = shell(*(word.replace("{shard}", shard) for word in CASES[case]), "--overwrite")
    assert ran.code == 2
    assert "which this command reads; choose another file to write" in ran.err
    assert contents(shell.folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
