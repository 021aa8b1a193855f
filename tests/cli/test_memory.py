"""Memory that cannot be had is the machine's limit, not a defect of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.__main__ import main

WORDS = {
    "cpu": ("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 16000000000 bytes. Error code 12 (Cannot allocate memory)", "16000000000 bytes"),
    "gpu": ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB", "2.00 GiB"),
}  # fmt: skip


@pytest.mark.parametrize("where", WORDS)
def test_memory_that_torch_cannot_get_is_named_as_that(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """G3: one error that says what is missing, and how much torch asked for."""
    words, asked = WORDS[where]

    def run(arguments: object) -> int:
        raise RuntimeError(words)

    monkeypatch.setattr("ckptkit.cli.inspect.run", run)
    ckptkit.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 2
    assert capsys.readouterr().err == (
        "error: there is not enough memory for this; nothing unfinished was left behind "
        f"(torch asked for {asked})\n"
    )


def test_what_torch_really_says_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """G3."""

    def run(arguments: object) -> int:
        return len(torch.empty(1 << 60, dtype=torch.uint8))

    monkeypatch.setattr("ckptkit.cli.inspect.run", run)
    ckptkit.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 2
    assert "there is not enough memory for this" in capsys.readouterr().err
