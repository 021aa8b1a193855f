"""Tensors and values that a pickle can describe and torch cannot hold are refused when the file is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.dtypes import DTYPES
from ckptkit.errors import FormatError
from ckptkit.formats.pickled import DeviceNode
from ckptkit.formats.torch_source import TorchSource

from .handmade import call, mapping, name, number, ordered, several, storage, tensor, text, torch_file

EIGHT = bytes(16)
NEGATED = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"}
QUANTISED = {
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}


def named_only(path: Path | str, words: str) -> None:
    """The key `odd` can be seen, renamed and dropped; everything that would look at it says what it is."""
    path = Path(path)
    with ckptkit.open(path) as checkpoint:
        assert checkpoint.signature["odd"].kind == "object" and checkpoint["w"].shape == (4,)
        for use in (lambda: checkpoint["odd"], lambda: ckptkit.save(checkpoint, path.parent / "no.pt")):
            with pytest.raises(FormatError, match=words):
                use()
        assert not (path.parent / "no.pt").exists()
        kept = ckptkit.remap(checkpoint, [{"op": "rename", "pattern": "odd", "replacement": "o"}])
        with pytest.raises(ckptkit.CkptkitError, match="drop it"):
            ckptkit.save(kept, path.parent / "no.safetensors")
        ckptkit.save(ckptkit.remap(checkpoint, [{"op": "drop", "keys": ["odd"]}]), path.parent / "yes.pt")
    assert list(ckptkit.open(path.parent / "yes.pt")) == ["w"]


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
    named_only(path, "'odd' is quantised, of dtype q")


@pytest.mark.parametrize("dtype", ["qint8", "quint8", "qint32", "quint4x2", "quint2x4"])
def test_an_untyped_storage_seen_as_quantised_numbers_is_refused(tmp_path: Path, dtype: str) -> None:
    """G4, G18."""
    odd = tensor((2,), (1,), 0, storage("UntypedStorage", "1", 16), name("torch", dtype), version="v3")
    path = torch_file(tmp_path / "q.pt", mapping({"w": tensor(), "odd": odd}), {"0": EIGHT, "1": EIGHT})
    named_only(path, f"'odd' is quantised, of dtype {dtype}")
    beside = mapping({"state_dict": mapping({"w": tensor()}), "odd": odd})
    path = torch_file(tmp_path / "b.pt", beside, {"0": EIGHT, "1": EIGHT})
    written = ckptkit.save(path, tmp_path / "o.pt")
    assert written.left_out == ("odd (a quantised tensor)",)


@pytest.mark.parametrize("bits", [{"conj": b"\x89"}, {"neg": b"\x89"}, {"conj": b"\x88", "neg": b"\x89"}])
@pytest.mark.parametrize("kind", ["FloatStorage", "ComplexFloatStorage"])
def test_a_lazy_bit_that_is_false_is_refused_since_torch_sets_it(
    tmp_path: Path, bits: dict[str, bytes], kind: str
) -> None:
    odd = tensor((1,), (1,), 0, storage(kind, "1", 1), mapping(bits))
    path = torch_file(tmp_path / "q.pt", mapping({"odd": odd}), {"1": bytes(4 if kind[0] == "F" else 8)})
    with pytest.raises(FormatError, match="is False, which torch reads as True"):
        ckptkit.open(path)


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


@pytest.mark.parametrize("shape", [(2**61, 2**61, 0), (0, 2**61, 2**61), (2**62, 0), (2**32, 0, 2**32)])
def test_a_shape_on_which_torch_overflows_is_refused_also_without_elements(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """G3, G8."""
    odd = mapping({"w": tensor(), "odd": tensor(shape, (1,) * len(shape))})
    with pytest.raises(FormatError, match="'odd': it has too many elements"):
        ckptkit.open(torch_file(tmp_path / "q.pt", odd))


def device(*parts: str | int) -> bytes:
    return call("torch", "device", *(text(p) if isinstance(p, str) else number(p) for p in parts))


BAD_DEVICES = [device(""), device("cuda:1:2"), device("cuda", -5), device("cuda:1", 1), device("CPU"),
               device("cuda:128"), device("cuda:01"), device("cuda:"), device("cuda", 2**70)]  # fmt: skip


@pytest.mark.parametrize("value", BAD_DEVICES)
@pytest.mark.parametrize("place", ["root", "beside", "metadata"])
def test_a_device_that_is_none_is_refused_when_the_file_is_opened(
    tmp_path: Path, value: bytes, place: str
) -> None:
    """G3: torch would refuse it, in its own words, when the value is looked at."""
    tree = {
        "root": mapping({"w": tensor(), "odd": value}),
        "beside": mapping({"state_dict": mapping({"w": tensor()}), "odd": value}),
        "metadata": ordered({"w": tensor()}, {"_metadata": mapping({"": value})}),
    }
    with pytest.raises(FormatError, match="is no device"):
        ckptkit.open(torch_file(tmp_path / "q.pt", tree[place]))


def test_a_device_of_somebody_elses_torch_is_kept_beside_the_root_and_refused_inside(tmp_path: Path) -> None:
    """G3: accelerators of others register names that only their torch knows."""
    inside = mapping({"w": tensor(), "odd": device("npu:0")})
    named_only(torch_file(tmp_path / "q.pt", inside), "'odd' is a value that contains the device 'npu:0'")
    beside = torch_file(
        tmp_path / "b.pt", mapping({"state_dict": mapping({"w": tensor()}), "on": device("npu:0")})
    )
    ckptkit.save(beside, tmp_path / "o.pt")
    source = ckptkit.open(tmp_path / "o.pt").source
    assert isinstance(source, TorchSource)
    assert source.tree["on"] == DeviceNode("npu:0")


@pytest.mark.parametrize("size", [2**63, 2**70])
def test_a_size_that_torch_cannot_count_is_refused(tmp_path: Path, size: int) -> None:
    """G3."""
    value = call("torch", "Size", several(number(size)))
    with pytest.raises(FormatError, match="torch.Size: the size holds an integer of"):
        ckptkit.open(torch_file(tmp_path / "q.pt", mapping({"w": tensor(), "odd": value})))


def test_constants_of_torch_in_keys_and_sets_are_those_of_torch(tmp_path: Path) -> None:
    """G19."""
    value = {
        "in": {torch.float32, "a"},
        (torch.int8, 1): torch.Size([2]),
        torch.device("cpu"): (torch.strided,),
    }
    path = torch_file(tmp_path / "c.pt", b"N")
    torch.save({"w": torch.ones(1), "odd": value}, path)
    assert ckptkit.open(path)["odd"] == value
    ckptkit.save(path, tmp_path / "o.pt")
    assert ckptkit.open(tmp_path / "o.pt")["odd"] == value


@pytest.mark.parametrize("shape", [(0, 2**61, 2**61), (2**63, 0)])
def test_a_shape_that_only_safetensors_can_hold_is_not_written_for_torch(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """G26: what is written is read again."""
    header = json.dumps({"k": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "f.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    ckptkit.save(path, tmp_path / "o.safetensors")
    with pytest.raises(ckptkit.WriteError, match=r"torch cannot hold the shape \[.*\] of 'k'"):
        ckptkit.save(path, tmp_path / "o.pt")
