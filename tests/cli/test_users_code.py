"""The user's model code may print, stop or fail in any way; the command answers as promised."""

from __future__ import annotations

import pytest

from .conftest import Shell

NETS = """
import os
from torch import nn

class Base(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

def loud():
    os.write(1, b"raw words\\n")
    print("words")
    return Base()

class Hooked(Base):
    def _load_from_state_dict(self, *rest):
        print("hook words", flush=True)
        super()._load_from_state_dict(*rest)

class Stop(BaseException):
    pass

def stop():
    raise Stop("enough")

class Mute(Exception):
    def __str__(self):
        raise ValueError

def mute():
    raise Mute

def __getattr__(name):
    if name == "strange":
        raise ImportError("not here")
    raise AttributeError(name)
"""


@pytest.fixture
def users(shell: Shell) -> Shell:
    import torch

    (shell.folder / "nets.py").write_text(NETS)
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, shell.folder / "l.pt")
    return shell


@pytest.mark.parametrize("factory", ["loud", "Hooked"])
def test_what_the_users_code_prints_is_not_in_the_document(users: Shell, factory: str) -> None:
    ran = users.process("check", "l.pt", "--model", f"nets:{factory}", "--json")
    assert ran.code == 0
    assert ran.document["ok"] is True
    assert "words" in ran.err


FAILING = [
    ("stop", "calling it failed: Stop: enough"),
    ("mute", "calling it failed: Mute:"),
    ("strange", "ImportError: not here"),
]


@pytest.mark.parametrize(("factory", "words"), FAILING)
def test_however_the_users_code_fails_it_is_one_line_and_exit_2(
    users: Shell, factory: str, words: str
) -> None:
    ran = users.process("check", "l.pt", "--model", f"nets:{factory}")
    assert ran.code == 2
    assert words in ran.err.splitlines()[-1]
    assert "a defect of ckptkit" not in ran.err
