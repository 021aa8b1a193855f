"""No output may stand in the place of what the command reads, whatever is allowed to be overwritten: G24."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

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
    "rules over a part": ["infer", "dcp/.metadata", "a.safetensors", "-o", "dcp/__0_0.distcp"],
    "a plan over a part": ["remap", "dcp/.metadata", "out.pt", "--save-plan", "dcp/__0_0.distcp"],
    "a plan over a shard of an index that is a link": [
        "remap", "linked/model.safetensors.index.json", "out.pt", "--save-plan", "linked/{shard}",
    ],
    "a plan over a shard of an index in capitals": [
        "remap", "dir/MODEL.INDEX.JSON", "out.pt", "--save-plan", "dir/{shard}",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_output_that_is_an_input_is_refused_and_nothing_changes(case: str, shell: Shell) -> None:
    state = {f"k{i}": torch.ones(100) for i in range(4)}
    ckptkit.save(state, shell.folder / "a.safetensors")
    ckptkit.save(state, shell.folder / "old.pt")
    ckptkit.save(state, f"{shell.folder / 'dir'}/", max_shard_size="1kB")
    dcp.save(state, storage_writer=dcp.FileSystemWriter(shell.folder / "dcp"), no_dist=True)
    shutil.copytree(shell.folder / "dir", shell.folder / "linked")
    index = shell.folder / "linked" / "model.safetensors.index.json"
    (shell.folder / "blobs").mkdir()
    index.rename(shell.folder / "blobs" / "4711")
    index.symlink_to("../blobs/4711")
    shutil.copy(shell.folder / "blobs" / "4711", shell.folder / "dir" / "MODEL.INDEX.JSON")
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


TWICE = {
    "target and plan": (
        ["remap", "a.safetensors", "x", "--save-plan", "x"], "x would be written twice, as DST and as --save-plan",
    ),
    "target and plan behind a dot": (
        ["remap", "a.safetensors", "x.pt", "--save-plan", "./x.pt"], "twice, as DST and as --save-plan",
    ),
    "plan and page": (
        ["remap", "a.safetensors", "o.pt", "--save-plan", "x", "--html", "x", "--dry-run"],
        "twice, as --save-plan and as --html",
    ),
    "rules and page": (["infer", "a.safetensors", "a.safetensors", "-o", "x", "--html", "x"], "twice, as -o and as --html"),
}  # fmt: skip


@pytest.mark.parametrize("case", TWICE)
def test_two_outputs_that_are_one_file_are_refused_before_anything_is_written(
    case: str, shell: Shell
) -> None:
    ckptkit.save({"a": torch.ones(3)}, shell.folder / "a.safetensors")
    before = contents(shell.folder)
    words, message = TWICE[case]
    ran = shell(*words)
    assert ran.code == 2 and message in ran.err and "give each a file of its own" in ran.err
    assert contents(shell.folder) == before


@pytest.mark.parametrize("target", [["--in-place"], ["out.safetensors"], ["folder/"]])
def test_where_the_plan_cannot_be_kept_nothing_is_written(target: list[str], shell: Shell) -> None:
    before = contents(shell.folder)
    ran = shell(
        "remap", "model.safetensors", *target, "--strip-prefix", "module.", "--save-plan", "missing/plan.json"
    )
    assert ran.code == 2 and "missing" in ran.err
    assert contents(shell.folder) == before and "written" not in ran.err


def test_a_plan_may_be_kept_in_the_folder_that_is_written(shell: Shell) -> None:
    ran = shell(
        "remap", "model.safetensors", "new/", "--strip-prefix", "module.", "--save-plan", "new/plan.json"
    )
    assert ran.code == 0, ran.err
    assert ckptkit.load_plan(shell.folder / "new" / "plan.json").outputs
    assert "embed.weight" in ckptkit.signature(shell.folder / "new")


@pytest.mark.parametrize("name", ["", "missing/", "there/"])
def test_a_name_that_is_no_file_is_refused(name: str, shell: Shell) -> None:
    (shell.folder / "there").mkdir()
    ran = shell("infer", "model.safetensors", "model.safetensors", "-o", name)
    assert ran.code == 2 and "names no file to write; give one" in ran.err
    assert shell("remap", "model.safetensors", "", "--strip-prefix", "module.").code == 2


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_replacing_the_folder_one_is_in_works_to_the_end_and_says_so(shell: Shell) -> None:
    """The old folder is gone then, and names without a folder would lead nowhere."""
    ckptkit.save({"old.a": torch.ones(1)}, shell.folder / "s.safetensors")
    here = shell.folder / "here"
    here.mkdir()
    (here / "notes.txt").write_text("mine")
    arguments = [
        "remap",
        "../s.safetensors",
        ".",
        "--overwrite",
        "--rename",
        "^old",
        "new",
        "--save-plan",
        "plan.json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ckptkit", *arguments],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(here)) == ["model.safetensors", "notes.txt", "plan.json"]
    notes = [line for line in done.stderr.splitlines() if "where you are, was replaced" in line]
    assert len(notes) == 1
