"""safetensors files: what we accept the reference reads equal, what it refuses we refuse."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import FormatError

from ..strategies import IN_SAFETENSORS, content, state_dicts


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def reference_accepts(path: Path) -> bool:
    try:
        with safetensors.safe_open(path, "pt") as file:
            list(file.keys())
    except Exception:
        return False
    return True


def ours_accepts(path: Path) -> bool:
    try:
        ckptkit.signature(path)
    except FormatError:
        return False
    return True


@given(state=state_dicts(dtypes=IN_SAFETENSORS, views=False))
def test_what_safetensors_writes_is_read_bit_for_bit(state: dict[str, torch.Tensor]) -> None:
    single = {key: tensor.clone() for key, tensor in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        safetensors.torch.save_file(single, Path(folder, "a.safetensors"))
        with ckptkit.open(Path(folder, "a.safetensors")) as back:
            assert content(back) == content(single)


@given(state=state_dicts(dtypes=IN_SAFETENSORS, views=False))
def test_data_lies_as_the_reference_writer_lays_it(state: dict[str, torch.Tensor]) -> None:
    single = {key: tensor.clone() for key, tensor in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        safetensors.torch.save_file(single, Path(folder, "theirs.safetensors"))
        ckptkit.save(single, Path(folder, "ours.safetensors"))
        data = []
        for name in ("theirs", "ours"):
            blob = Path(folder, f"{name}.safetensors").read_bytes()
            data.append(blob[8 + int.from_bytes(blob[:8], "little") :])
        assert data[0] == data[1]


@given(data=st.data(), state=state_dicts(dtypes=[torch.float32, torch.int8], views=False))
def test_a_damaged_file_that_the_reference_refuses_is_refused(
    data: Any, state: dict[str, torch.Tensor]
) -> None:
    """Bit flips, cuts and insertions: nothing that the reference calls malformed gets through."""
    blob = bytearray(safetensors.torch.save({k: v.clone() for k, v in state.items()}))
    at = data.draw(st.integers(0, len(blob) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "digit"]))
    if kind == "flip":
        blob[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del blob[at:]
    elif kind == "insert":
        blob[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    else:
        digits = [i for i, byte in enumerate(blob) if 48 <= byte <= 57]
        if digits:
            blob[data.draw(st.sampled_from(digits))] = data.draw(st.integers(48, 57))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        path.write_bytes(blob)
        if ours_accepts(path):
            assert reference_accepts(path)
            with ckptkit.open(path) as ours:
                assert content(ours) == content(safetensors.torch.load_file(path))


MALFORMED = {
    "length_alone": (b"\x08\0\0", "it has 3 bytes"),
    "past_the_end": (raw(b"{}", length=10_000), "claims 10000 bytes, and only 2 follow"),
    "over_the_cap": (raw({"a": entry()}, b"\0" * 8, 100_000_001), "100000000 is the limit"),
    "list": (raw(b"[1, 2, 3]" + b" " * 7), "no JSON object"),
    "nan": (
        raw(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', b"\0" * 8),
        "NaN is no JSON",
    ),
    "same_key_twice": (
        raw(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
            b"\0\0",
        ),
        "'a' stands twice in one object",
    ),
    "field_twice": (
        raw(b'{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8),
        "stands twice",
    ),
    "surrogate": (
        raw(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8),
        "lone surrogate",
    ),
    "list_entry": (raw(b'{"a":["F32",[2],[0,8]]}', b"\0" * 8), "'a': the entry is no JSON object"),
    "metadata_number": (raw({"__metadata__": {"x": 1}}), "only strings are allowed"),
    "dtype": (raw({"a": entry("f32")}, b"\0" * 8), "'a': unknown dtype 'f32'"),
    "bool_size": (
        raw(b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', b"\0"),
        "which is no size",
    ),
    "negative": (raw({"a": entry(shape=(-1, -2))}, b"\0" * 8), "shape holds '-1', which is no size"),
    "overflow": (raw({"a": entry(shape=(2**63, 2), offsets=(0, 0))}), "more elements than 64 bits"),
    "odd_fp4": (raw({"a": entry("F4", (3,), (0, 2))}, b"\0\0"), "3 elements of F4 do not fill whole bytes"),
    "size": (raw({"a": entry(shape=(3,))}, b"\0" * 8), "takes 12 bytes, data_offsets give it 8"),
    "hole": (
        raw({"a": entry(offsets=(8, 16))}, b"\0" * 16),
        "leaves a hole before it; the data so far ends at 0",
    ),
    "overlap": (
        raw({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12),
        "overlaps the tensor before it",
    ),
    "cut": (raw({"a": entry()}, b"\0" * 4), "describes 8 bytes of data, the file has 4: it is cut"),
    "trailing": (raw({"a": entry()}, b"\0" * 9), "has bytes that belong to no tensor"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_error_that_says_why(name: str, tmp_path: Path) -> None:
    blob, words = MALFORMED[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob)
    with pytest.raises(FormatError) as caught:
        ckptkit.open(path)
    assert words in caught.value.message
    assert caught.value.file == str(path)


def test_dtypes_that_torch_lacks_are_inspected_and_copied_but_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        raw({"x": entry("F6_E2M3", (4,), (0, 3)), "y": entry("F4", (8,), (3, 7))}, bytes(range(7)))
    )
    with ckptkit.open(path) as checkpoint:
        assert checkpoint.signature["x"].dtype == "F6_E2M3"
        assert checkpoint.signature["y"] == ckptkit.TensorInfo((4,), "float4_e2m1fn_x2")
        with pytest.raises(FormatError, match="'x' has the dtype F6_E2M3, which this torch lacks"):
            checkpoint["x"]
        ckptkit.save(
            ckptkit.remap(checkpoint, [{"op": "add_prefix", "prefix": "p."}]), tmp_path / "b.safetensors"
        )
    header = (tmp_path / "b.safetensors").read_bytes()
    assert b'"p.x":{"dtype":"F6_E2M3","shape":[4]' in header
    assert b'"p.y":{"dtype":"F4","shape":[8]' in header


def test_tied_tensors_are_written_once_under_their_first_name_and_found_again(tmp_path: Path) -> None:
    weight = torch.ones(3, 2)
    ckptkit.save({"embed": weight, "head": weight}, tmp_path / "a.safetensors", metadata={"note": "x"})
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert list(file.keys()) == ["embed"]
        assert file.metadata() == {"format": "pt", "head": "embed", "note": "x", "ckptkit.ties": '["head"]'}
    renamed = ckptkit.remap(tmp_path / "a.safetensors", [{"op": "add_prefix", "prefix": "m."}])
    ckptkit.save(renamed, tmp_path / "b.safetensors")
    with ckptkit.open(tmp_path / "b.safetensors") as back:
        assert back.signature.tied == (("m.embed", "m.head"),)
        assert back.metadata == {"format": "pt", "note": "x"}


def test_metadata_that_only_looks_like_a_tie_is_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(
        {"m.a": torch.ones(1), "a": torch.ones(1), "b": torch.ones(1)},
        path,
        metadata={"a": "b", "c": "gone", "d": "a", "n.a": "a"},
    )
    with ckptkit.open(path) as checkpoint:
        assert checkpoint.signature.tied == (("a", "n.a"),)
        assert dict(checkpoint.metadata) == {"a": "b", "c": "gone", "d": "a"}
        with pytest.raises(
            ckptkit.PlanError, match="the metadata has an entry 'a', which is also a tensor's key"
        ):
            ckptkit.save(checkpoint, tmp_path / "b.safetensors")


def test_the_format_entry_that_every_file_has_ties_nothing(tmp_path: Path) -> None:
    """G7, G19: no key that is not in the file, and keys unchanged there and back."""
    for key in ("pt", "format"):
        ckptkit.save({key: torch.ones(2)}, tmp_path / "a.safetensors", overwrite=True)
        with ckptkit.open(tmp_path / "a.safetensors") as checkpoint:
            assert (list(checkpoint), checkpoint.metadata) == ([key], {"format": "pt"})
            ckptkit.save(checkpoint, tmp_path / "b.safetensors", overwrite=True)
        assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    blob = raw({"__metadata__": {"__metadata__": "w"}, "w": entry()}, b"\0" * 8)
    (tmp_path / "a.safetensors").write_bytes(blob)
    with ckptkit.open(tmp_path / "a.safetensors") as checkpoint:
        assert list(checkpoint) == ["w"]
        ckptkit.save(checkpoint, tmp_path / "b.safetensors", overwrite=True)
    assert list(ckptkit.open(tmp_path / "b.safetensors")) == ["w"]


def test_a_tied_tensor_named_format_is_the_one_that_is_written(tmp_path: Path) -> None:
    weight = torch.ones(3)
    for target in ("a.safetensors", "folder"):
        ckptkit.save({"a": weight, "format": weight, "z": weight}, tmp_path / target)
        with ckptkit.open(tmp_path / target) as back:
            assert sorted(back) == ["a", "format", "z"]
            assert back.signature.tied == (("format", "a", "z"),)


_WORDS = st.sampled_from(
    ["author", "weight", "w", "base model", "a.b", "m.weight", "n.weight", "head.bias", "x..y"]
)


@settings(max_examples=60, deadline=None)
@given(st.sets(_WORDS, min_size=1, max_size=3), st.dictionaries(_WORDS, _WORDS, max_size=4))
def test_metadata_of_other_tools_makes_no_keys_unless_both_sides_look_like_keys(
    keys: set[str], metadata: dict[str, str]
) -> None:
    """A load of exactly the tensors of a file is never refused for a word that somebody wrote beside them."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.safetensors")
        safetensors.torch.save_file({key: torch.ones(1) for key in keys}, path, metadata=metadata)
        with ckptkit.open(path) as checkpoint:
            phantom = set(checkpoint) - keys
            for name in phantom:
                assert metadata[name] in keys and "." in name + metadata[name] and " " not in name
            assert dict(checkpoint.metadata) == {k: v for k, v in metadata.items() if k not in phantom}


