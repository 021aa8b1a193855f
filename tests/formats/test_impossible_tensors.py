"""Tensors and values that a pickle can describe and torch cannot hold are refused when the file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

import ckptkit
from ckptkit.dtypes import DTYPES
from ckptkit.errors import FormatError

from .handmade import call, mapping, name, storage, tensor, torch_file

EIGHT = bytes(16)
NEGATED = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"}
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


@pytest.mark.parametrize(
    ("bit", "kind"),
    [("conj", "FloatStorage"), ("conj", "LongStorage"), ("conj", "BoolStorage"), ("neg", "BoolStorage")],
)
def test_a_lazy_bit_that_torch_cannot_resolve_is_refused(tmp_path: Path, bit: str, kind: str) -> None:
    """G3, G4, G18: torch sets the bit, and fails when the values are looked at."""
    odd = tensor((2,), (1,), 0, storage(kind, "1", 2), mapping({bit: b"\x88"}))
    storages = {"0": EIGHT, "1": bytes(2 * {"B": 1, "F": 4, "L": 8}[kind[0]])}
    path = torch_file(tmp_path / "q.pt", mapping({"w": tensor(), "odd": odd}), storages)
    with pytest.raises(FormatError, match="lazily (conjugated|negated) tensor of"):
        ckptkit.open(path)


@pytest.mark.parametrize("dtype", [name for name, known in DTYPES.items() if known.torch])
@pytest.mark.parametrize("bit", ["conj", "neg"])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_a_lazy_tensor_of_any_dtype_has_values_or_is_refused(tmp_path: Path, dtype: str, bit: str) -> None:
    """G3, G4: whatever is opened can be looked at."""
    more = (name("torch", dtype), mapping({bit: b"\x88"}))
    odd = tensor((2,), (1,), 0, storage("UntypedStorage", "1", 32), *more, version="v3")
    path = torch_file(tmp_path / "q.pt", mapping({"odd": odd}), {"1": bytes(32)})
    if dtype.startswith("complex") or (bit == "neg" and dtype in NEGATED):
        opened = ckptkit.open(path)
        assert opened["odd"].resolve_conj().resolve_neg().shape == (2,)
        ckptkit.save(opened, tmp_path / "o.pt")
    else:
        with pytest.raises(FormatError, match=f"of {dtype}, which torch cannot resolve"):
            ckptkit.open(path)
