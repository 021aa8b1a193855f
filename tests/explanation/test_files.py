"""A file that is no checkpoint gets the same cause from a command as its error gets from explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ckptkit.__main__ import main


def _cut(path: Path) -> None:
    torch.save({"w": torch.zeros(100_000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _optimizer(path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), path)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pointer.safetensors": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10\n"),
        "file_not_checkpoint",
    ),
    "page.bin": (lambda p: p.write_text("<!DOCTYPE html><html></html>"), "file_not_checkpoint"),
    "model.gguf": (lambda p: p.write_bytes(b"GGUF" + bytes(100)), "file_not_checkpoint"),
    "model.onnx": (lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(100)), "file_not_checkpoint"),
    "cut.pt": (_cut, "file_corrupt"),
    "header.safetensors": (lambda p: p.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"), "file_corrupt"),
    "object.pt": (lambda p: torch.save(Path("x"), p), "pickle_code"),
    "optimizer.pt": (_optimizer, "wrong_object"),
}


@pytest.mark.parametrize("command", ["inspect", "check"])
@pytest.mark.parametrize("name", FILES)
def test_commands_call_a_bad_file_what_it_is(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, cause = FILES[name]
    make(tmp_path / name)
    more = ["--like", str(tmp_path / name)] if command == "check" else []
    assert main([command, str(tmp_path / name), *more, "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert [finding["cause"] for finding in document["findings"]] == [cause], document["message"]
