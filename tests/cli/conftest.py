"""A small checkpoint in an empty folder, and a way to run commands as a user does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.__main__ import main


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Commands in a folder: called within this process, which is fast, or started as one of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *argv: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(argv))
        assert "a defect of ckptkit" not in err.getvalue(), err.getvalue()
        return Ran(code, out.getvalue(), err.getvalue())

    def process(self, *argv: str, env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "ckptkit", *argv],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(env or {})},
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def files(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir())


def state() -> dict[str, torch.Tensor]:
    tensors = {
        f"module.layers.{i}.attn.{n}.weight": torch.full((4, 4), float(i))
        for i in range(3)
        for n in ("q", "k")
    }
    embedding = torch.arange(20.0).reshape(5, 4)
    return {
        "module.embed.weight": embedding,
        **tensors,
        "module.step": torch.tensor(7),
        "module.head.weight": embedding,
    }


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    ckptkit.save(state(), tmp_path / "model.safetensors")
    torch.save({"state_dict": state(), "epoch": 3}, tmp_path / "run.pt")
    return Shell(tmp_path)
