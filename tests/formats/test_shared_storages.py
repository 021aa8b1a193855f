"""Storages that several tensors look into: verified whatever is read of them, and unfolded about once."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ckptkit
from ckptkit.cli.app import run as main
from ckptkit.errors import FormatError
from ckptkit.formats.base import CHUNK
from ckptkit.formats.unfolding import Parts, Unfolding
from ckptkit.formats.zipfmt import Archive

from .handmade import mapping, storage, tensor, torch_file

COUNT = 2000
FORMS: dict[str, dict[str, Any]] = {
    "stored": {},
    "deflated": {"deflated": True},
    "big-endian": {"order": b"big"},
    "deflated big-endian": {"deflated": True, "order": b"big"},
}


def halves(path: Path, form: str, damage: int | None) -> str:
    """Two tensors that share a storage."""
    order = ">" if "big" in form else "<"
    data = struct.pack(f"{order}{COUNT}f", *range(COUNT))
    half = COUNT // 2
    tree = {
        "a": tensor((half,), (1,), 0, storage(numel=COUNT)),
        "b": tensor((half,), (1,), half, storage(numel=COUNT)),
        "t": tensor((2, half), (1, 2), 0, storage(numel=COUNT)),
    }
    return torch_file(path, mapping(tree), {"0": data}, damage=damage, **FORMS[form])


def commands(path: str, folder: Path) -> dict[str, list[str]]:
    out = str(folder / "o")
    return {
        "safetensors": ["convert", path, f"{out}.safetensors"],
        "torch": ["convert", path, f"{out}.pt"],
        "one": ["remap", path, f"{out}.safetensors", "--drop", "[at]"],
        "cast": ["remap", path, f"{out}.safetensors", "--drop", "[at]", "--cast", "float64"],
        "diff": ["diff", "--values", path, path],
        "hash": ["verify", "--hash", path],
        "finite": ["verify", "--finite", path],
        "stats": ["inspect", "--stats", path],
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", commands("", Path()))
def test_damage_is_found_by_every_command_that_reads_a_part(tmp_path: Path, form: str, command: str) -> None:
    """G11: also where the damaged byte is in nobody's part, and where no plain bytes lie in the file."""
    good = halves(tmp_path / "good.pt", form, None)
    assert main(commands(good, tmp_path)[command]) == 0
    bad = halves(tmp_path / "bad.pt", form, 100)
    (tmp_path / "bad").mkdir()
    assert main(commands(bad, tmp_path / "bad")[command]) in (
        (1, 2) if command in ("hash", "finite") else (2,)
    )
    assert not any((tmp_path / "bad").iterdir())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "look",
    [
        lambda source: source.tensor("b"),
        lambda source: source.loaded("b"),
        lambda source: list(source.read(source.view("b").storage, 4000, 4004)),
        lambda source: source.verify(["b"]),
        lambda source: source.check(source.view("b").storage),
    ],
)
def test_damage_is_found_by_every_way_to_a_part(
    tmp_path: Path, form: str, look: Callable[[Any], Any]
) -> None:
    """G11."""
    look(ckptkit.open(halves(tmp_path / "good.pt", form, None)).source)
    with pytest.raises(FormatError, match="is damaged: its bytes have CRC"):
        look(ckptkit.open(halves(tmp_path / "bad.pt", form, 100)).source)


@pytest.mark.parametrize("form", FORMS)
def test_parts_have_the_values_of_the_whole(tmp_path: Path, form: str) -> None:
    """G7."""
    opened = ckptkit.open(halves(tmp_path / "f.pt", form, None))
    for read in (opened.source.tensor, opened.source.loaded):
        for _ in range(2):
            assert read("b").tolist() == list(range(COUNT // 2, COUNT))
            assert read("t")[1].tolist() == list(range(1, COUNT + 1, 2))[: COUNT // 2]


@pytest.mark.parametrize("step", [1, 3])
def test_parts_of_deflated_entries_are_those_of_the_content_in_any_order(tmp_path: Path, step: int) -> None:
    """G7: from marks that are near together or far apart."""
    random.seed(1)
    data = random.randbytes(CHUNK // 2) * 15 + b"end"
    path = tmp_path / "f.pt"
    torch_file(path, mapping({}), {"0": data, "1": data[::-1]}, deflated=True)
    with path.open("rb") as file:
        archive = Archive(str(path), file.fileno())
        parts = Parts(archive, archive.entries.values())
        parts._step = step
        for number in range(60):
            reverse = number % 2
            content = data[::-1] if reverse else data
            start = random.randrange(len(data))
            stop = min(len(data), start + random.choice([0, 1, 5000, 2 * CHUNK]))
            entry = archive.entries[f"data/{reverse}"]
            assert b"".join(parts.read(entry, start, stop)) == content[start:stop]


def test_a_deflated_storage_is_not_unfolded_again_for_each_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: 300 tensors at the end of two storages, backwards and in turns."""
    chunks = 40
    numel = chunks * CHUNK // 4
    tree = {
        f"t{i}": tensor((2,), (1,), numel - 2 - i * 3000, storage(key=str(i % 2), numel=numel))
        for i in range(300)
    }
    path = torch_file(tmp_path / "f.pt", mapping(tree), dict.fromkeys("01", bytes(4 * numel)), deflated=True)
    taken = []
    take = Unfolding.take

    def counted(self: Unfolding, most: int) -> bytes:
        taken.append(most)
        return take(self, most)

    monkeypatch.setattr(Unfolding, "take", counted)
    ckptkit.save(path, tmp_path / "o.safetensors")
    assert sum(taken) < 8 * chunks * CHUNK
