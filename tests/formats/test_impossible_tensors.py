"""Tensors and values that a pickle can describe and torch cannot hold are refused when the file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckptkit
from ckptkit.errors import FormatError

from .handmade import call, mapping, name, number, storage, tensor, torch_file

EIGHT = bytes(16)
PLAIN = mapping({})
QUANTISED = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("size", [4, 0])
@pytest.mark.parametrize("wrapped", [False, True])
def test_numbers_without_their_quantiser_are_refused_as_quantised(
    tmp_path: Path, kind: str, size: int, wrapped: bool
) -> None:
    """G4, G18: as plain tensors they end the process when they are used."""
    odd = tensor((size,), (1,), 0, storage(kind, "1", 16 // QUANTISED[kind]))
    if wrapped:
        odd = call("torch._utils", "_rebuild_parameter", odd, b"\x89", b"N")
    path = torch_file(tmp_path / "q.pt", mapping({"w": tensor(), "odd": odd}), {"0": EIGHT, "1": EIGHT})
    with pytest.raises(FormatError, match="'odd' is quantised, of dtype q"):
        ckptkit.open(path)


@pytest.mark.parametrize("dtype", ["qint8", "quint8", "qint32", "quint4x2", "quint2x4"])
def test_an_untyped_storage_seen_as_quantised_numbers_is_refused(tmp_path: Path, dtype: str) -> None:
    """G4, G18."""
    odd = tensor((2,), (1,), 0, storage("UntypedStorage", "1", 16), name("torch", dtype), version="v3")
    path = torch_file(tmp_path / "q.pt", mapping({"w": tensor(), "odd": odd}), {"0": EIGHT, "1": EIGHT})
    with pytest.raises(FormatError, match=f"'odd' is quantised, of dtype {dtype}"):
        ckptkit.open(path)
    beside = mapping({"state_dict": mapping({"w": tensor()}), "odd": odd})
    path = torch_file(tmp_path / "b.pt", beside, {"0": EIGHT, "1": EIGHT})
    written = ckptkit.save(path, tmp_path / "o.pt")
    assert written.left_out == ("odd (a quantised tensor)",)
