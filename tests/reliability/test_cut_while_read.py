"""Files that somebody cuts while a command looks at their values: an error that names the file, and no signal."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ckptkit
from ckptkit.cli.app import run as main

State = dict[str, torch.Tensor]


def by_dcp(state: State, path: Path) -> None:
    from torch.distributed.checkpoint import save

    save(dict(state), checkpoint_id=str(path))


SAVERS: dict[str, Callable[[State, Path], Any]] = {
    "one.safetensors": ckptkit.save,
    "shards": lambda state, path: ckptkit.save(state, path, max_shard_size=2_000_000),
    "zip.pt": torch.save,
    "legacy.pt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "dcp": by_dcp,
}
RULES = {
    "cast": ["--cast", "float64"],
    "transpose": ["--config", "transpose.yaml"],
    "resize": ["--config", "resize.yaml"],
}
LOOKS = {
    "stats": ["inspect", "{}", "--stats", "--json"],
    "finite": ["verify", "{}", "--finite", "--hash", "--json"],
    "diff": ["diff", "{}", "other.safetensors", "--values", "--json"],
    **{f"{rule} to {out}": ["remap", "{}", out, *args] for rule, args in RULES.items() for out in ("o.safetensors", "o.pt")},
}  # fmt: skip


def numbers() -> State:
    """Large enough to be read in several steps: contiguous, transposed, and two looks into one storage."""
    base = torch.arange(600_000.0)
    return {
        "plain": torch.ones(700, 1000),
        "turned": torch.ones(1000, 300).t(),
        "half": base[:300_000],
        "rest": base,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ckptkit.save({key: value + 1 for key, value in numbers().items()}, "other.safetensors")
    Path("transpose.yaml").write_text("rules: [{op: transpose, keys: [plain, turned], dims: [0, 1]}]")
    Path("resize.yaml").write_text("rules: [{op: resize, keys: [rest], shape: [50000], method: crop}]")
    return tmp_path


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", SAVERS)
def test_commands_that_look_at_values_map_no_file(
    name: str, look: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """G4, SECURITY.md: what is mapped ends the process when it is cut, so commands read."""
    SAVERS[name](numbers(), folder / name)
    mapped: list[object] = []

    class Watched(mmap.mmap):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            mapped.append(args)
            return super().__new__(cls, *args, **kwargs)

    monkeypatch.setattr(mmap, "mmap", Watched)
    assert main([part.format(name) for part in LOOKS[look]]) == (1 if look == "diff" else 0), (
        capsys.readouterr()
    )
    assert not mapped
    float(ckptkit.open(folder / "other.safetensors")["plain"].sum())
    assert mapped  # what is handed out is


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", SAVERS)
def test_a_file_that_is_cut_while_its_values_are_looked_at_is_an_error(
    name: str, look: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """G4, G26: exit 2 and no output when a file loses its end after the first values were read."""
    SAVERS[name](numbers(), folder / name)
    files = [
        path
        for path in (folder / name, *folder.glob(f"{name}/*"))
        if path.is_file() and path.suffix != ".json"
    ]
    real = torch.frombuffer

    def cut_then_look(*args: Any, **kwargs: Any) -> torch.Tensor:
        for path in files:
            os.truncate(path, 2000)
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "frombuffer", cut_then_look)
    monkeypatch.delattr(mmap, "mmap")  # else a mistake would end the whole run of tests
    assert main([part.format(name) for part in LOOKS[look]]) == 2
    said = capsys.readouterr()
    assert name in said.err + said.out
    assert (
        "cut while it was read" in said.err + said.out or "changed while it was open" in said.err + said.out
    )
    assert sorted(set(os.listdir(folder)) - {name}) == ["other.safetensors", "resize.yaml", "transpose.yaml"]
