"""Hashes of content: equal for equal state_dicts however they are stored, different for all others."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.content import blocks, object_hash, row_major_bytes, state_hash, tensor_hash
from ckptkit.formats.tensor_bytes import tensor_bytes

from ..strategies import IN_SAFETENSORS, IN_TORCH, bits, content, state_dicts


def hash_of(source: Any) -> str:
    with ckptkit.open(source) as checkpoint:
        return state_hash(checkpoint.source)


@given(state=state_dicts(dtypes=IN_SAFETENSORS))
def test_equal_state_dicts_have_one_hash_across_formats_sharding_and_order(state: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("a.safetensors", "a.pt", "shards")]
        for path in paths:
            ckptkit.save(state, path, max_shard_size=40 if path.name == "shards" else None)
        backwards = dict(reversed(list(state.items())))
        assert len({hash_of(each) for each in (state, backwards, *paths)}) == 1


@given(one=state_dicts(dtypes=IN_TORCH), two=state_dicts(dtypes=IN_TORCH))
def test_hashes_are_equal_only_where_keys_dtypes_shapes_and_bytes_are(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    assert (hash_of(one) == hash_of(two)) == (content(one) == content(two))


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.uint8, torch.float16, torch.float32, torch.float64, torch.complex128]),
    data=st.data(),
)
def test_a_tensor_of_any_strides_gives_its_row_major_bytes(
    shape: list[int], dtype: torch.dtype, data: st.DataObject
) -> None:
    base = torch.arange(1, 1 + torch.Size(shape).numel()).to(dtype).reshape(shape)
    view = base.permute(data.draw(st.permutations(range(len(shape)))))
    if view.dim() and view.shape[0] > 1:
        view = view[data.draw(st.integers(0, 1)) :: data.draw(st.integers(1, 2))]
    if data.draw(st.booleans()):
        view = view.unsqueeze(1).expand(-1, 3, *view.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"w": view}, Path(folder, "a.pt"))
        with ckptkit.open(Path(folder, "a.pt")) as checkpoint:
            assert b"".join(bytes(part) for part in row_major_bytes(checkpoint.source, "w")) == bits(view)


def test_a_large_strided_tensor_is_put_in_order_in_parts() -> None:
    tensor = torch.arange(3 << 20, dtype=torch.float32).reshape(1024, 3072).T
    source = ckptkit.open({"w": tensor}).source
    parts = [bytes(part) for part in row_major_bytes(source, "w")]
    assert len(parts) > 1
    back = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.float32)
    assert back.equal(tensor.contiguous().reshape(-1))


def test_a_planned_a_conjugated_and_a_stored_tensor_of_equal_values_have_one_hash(tmp_path: Path) -> None:
    values = torch.complex(torch.arange(4.0), torch.ones(4))
    torch.save({"w": values.conj(), "h": torch.ones(2)}, tmp_path / "lazy.pt")
    lazy = ckptkit.open(tmp_path / "lazy.pt").source
    assert tensor_hash(lazy, "w") == tensor_hash(
        ckptkit.open({"w": values.conj().resolve_conj()}).source, "w"
    )
    cast = ckptkit.remap(tmp_path / "lazy.pt", [{"op": "cast", "dtype": "bfloat16", "keys": ["h"]}]).source
    assert tensor_hash(cast, "h") == tensor_hash(ckptkit.open({"h": torch.ones(2).bfloat16()}).source, "h")


def test_the_bytes_of_one_element_with_a_stride_are_those_of_the_element() -> None:
    lone = torch.arange(2.0)[1::2].unsqueeze(0)
    assert lone.stride()[-1] == 2
    assert b"".join(bytes(part) for part in tensor_bytes(lone)) == bits(torch.ones(1))


@given(chunks=st.lists(st.binary(max_size=9)), size=st.integers(1, 7))
def test_blocks_hold_the_same_bytes_in_equal_sizes(chunks: list[bytes], size: int) -> None:
    found = [bytes(block) for block in blocks(chunks, size)]
    assert b"".join(found) == b"".join(chunks)
    assert all(len(block) == size for block in found[:-1])
    assert all(found)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


def typed(value: Any) -> Any:
    """A value that is equal only to one of the same types: True is not 1, -0.0 not 0.0."""
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return (type(value), [typed(each) for each in value])
    return (type(value), repr(value))


@given(one=PLAIN, two=PLAIN)
def test_hashes_of_plain_data_are_equal_only_for_equal_data(one: Any, two: Any) -> None:
    assert object_hash(one) is not None
    assert (object_hash(one) == object_hash(two)) == (typed(one) == typed(two))


def test_hashes_of_objects_know_tensors_and_refuse_what_is_no_plain_data() -> None:
    one = object_hash({"scale": torch.ones(2), "n": 1, "dtype": torch.float32, "huge": 10**5000})
    assert one == object_hash({"huge": 10**5000, "dtype": torch.float32, "n": 1, "scale": torch.ones(2)})
    assert one != object_hash({"scale": torch.zeros(2), "n": 1, "dtype": torch.float32, "huge": 10**5000})
    assert object_hash([object()]) is None
    deep: Any = []
    for _ in range(1000):
        deep = [deep]
    assert object_hash(deep) is None


def test_hashing_files_of_any_layout_imports_no_torch(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(4, 6).T, "b": torch.ones(3)}, tmp_path / "a.pt")
    code = (
        "import sys, ckptkit; from ckptkit.content import state_hash; "
        "state_hash(ckptkit.open(sys.argv[1]).source); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.pt")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
