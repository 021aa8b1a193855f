"""Writing torch files: torch reads them, values, ties, views and surroundings stay, bytes repeat."""

from __future__ import annotations

import argparse
import os
import struct
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import FormatError, WriteError
from ckptkit.formats.base import Buffer, Item, Source, WriteOptions, WriteRequest, Written
from ckptkit.formats.tensor_bytes import tensor_bytes
from ckptkit.formats.torch_legacy import open_torch_legacy
from ckptkit.formats.torch_write import write_torch_zip
from ckptkit.formats.torch_zip import open_torch_zip
from ckptkit.formats.zip_write import ZipWriter
from ckptkit.formats.zipfmt import Archive
from ckptkit.signatures import OBJECT, TensorInfo

DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.int64,
    torch.float4_e2m1fn_x2, torch.uint64, torch.uint16, torch.uint8, torch.bool, torch.complex32,
    torch.complex128,
]  # fmt: skip
OVER = WriteOptions(overwrite=True, fsync=False)


def items(source: Source, rename: dict[str, str] | None = None) -> list[Item]:
    """Every entry of a source as a writer gets it."""
    tie = {key: number for number, group in enumerate(source.signature.tied) for key in group}
    entries = []
    for key, info in source.signature.items():
        new = (rename or {}).get(key, key)
        if info.kind == "object":
            entries.append(Item(new, info, value=source.value(key)))
        else:
            flags = source.flags(key)
            view = source.view(key)
            entries.append(Item(new, info, source=source, view=view, tie=tie.get(key), flags=flags))
    return entries


def copy(path: Path, target: Path, *, around: bool = True, root: str = "auto", **rename: str) -> Written:
    source = open_torch_zip(str(path), root)
    request = WriteRequest(
        str(target), items(source, rename), state_metadata=source.state_metadata,
        around=source if around else None, options=OVER,
    )  # fmt: skip
    return write_torch_zip(request)


def equal(a: Any, b: Any) -> bool:
    """Deep equality: types, order, bits, strides, flags."""
    if isinstance(a, torch.Tensor):
        if (type(a), a.dtype, a.shape, a.stride()) != (type(b), b.dtype, b.shape, b.stride()):
            return False
        if (a.requires_grad, a.is_conj(), a.is_neg()) != (b.requires_grad, b.is_conj(), b.is_neg()):
            return False
        flat = [t.detach().resolve_conj().resolve_neg().contiguous().reshape(-1) for t in (a, b)]
        return a.numel() == 0 or torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        same_keys = list(a) == list(b) and getattr(a, "_metadata", None) == getattr(b, "_metadata", None)
        return same_keys and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@st.composite
def checkpoints(draw: st.DrawFn) -> dict[str, Any]:
    state: dict[str, Any] = OrderedDict() if draw(st.booleans()) else {}
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(DTYPES))
        raw = bytearray(os.urandom(24 * dtype.itemsize)) if dtype != torch.bool else bytearray(24)
        base = torch.frombuffer(raw, dtype=dtype)
        for view in range(draw(st.integers(1, 3))):
            start = draw(st.integers(0, 20))
            tensor = draw(
                st.sampled_from(
                    [base, base[start:], base[start : start + 2], base[:0], base.reshape(4, 6).t(), base[3]]
                )
            )
            state[f"{number}.{view}"] = torch.nn.Parameter(tensor, False) if draw(st.booleans()) else tensor
    if draw(st.booleans()):
        state["extra"] = {"a": [1, None, (2.5, "x")], "b": b"\x00\xff", "size": torch.Size([1, 2])}
    return state


