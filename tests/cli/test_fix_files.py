"""``-o fix.yaml`` of explain and check: the fix as a config, and a next step that really repairs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckptkit

from .conftest import Shell

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)
"""


def state(classes: int, prefix: str = "") -> dict[str, torch.Tensor]:
    net = torch.nn.ModuleDict(
        {
            "body": torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 8)),
            "head": torch.nn.Linear(8, classes),
        }
    )
    return {prefix + key: value.detach().clone() for key, value in net.state_dict().items()}


@pytest.fixture
def nets(shell: Shell) -> Path:
    (shell.folder / "nets.py").write_text(NET)
    return shell.folder


def test_a_fix_for_names_is_carried_out_by_remap(shell: Shell, nets: Path) -> None:
    save_file(state(3, "module."), nets / "ddp.safetensors")
    ran = shell("check", "ddp.safetensors", "--model", "nets.py:Net", "-o", "fix.yaml")
    assert ran.code == 1
    step = re.search(r"wrote fix\.yaml; next: python -m ckptkit (.*)", ran.err)
    assert step is not None, ran.err
    assert shell(*step[1].replace("FIXED", "fixed.safetensors").split()).code == 0
    assert shell("check", "fixed.safetensors", "--model", "nets.py:Net").code == 0


def test_a_fix_for_shapes_is_shown_as_the_call_that_does_it(shell: Shell, nets: Path) -> None:
    save_file(state(5, "module."), nets / "five.safetensors")
    ran = shell("check", "five.safetensors", "--model", "nets.py:Net", "-o", "fix.json")
    assert ran.code == 1
    assert 'next: ckptkit.load(model, "five.safetensors", "fix.json")' in ran.err
    assert "remap" not in ran.err
    model = torch.nn.ModuleDict(
        {
            "body": torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 8)),
            "head": torch.nn.Linear(8, 3),
        }
    )
    assert ckptkit.load(model, nets / "five.safetensors", nets / "fix.json").ok
    wanted = ckptkit.open(nets / "five.safetensors")["module.body.0.weight"]
    assert torch.equal(model.state_dict()["body.0.weight"], wanted)


def test_an_explained_text_says_the_same(shell: Shell) -> None:
    text = (
        "size mismatch for head.weight: copying a param with shape torch.Size([5, 8]) from checkpoint, the shape in current "
        "model is torch.Size([3, 8])."
    )
    ran = shell("explain", text, "-o", "fix.yaml")
    assert 'next: ckptkit.load(model, "CHECKPOINT", "fix.yaml")' in ran.err


def test_nothing_is_written_where_there_is_nothing_to_repair(shell: Shell, nets: Path) -> None:
    save_file(state(3), nets / "fits.safetensors")
    ran = shell("check", "fits.safetensors", "--model", "nets.py:Net", "-o", "fix.yaml")
    assert (ran.code, (nets / "fix.yaml").exists()) == (0, False)
    assert "nothing was written" in ran.err


def test_an_input_is_never_written_over(shell: Shell, nets: Path) -> None:
    save_file(state(3, "module."), nets / "ddp.safetensors")
    (nets / "load.yaml").write_text("version: 1\n")
    arguments = ("check", "ddp.safetensors", "--model", "nets.py:Net", "--config", "load.yaml")
    ran = shell(*arguments, "-o", "load.yaml", "--overwrite")
    assert ran.code == 2
    assert (nets / "load.yaml").read_text() == "version: 1\n"
