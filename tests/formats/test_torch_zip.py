"""Reading torch zip files: the values of torch.load, proved views, one error for what is not sound."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.errors import FormatError
from ckptkit.formats.recognise import looks_like_zip
from ckptkit.formats.torch_zip import open_torch_zip

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.float4_e2m1fn_x2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
    torch.complex32, torch.complex64, torch.complex128,
]  # fmt: skip


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal dtype, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    flat = [t.detach().resolve_conj().resolve_neg().contiguous().reshape(-1) for t in (a, b)]
    return a.numel() == 0 or torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))


def random_bits(dtype: torch.dtype, numel: int) -> torch.Tensor:
    """A flat tensor of any bit patterns, NaN payloads included."""
    if dtype == torch.bool:
        return torch.rand(numel) > 0.5
    return torch.frombuffer(bytearray(os.urandom(max(numel, 1) * dtype.itemsize)), dtype=dtype)[:numel]


def save(obj: Any, path: Path, **options: Any) -> str:
    torch.save(obj, path, **options)
    return str(path)


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Tensors of every dtype, some of them views into shared storages."""
    state: dict[str, torch.Tensor] = {}
    for number in range(draw(st.integers(1, 4))):
        base = random_bits(draw(st.sampled_from(DTYPES)), 24)
        for view in range(draw(st.integers(1, 3))):
            shape = draw(st.sampled_from([(24,), (4, 6), (2, 3, 4), (5,), (), (0, 3), (2, 2)]))
            tensor = base[: max(1, torch.Size(shape).numel())] if 0 not in shape else base[:0]
            tensor = tensor.reshape(shape)
            if tensor.dim() == 2 and draw(st.booleans()):
                tensor = tensor.t()
            state[f"layer{number}.view{view}"] = tensor
    return state