@given(checkpoints(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_copy_is_read_by_torch_as_the_original(state: dict[str, Any], nested: bool) -> None:
    whole = {"epoch": 3, "model": state, "lr": [0.1, {"x": None}]} if nested else state
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(whole, folder / "a.pt")
        copy(folder / "a.pt", folder / "b.pt", root="model" if nested else "none")
        original = torch.load(folder / "a.pt", weights_only=True)
        for mapped in (False, True):
            back = torch.load(folder / "b.pt", weights_only=True, mmap=mapped)
            assert equal(back, original)
        source, again = (
            open_torch_zip(str(folder / f), "model" if nested else "none") for f in ("a.pt", "b.pt")
        )
        assert source.signature.tied == again.signature.tied
        first = (folder / "b.pt").read_bytes()
        copy(folder / "a.pt", folder / "b.pt", root="model" if nested else "none")
        assert (folder / "b.pt").read_bytes() == first


def test_storages_are_shared_where_views_overlap_and_nowhere_else(tmp_path: Path) -> None:
    base = torch.arange(100_000.0)
    torch.save({"a": base[:4], "b": base[2:6], "c": base[50:52], "d": base[:4]}, tmp_path / "a.pt")
    copy(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").stat().st_size < 4096
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    pointers = {k: v.untyped_storage().data_ptr() for k, v in back.items()}
    assert pointers["a"] == pointers["b"] == pointers["d"] != pointers["c"]
    assert back["c"].tolist() == [50.0, 51.0] and back["b"].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_what_is_not_kept_is_said(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    tensor.note = "x"  # type: ignore[attr-defined]
    torch.save({"w": tensor}, tmp_path / "a.pt")
    assert "'w' with note" in open_torch_zip(str(tmp_path / "a.pt"), "auto").notes[0]


def test_an_expanded_view_takes_one_element(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "a.pt")
    copy(tmp_path / "a.pt", tmp_path / "b.pt")
    back = torch.load(tmp_path / "b.pt", weights_only=True)["w"]
    assert back.shape == (1 << 20, 1 << 20) and back.stride() == (0, 0)
    assert (tmp_path / "b.pt").stat().st_size < 2048


def test_surroundings_stay_and_share_storages_with_the_root(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    whole = {"state_dict": state, "first": state["weight"], "optimizer": optimizer.state_dict(), "step": 7}
    torch.save(whole, tmp_path / "a.pt")
    written = copy(tmp_path / "a.pt", tmp_path / "b.pt", weight="encoder.weight")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert written.left_out == () and list(back["state_dict"]) == ["encoder.weight", "bias"]
    assert back["first"].data_ptr() == back["state_dict"]["encoder.weight"].data_ptr()
    assert back["state_dict"]._metadata == state._metadata
    assert equal(back["optimizer"], torch.load(tmp_path / "a.pt", weights_only=True)["optimizer"])
    copy(tmp_path / "a.pt", tmp_path / "c.pt", around=False)
    assert list(torch.load(tmp_path / "c.pt", weights_only=True)) == ["weight", "bias"]


def test_opaque_values_are_left_out_by_name(tmp_path: Path) -> None:
    arguments = argparse.Namespace(lr=1)
    whole = {
        "model": {"w": torch.ones(2)},
        "args": arguments,
        "history": [1, arguments],
        "callbacks": {argparse.Namespace: {"best": 1.0}, "plain": torch.zeros(1)},
        "sparse": torch.eye(2).to_sparse(),
        "conj": torch.tensor([1 + 2j]).conj(),
    }
    torch.save(whole, tmp_path / "a.pt")
    written = copy(tmp_path / "a.pt", tmp_path / "b.pt")
    back = torch.load(tmp_path / "b.pt", weights_only=True)
    assert list(back) == ["model", "callbacks", "conj"] and list(back["callbacks"]) == ["plain"]
    assert back["conj"].tolist() == [1 - 2j] and back["conj"].is_conj()
    names = [entry.split(" ")[0] for entry in written.left_out]
    assert names == ["args", "history.1", "callbacks.argparse.Namespace", "sparse"]
    assert "argparse.Namespace" in written.left_out[0]


def test_computed_entries_ties_and_objects(tmp_path: Path) -> None:
    value = torch.arange(600_000.0).reshape(600, 1000)
    calls: list[str] = []

    def make() -> Iterator[Buffer]:
        calls.append("made")
        return tensor_bytes(value)

    info = TensorInfo((600, 1000), "float32")
    entries = [
        Item("a", info, make=make, tie="t"),
        Item("b", info, make=make, tie="t"),
        Item(
            "empty",
            TensorInfo((0, 3), "int64"),
            make=lambda: tensor_bytes(torch.empty(0, 3, dtype=torch.int64)),
        ),
        Item(
            "scalar",
            TensorInfo((), "bfloat16"),
            make=lambda: tensor_bytes(torch.tensor(2.0, dtype=torch.bfloat16)),
        ),
        Item("x._extra_state", OBJECT, value={"t": torch.arange(3), "n": [1, "2"]}),
    ]
    steps: list[int] = []
    options = WriteOptions(fsync=False, progress=steps.append)
    written = write_torch_zip(
        WriteRequest(str(tmp_path / "f.pt"), entries, metadata={"format": "pt"}, options=options)
    )
    back = torch.load(tmp_path / "f.pt", weights_only=True)
    assert (
        calls == ["made"] and torch.equal(back["a"], value) and back["a"].data_ptr() == back["b"].data_ptr()
    )
    assert back["empty"].shape == (0, 3) and back["scalar"].item() == 2.0
    assert back["x._extra_state"]["t"].tolist() == [0, 1, 2] and back["x._extra_state"]["n"] == [1, "2"]
    assert written.left_out == ("metadata 'format'",) and sum(steps) >= value.numel() * 4
    (file,) = written.files
    assert (file.bytes, file.tensors) == ((tmp_path / "f.pt").stat().st_size, 4)


def test_legacy_and_big_storages_convert(tmp_path: Path) -> None:
    state = {"big": torch.arange(400_000.0), "small": torch.arange(3, dtype=torch.int16)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    source = open_torch_legacy(str(tmp_path / "a.pt"), "auto")
    write_torch_zip(WriteRequest(str(tmp_path / "b.pt"), items(source), options=OVER))
    assert equal(torch.load(tmp_path / "b.pt", weights_only=True), OrderedDict(state))


def test_the_output_is_aligned_sound_and_has_true_checksums(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.ones(5, dtype=torch.int8)}, tmp_path / "a.pt")
    copy(tmp_path / "a.pt", tmp_path / "b.pt")
    with zipfile.ZipFile(tmp_path / "b.pt") as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "archive/data.pkl" and "archive/version" in archive.namelist()
    fd = os.open(tmp_path / "b.pt", os.O_RDONLY)
    try:
        entries = Archive("b.pt", fd).entries
    finally:
        os.close(fd)
    assert all(entry.offset % 64 == 0 for entry in entries.values())


@pytest.mark.parametrize("numel", [1000, 200_000])
def test_damaged_bytes_are_never_copied(tmp_path: Path, numel: int) -> None:
    torch.save({"w": torch.arange(float(numel)), "v": torch.ones(2)}, tmp_path / "a.pt")
    raw = bytearray((tmp_path / "a.pt").read_bytes())
    raw[raw.find(struct.pack("<2f", 500, 501))] ^= 1
    (tmp_path / "a.pt").write_bytes(raw)
    (tmp_path / "b.pt").write_bytes(b"old")
    with pytest.raises(FormatError, match="damaged"):
        copy(tmp_path / "a.pt", tmp_path / "b.pt")
    assert (tmp_path / "b.pt").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_damage_outside_a_copied_part_of_a_storage_is_found_too(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(1000.0)[:10]}, tmp_path / "a.pt")
    raw = bytearray((tmp_path / "a.pt").read_bytes())
    raw[raw.find(struct.pack("<2f", 500, 501))] ^= 1
    (tmp_path / "a.pt").write_bytes(raw)
    with pytest.raises(FormatError, match="damaged"):
        copy(tmp_path / "a.pt", tmp_path / "b.pt")


@pytest.mark.parametrize("value", [object(), {"deep": object()}, {(1, (2, 3)): 1}, torch.eye(2).to_sparse()])
def test_a_value_that_only_code_could_restore_is_refused_by_key(tmp_path: Path, value: Any) -> None:
    entries = [Item("odd", OBJECT, value=value)]
    with pytest.raises(WriteError, match="'odd'"):
        write_torch_zip(WriteRequest(str(tmp_path / "f.pt"), entries))
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_contains_itself_is_refused(tmp_path: Path) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(WriteError, match="nested"):
        write_torch_zip(WriteRequest(str(tmp_path / "f.pt"), [Item("odd", OBJECT, value=value)]))


def test_a_computed_tensor_of_another_shape_than_planned_is_an_error(tmp_path: Path) -> None:
    entries = [Item("w", TensorInfo((2,), "float32"), make=lambda: tensor_bytes(torch.ones(3)))]
    with pytest.raises(WriteError, match="planned"):
        write_torch_zip(WriteRequest(str(tmp_path / "f.pt"), entries))
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(0, 600), max_size=5), st.sampled_from([1, 100, 300, 1 << 32]))
@settings(max_examples=40, deadline=None)
def test_zip64_records_are_read_by_every_reader(sizes: list[int], big: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "f.zip")
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            out = ZipWriter(fd, "top", big=big)
            for number, size in enumerate(sizes):
                out.add(f"data/{number}", bytes([number]) * size)
            length = out.finish()
            entries = Archive(path, fd).entries
        finally:
            os.close(fd)
        assert length == os.path.getsize(path)
        assert [e.usize for e in entries.values()] == sizes
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert [archive.read(n) for n in archive.namelist()] == [
                bytes([i]) * s for i, s in enumerate(sizes)
            ]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("target", ["out.pt", "out.safetensors"])
def test_a_source_that_was_replaced_since_it_was_opened_is_refused(
    tmp_path: Path, legacy: bool, target: str
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(300_000)}, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = ckptkit.open(path)
    torch.save({"w": torch.zeros(300_000)}, tmp_path / "b.pt", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "b.pt").replace(path)
    with pytest.raises(FormatError, match="another file took its place"):
        ckptkit.save(checkpoint, tmp_path / target)
    assert not (tmp_path / target).exists()


PLAIN = [
    b"", b"ab\xff", bytearray(), bytearray(b"x"), 1 + 2j, {1}, {"a"}, set(), {torch.float32}, (), (1, (2,)), -5, 2**200,
    torch.Size([2]), torch.float8_e8m0fnu, torch.device("cuda:1"), torch.sparse_coo, {(1, "a"): [None, True, 0.5]},
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_each_plain_value_is_read_by_torch_without_running_code(tmp_path: Path, value: Any) -> None:
    """G18, G19: what is written is read by `torch.load(weights_only=True)`, inside the root and beside it."""
    ckptkit.save({"w": torch.ones(1), "odd": value}, tmp_path / "o.pt")
    assert torch.load(tmp_path / "o.pt", weights_only=True)["odd"] == value
    torch.save({"state_dict": {"w": torch.ones(1)}, "odd": value}, tmp_path / "f.pt")
    ckptkit.save(tmp_path / "f.pt", tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True)["odd"] == value


class Odd(torch.Tensor):
    pass


def test_what_torch_would_not_read_is_refused_inside_the_root_and_named_beside_it(tmp_path: Path) -> None:
    """G18: one value must not make the whole file unreadable."""
    with pytest.raises(
        ckptkit.WriteError, match="'odd' holds a value of type builtins.frozenset, which torch.load"
    ):
        ckptkit.save({"w": torch.ones(1), "odd": frozenset({1})}, tmp_path / "o.pt")
    beside = {"odd": frozenset({1}), "tensor": torch.ones(2).as_subclass(Odd)}
    torch.save({"state_dict": {"w": torch.ones(1)}, **beside}, tmp_path / "f.pt")
    written = ckptkit.save(tmp_path / "f.pt", tmp_path / "b.pt")
    name = f"{Odd.__module__}.Odd"
    assert written.left_out == ("odd (frozenset)", f"tensor (an instance of the tensor subclass {name})")
    assert list(torch.load(tmp_path / "b.pt", weights_only=True)) == ["state_dict"]