@given(st.lists(st.sampled_from(["a", "b", "m.a", "m.b.c", "format", "weird name"]), min_size=2, unique=True))
def test_every_tie_that_is_written_is_found_again_whatever_its_names(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.safetensors")
        weight = torch.ones(2)
        ckptkit.save(dict.fromkeys(keys, weight), path, metadata={"note": "a"} if "a" not in keys else None)
        with ckptkit.open(path) as back:
            assert sorted(back) == sorted(keys) and [sorted(g) for g in back.signature.tied] == [sorted(keys)]
            assert not set(back.metadata) - {"format", "note"}


@pytest.mark.parametrize("target", ["b.safetensors", "folder"])
def test_metadata_that_would_read_as_a_tie_is_not_written(target: str, tmp_path: Path) -> None:
    """G19: what is written has no key more than what was to be written."""
    words = "an entry 'n.1' with the value 'm.1', which is a tensor's key"
    with pytest.raises(ckptkit.PlanError, match=words):
        ckptkit.save({"m.1": torch.ones(1)}, tmp_path / target, metadata={"n.1": "m.1"})
    ckptkit.save({"m.0": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"n.1": "m.1", "epoch": "m"})
    renamed = ckptkit.remap(
        tmp_path / "a.safetensors", [{"op": "rename", "pattern": "0$", "replacement": "1"}]
    )
    with pytest.raises(ckptkit.PlanError, match="so 'n.1' would become a key"):
        ckptkit.save(renamed, tmp_path / target)
    with pytest.raises(ckptkit.PlanError, match="'ckptkit.ties', a name that is kept for ties"):
        ckptkit.save({"m.1": torch.ones(1)}, tmp_path / target, metadata={"ckptkit.ties": "[]"})
    assert os.listdir(tmp_path) == ["a.safetensors"]


CANNOT_HOLD = {
    "complex128": (
        {"a": torch.ones(1, dtype=torch.complex128)},
        "safetensors has no complex128, the dtype of 'a'",
    ),
    "object": (
        {"a": torch.ones(1), "x._extra_state": 3},
        "safetensors holds tensors only, and 'x._extra_state' is none",
    ),
    "reserved": ({"__metadata__": torch.ones(1)}, "safetensors keeps the name __metadata__ for itself"),
    "fp4": ({"a": torch.zeros((), dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}, "cannot express"),
    "expanded": (
        {"a": torch.ones(1).expand(2**20, 2**10)},
        "is an expanded view: 4 bytes in its storage would become",
    ),
}


@pytest.mark.parametrize("name", CANNOT_HOLD)
def test_what_the_format_cannot_hold_is_refused_before_a_byte_is_written(name: str, tmp_path: Path) -> None:
    state, words = CANNOT_HOLD[name]
    with pytest.raises(ckptkit.PlanError) as caught:
        ckptkit.save(state, tmp_path / "a.safetensors")
    assert words in caught.value.message
    assert os.listdir(tmp_path) == []


def test_a_file_that_changes_while_it_is_open_is_refused_and_never_kills_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ckptkit.save({"a": torch.ones(100_000), "b": torch.ones(100_000)}, path)
    checkpoint = ckptkit.open(path)
    first = checkpoint["a"].sum()
    os.truncate(path, 1000)
    with pytest.raises(FormatError, match="it changed while it was open"):
        checkpoint["b"]
    assert first == 100_000


def test_writing_to_a_tensor_never_writes_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ckptkit.save({"a": torch.zeros(1000)}, path)
    before = path.read_bytes()
    tensor = ckptkit.open(path)["a"]
    tensor.fill_(1)
    assert path.read_bytes() == before
    assert tensor.sum() == 1000
