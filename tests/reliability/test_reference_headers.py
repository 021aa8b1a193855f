"""The cases of the reference reader's own unit tests (``safetensors/src/tensor.rs``), as data: G9.

Each is given to both readers: what the reference refuses is refused, what it accepts is read with the same values.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors import safe_open

import ckptkit

I32 = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}'


def file(header: bytes | str | Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else header if isinstance(header, str) else json.dumps(header)
    raw = raw if isinstance(raw, bytes) else raw.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def one(ignored: str = "0", shape: str = "[2]", offsets: str = "[0,8]", key: str = "a") -> str:
    return f'{{"{key}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets},"x":{ignored}}}}}'


MALFORMED: dict[str, tuple[bytes, str]] = {
    "ten tensors on the same bytes": (
        file({f"weight_{i}": entry("F32", [2, 2], 0, 16) for i in range(10)}, bytes(16)),
        "overlaps the tensor before it",
    ),
    "bytes behind the last tensor": (
        file(I32, bytes(16) + b"a second file of another kind"),
        "16 bytes of data, the file has 45",
    ),
    "data cut by two bytes": (file(I32, bytes(14)), "16 bytes of data, the file has 14: it is cut"),
    "header length beyond any file": (file(b"{", length=0xFFFF00000000003C), "100000000 is the limit"),
    "empty": (b"", "an empty file"),
    "seven bytes": (b"<" + bytes(6), "7 bytes"),
    "length and nothing behind it": (b"<" + bytes(7), "claims 60 bytes"),
    "header is not UTF-8": (file(b"\xff"), "not UTF-8 at byte 8"),
    "header is half of an object": (file(b"{"), "no valid JSON: Expecting property name"),
    "fewer bytes than the shape": (file({"test": entry("I32", [2, 2], 0, 4)}, bytes(16)), "takes 16 bytes"),
    "more bytes than the shape": (
        file({"test": entry("I32", [2, 2], 0, 20)}, bytes(20)),
        "takes 16 bytes",
    ),
    "shape beyond 64 bits": (
        file({"test": entry("I32", [2, 18446744073709551614], 0, 16)}, bytes(16)),
        "more elements than 64 bits",
    ),
    "size beyond 64 bits": (
        file({"test": entry("I32", [2, 9223372036854775807], 0, 16)}, bytes(16)),
        "more bits than 64 bits",
    ),
    "half bytes that do not fill a byte": (
        file({"test": entry("F4", [1, 3], 0, 1)}, bytes(1)),
        "whole bytes",
    ),
    "offsets that go back": (file({"test": entry("I32", [2, 2], 16, 0)}, bytes(16)), "is no range"),
    "a hole before the first tensor": (file({"test": entry("I32", [2], 8, 16)}, bytes(16)), "hole"),
    "a hole between tensors": (
        file({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 8, 12)}, bytes(12)),
        "hole",
    ),
    "offsets beyond the file": (
        file({"test": entry("U8", [99], 0, 99)}, bytes(16)),
        "99 bytes of data, the file has 16",
    ),
    "minus zero as a size": (file(one(shape="[-0]", offsets="[0,0]")), "shape holds '-0.0'"),
    "minus zero as an offset": (file(one(offsets="[-0,8]"), bytes(8)), "is no range"),
    "minus zero in a name and as an offset": (
        file(one(offsets="[ -0,8]", key="layer-0"), bytes(8)),
        "is no range",
    ),
    "an ignored field that is too deep": (
        file(one("[" * 126 + "]" * 126), bytes(8)),
        "'a': a field is nested more than 127 deep",
    ),
    "an ignored field of objects that is too deep": (
        file(one('{"b":[' * 63 + "]}" * 63), bytes(8)),
        "'a': a field is nested more than 127 deep",
    ),
    "an ignored number beyond a double": (file(one("-1e400"), bytes(8)), "-1e400 is beyond any double"),
    "an ignored integer beyond a double": (file(one("[" + "9" * 309 + "]"), bytes(8)), "beyond any double"),
    "an ignored integer of 5000 digits": (file(one("9" * 5000), bytes(8)), "too many digits"),
    "an ignored lone surrogate": (file(one('"\\uD800"'), bytes(8)), "a lone surrogate"),
    "a zero byte": (file(I32[:-1] + "\0}", bytes(16)), f"a zero byte at byte {8 + len(I32) - 1}"),
}

SOUND: dict[str, tuple[bytes, dict[str, torch.Tensor]]] = {
    "no tensor": (file("{}"), {}),
    "no tensor, spaces behind": (file("{}\r \t\n"), {}),
    "spaces in front of the object": (file("\t\n{}\r "), {}),
    "a scalar": (
        file({"test": entry("I32", [], 0, 4)}, bytes([1, 0, 0, 0])),
        {"test": torch.tensor(1, dtype=torch.int32)},
    ),
    "a tensor": (file(I32, bytes(16)), {"test": torch.zeros(2, 2, dtype=torch.int32)}),
    "an empty tensor": (
        file({"test": entry("I32", [2, 0], 0, 0)}),
        {"test": torch.zeros(2, 0, dtype=torch.int32)},
    ),
    "ignored fields that are deep and large, but not too much": (
        file(one("[-0,1e308,0e999," + "9" * 308 + "," + "[" * 124 + "]" * 125), bytes(8)),
        {"a": torch.zeros(2)},
    ),
    "minus zero in a name": (file(one(key="a-0"), bytes(8)), {"a-0": torch.zeros(2)}),
    "metadata alone": (file({"__metadata__": {"framework": "pt"}}), {}),
    "metadata that is null": (
        file({"__metadata__": None, "a": entry("U8", [1], 0, 1)}, b"\x07"),
        {"a": torch.tensor([7], dtype=torch.uint8)},
    ),
    "metadata and a tensor that is declared last": (
        file(
            {
                "b": entry("U8", [2], 2, 4),
                "__metadata__": {"": ""},
                "a": entry("U8", [2], 0, 2),
            },
            bytes([1, 2, 3, 4]),
        ),
        {
            "a": torch.tensor([1, 2], dtype=torch.uint8),
            "b": torch.tensor([3, 4], dtype=torch.uint8),
        },
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_the_reference_refuses_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    blob, words = MALFORMED[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob)
    with pytest.raises(safetensors.SafetensorError), safe_open(path, "pt"):
        pass
    with pytest.raises(ckptkit.FormatError, match=words) as caught:
        ckptkit.open(path)
    assert str(path) in str(caught.value)
    result = ckptkit.verify(path)
    assert not result.ok


@pytest.mark.parametrize("name", SOUND)
def test_what_the_reference_accepts_is_read_equal(name: str, tmp_path: Path) -> None:
    blob, expected = SOUND[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(blob)
    with safe_open(path, "pt") as theirs, ckptkit.open(path) as ours:
        assert set(theirs.keys()) == set(ours) == set(expected)
        for key, value in expected.items():
            assert torch.equal(theirs.get_tensor(key), value) and torch.equal(ours[key], value)
            assert ours[key].dtype == value.dtype and ours[key].shape == value.shape
    assert ckptkit.verify(path).ok


def test_a_header_longer_than_the_reference_reads_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(ckptkit.CkptkitError, match="100000000"):
        ckptkit.save({"w": torch.ones(1)}, path, metadata={"x": "y" * 100_000_000})
    assert not list(tmp_path.iterdir())