@given(state_dicts())
@settings(max_examples=40, deadline=None)
def test_every_dtype_and_view_reads_bit_exactly(state: dict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = open_torch_zip(save(state, Path(folder, "f.pt")), "auto")
        assert list(source.signature) == list(state)
        for key, tensor in state.items():
            assert same(source.tensor(key), tensor), key
            assert source.tensor(key).stride() == tensor.stride()
            info = source.signature[key]
            assert (info.shape, f"torch.{info.dtype}") == (tuple(tensor.shape), str(tensor.dtype))
            view = source.view(key)
            assert view.storage.nbytes == tensor.untyped_storage().nbytes()
            data = b"".join(bytes(c) for c in source.read(view.storage, 0, view.storage.nbytes))
            whole = torch.frombuffer(bytearray(data), dtype=tensor.dtype)
            assert same(whole.as_strided(view.shape, view.stride, view.offset), tensor)
        source.close()


@given(st.integers(1, 100), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=30, deadline=None)
def test_big_endian_parts_are_swapped_wherever_they_begin(numel: int, a: int, b: int) -> None:
    values = struct.pack(f"<{numel}d", *range(numel))
    swapped = struct.pack(f">{numel}d", *range(numel))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.pt")
        path.write_bytes(rewrite(torch.arange(float(numel), dtype=torch.float64), swapped, b"big"))
        source = open_torch_zip(str(path), "auto")
        view = source.view("w")
        start, stop = sorted((min(a, len(values)), min(b, len(values))))
        assert view.storage.region is None
        assert b"".join(bytes(c) for c in source.read(view.storage, start, stop)) == values[start:stop]
        assert source.tensor("w").tolist() == list(range(numel))


def rewrite(
    tensor: torch.Tensor,
    data: bytes | None = None,
    order: bytes = b"little",
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """A torch file of one tensor, zipped anew with other bytes, another byte order or deflated."""
    buffer = io.BytesIO()
    torch.save({"w": tensor}, buffer)
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("byteorder"):
                content = order
            elif name.endswith("data/0") and data is not None:
                content = data
            new.writestr(name, content)
    return out.getvalue()


def test_a_rezipped_deflated_file_is_inflated_never_mapped(tmp_path: Path) -> None:
    tensor = torch.arange(1000.0)
    (tmp_path / "f.pt").write_bytes(rewrite(tensor, method=zipfile.ZIP_DEFLATED))
    source = open_torch_zip(str(tmp_path / "f.pt"), "auto")
    assert source.view("w").storage.region is None
    assert same(source.tensor("w"), tensor)


def test_a_bomb_is_refused_without_inflating_it(tmp_path: Path) -> None:
    zeros = b"\0" * (80 << 20)
    data = rewrite(torch.zeros(20 << 20), zeros, method=zipfile.ZIP_DEFLATED)
    (tmp_path / "f.pt").write_bytes(data)
    with pytest.raises(FormatError, match="unfolds"):
        open_torch_zip(str(tmp_path / "f.pt"), "auto")


def test_a_pickle_that_deflates_further_than_any_of_a_model_is_refused_unread(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(2), "x": ["y" * 2_000_000]}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "f.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(FormatError, match=r"data\.pkl"):
        open_torch_zip(str(tmp_path / "f.pt"), "auto")


def test_a_stride_that_torch_cannot_count_is_refused(tmp_path: Path) -> None:
    """Also where it has no effect, as in a dimension of one element."""
    save({"w": torch.zeros(8).as_strided((1, 2), (4_000_000_000, 1))}, tmp_path / "f.pt")
    with zipfile.ZipFile(tmp_path / "f.pt") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    (name,) = (name for name in entries if name.endswith("data.pkl"))
    written = b"\x8a\x05" + (4_000_000_000).to_bytes(5, "little")
    for stride, words in (
        (2**63 - 1, None),
        (2**63, "the stride 9223372036854775808 is more than torch can count"),
    ):
        number = b"\x8a\x09" + stride.to_bytes(9, "little")
        assert entries[name].count(written) == 1
        with zipfile.ZipFile(tmp_path / "g.pt", "w") as new:
            for other, content in entries.items():
                new.writestr(other, content.replace(written, number) if other == name else content)
        if words is None:
            assert open_torch_zip(str(tmp_path / "g.pt"), "auto").tensor("w").tolist() == [[0.0, 0.0]]
        else:
            with pytest.raises(FormatError, match=words):
                open_torch_zip(str(tmp_path / "g.pt"), "auto")


def test_ties_are_equal_views_and_share_memory(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {"a": base, "b": base, "part": base[1], "copy": base.clone(), "e1": base[:0], "e2": base[:0]}
    source = open_torch_zip(save(state, tmp_path / "f.pt"), "auto")
    assert source.signature.tied == (("a", "b"),)
    assert source.tensor("a").data_ptr() == source.tensor("b").data_ptr()
    assert source.tensor("part").tolist() == base[1].tolist()


def test_a_tensor_may_be_written_to_outlives_the_source_and_never_changes_the_file(tmp_path: Path) -> None:
    path = save({"w": torch.ones(4)}, tmp_path / "f.pt")
    before = Path(path).read_bytes()
    source = open_torch_zip(path, "auto")
    tensor = source.tensor("w")
    source.close()
    tensor.add_(1)
    assert tensor.tolist() == [2.0] * 4 and Path(path).read_bytes() == before


def test_a_file_that_changed_since_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = save({"w": torch.ones(100_000)}, tmp_path / "f.pt")
    source = open_torch_zip(path, "auto")
    os.truncate(path, 1000)
    with pytest.raises(FormatError, match="changed while it was open"):
        source.tensor("w")
    with pytest.raises(FormatError, match="changed while it was open"):
        list(source.read(source.view("w").storage, 0, 4))


def test_a_flipped_bit_is_found_when_the_tensor_is_read(tmp_path: Path) -> None:
    path = Path(save({"good": torch.ones(10), "bad": torch.arange(1000.0)}, tmp_path / "f.pt"))
    raw = bytearray(path.read_bytes())
    raw[raw.find(struct.pack("<2f", 500, 501))] ^= 1
    path.write_bytes(raw)
    source = open_torch_zip(str(path), "auto")
    assert source.tensor("good").tolist() == [1.0] * 10
    with pytest.raises(FormatError, match="damaged"):
        source.tensor("bad")
    storage = source.view("bad").storage
    with pytest.raises(FormatError, match="damaged"):
        list(source.read(storage, 0, storage.nbytes))


def test_an_absent_crc_is_not_compared(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save({"w": torch.arange(3.0)}, tmp_path / "f.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    source = open_torch_zip(path, "auto")
    region = source.view("w").storage.region
    assert region is not None and region.crc is None and source.tensor("w").tolist() == [0.0, 1.0, 2.0]


def test_a_region_declares_the_crc_of_its_bytes(tmp_path: Path) -> None:
    path = save({"w": torch.arange(3.0)}, tmp_path / "f.pt")
    region = open_torch_zip(path, "auto").view("w").storage.region
    assert region is not None
    raw = Path(path).read_bytes()[region.offset : region.offset + region.nbytes]
    assert raw == struct.pack("<3f", 0, 1, 2) and region.crc == zlib.crc32(raw)


def test_conjugated_and_negated_tensors_read_right_and_have_no_plain_bytes(tmp_path: Path) -> None:
    state = {"conj": torch.tensor([1 + 2j]).conj(), "neg": torch.tensor([1 + 2j]).conj().imag}
    source = open_torch_zip(save(state, tmp_path / "f.pt"), "auto")
    assert source.tensor("conj").tolist() == [1 - 2j] and source.tensor("neg").tolist() == [-2.0]
    for key in state:
        with pytest.raises(FormatError, match="lazily"):
            source.view(key)


def test_meta_tensors_have_a_shape_and_no_data(tmp_path: Path) -> None:
    source = open_torch_zip(save({"w": torch.empty(2, 3, device="meta")}, tmp_path / "f.pt"), "auto")
    assert source.signature["w"].shape == (2, 3) and "meta" in source.notes[0]
    for read in (source.tensor, source.view):
        with pytest.raises(FormatError, match="no data"):
            read("w")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.ones(4), 0.5, 1, torch.qint8), "quantised"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda: slice(1, 2), "slice"),
        (lambda: {"inner": [io.BytesIO(b"x")]}, "_io.BytesIO"),
        (lambda: torch.ones(2).untyped_storage(), "storage"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_place_in_a_state_dict_is_a_key_that_is_refused_when_it_is_used(
    tmp_path: Path, value: Any, what: str
) -> None:
    path = save({"fine": torch.ones(1), "odd": value(), "w": torch.ones(2)}, tmp_path / "f.pt")
    source = open_torch_zip(path, "none")
    assert source.signature["odd"].kind == "object" and source.tensor("w").tolist() == [1, 1]
    assert any("'odd' is" in note and what in note for note in source.notes)
    for use in (source.value, source.tensor, source.view):
        with pytest.raises(FormatError, match=what) as caught:
            use("odd")
        assert caught.value.key == "odd" and "weights_only" not in str(caught.value)


def test_entries_that_are_no_tensors_are_objects_with_their_values(tmp_path: Path) -> None:
    state = OrderedDict(w=torch.ones(2), x=torch.ones(1))
    extra = {
        "a": [1, (2.5, None)],
        "size": torch.Size([2]),
        "dtype": torch.float16,
        "t": torch.arange(2),
        "s": {1},
    }
    state["m._extra_state"] = extra  # type: ignore[assignment]
    source = open_torch_zip(save(state, tmp_path / "f.pt"), "auto")
    assert source.signature["m._extra_state"].kind == "object"
    value = source.value("m._extra_state")
    assert value.pop("t").tolist() == [0, 1] and extra.pop("t") is not None
    assert value == extra


def test_the_metadata_of_a_state_dict_is_kept(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    source = open_torch_zip(save(state, tmp_path / "f.pt"), "auto")
    assert source.state_metadata == dict(state._metadata)


def test_keys_are_kept_exactly_and_a_lone_surrogate_is_named(tmp_path: Path) -> None:
    keys = ["\u00e9", "e\u0301", "模型", "", " ", "..", "a\nb", "nul\0in", "../../x", "__metadata__"]
    source = open_torch_zip(save({k: torch.ones(1) for k in keys}, tmp_path / "f.pt"), "auto")
    assert list(source.signature) == keys
    raw = Path(save({"w": torch.ones(1), "abc": torch.ones(1)}, tmp_path / "g.pt")).read_bytes()
    path = tmp_path / "g.pt"
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"abc", b"\xed\xa0\x80"))
    with pytest.raises(FormatError, match="lone surrogate"):
        open_torch_zip(str(path), "auto")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"a/data.pkl": b"N.", "a/constants.pkl": b"N.", "a/version": b"3"}, "TorchScript.*holds no module"),
        (
            {"a/data.pkl": b"c__torch__\nM\n)\x81}b.", "a/code/x.py": b"", "a/version": b"3"},
            "TorchScript.*no module",
        ),
        ({"a/archive_format": b"pt2", "a/models/model.json": b""}, r"\.pt2"),
        ({"a/readme.txt": b""}, r"no data\.pkl"),
        ({"a/data.pkl": b"N."}, "version"),
        ({"a/data.pkl": b"N.", "a/version": b"abc"}, "version abc"),
        ({"a/data.pkl": b"N.", "a/version": b"99"}, "version 99"),
        ({"a/data.pkl": b"N.", "a/version": b"3", "a/byteorder": b"middle"}, "middle"),
        ({"a/data.pkl": b"N.", "a/version": b"3\n"}, "None"),
        ({"a/data.pkl": b"K\x07.", "a/version": b"3\n"}, "int"),
    ],
)
def test_other_archives_are_refused_by_name(tmp_path: Path, names: dict[str, bytes], what: str) -> None:
    with zipfile.ZipFile(tmp_path / "f.pt", "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    with pytest.raises(FormatError, match=what):
        open_torch_zip(str(tmp_path / "f.pt"), "auto")


def test_a_storage_of_another_length_than_declared_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\0" * 8, b"\0" * 15, b"\0" * 17, b"\0" * 19, b"\0" * 32):
        (tmp_path / "f.pt").write_bytes(rewrite(torch.ones(4), data))
        with pytest.raises(FormatError, match="its entry has"):
            open_torch_zip(str(tmp_path / "f.pt"), "auto")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_read_right_or_refused(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int16)}, buffer)
    raw = bytearray(buffer.getvalue())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) - 1, len(raw) // 2]))]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f.pt").write_bytes(raw)
        try:
            source = open_torch_zip(os.path.join(folder, "f.pt"), "auto")
            for key in source.signature:
                expected = {"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int16)}.get(key)
                got = source.tensor(key)
                assert expected is None or got.shape != expected.shape or same(got, expected)
        except FormatError:
            pass


def test_zip_files_are_known_by_their_first_bytes() -> None:
    assert looks_like_zip(b"PK\3\4rest") and looks_like_zip(b"PK\5\6") and not looks_like_zip(b"\x80\x02")


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    path = save({"w": torch.ones(2)}, tmp_path / "f.pt")
    code = (
        "import sys; from ckptkit.formats.torch_zip import open_torch_zip as o; "
        "s = o(sys.argv[1], 'auto'); "
        "print(list(s.signature), 'torch' in sys.modules, 'pickle' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['w'] False False"
