"""The pickle writer: what pickle and torch read back, and the same bytes every time."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.formats.pickled import DeviceNode, DtypeNode, OrderedNode, SizeNode, load_pickle
from ckptkit.formats.pickled.writer import PickleWriter

KEYS = st.one_of(st.text(max_size=5), st.integers(-(2**59), 2**59), st.booleans(), st.none())
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False), st.text(max_size=20),
    st.binary(max_size=20), st.complex_numbers(allow_nan=False), st.binary(max_size=5).map(bytearray),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
    ),
    max_leaves=25,
)


def write(value: Any) -> bytes:
    writer = PickleWriter()
    writer.emit(value)
    return writer.finish()


@given(VALUES)
def test_pickle_and_our_reader_read_back_what_was_written(value: Any) -> None:
    data = write(value)
    assert pickle.loads(data) == value
    assert load_pickle(data, file="f", what="p") == value


@given(VALUES)
def test_equal_values_give_equal_bytes(value: Any) -> None:
    assert write(value) == write(pickle.loads(pickle.dumps(value)))


def test_types_survive_exactly() -> None:
    value = [True, 1, 1.0, "1", b"1", (1,), [1], {1}, 1j, 2**100, -1, 255, 256, 65536]
    back = pickle.loads(write(value))
    assert [type(v) for v in back] == [type(v) for v in value] and back == value


def test_long_lists_and_dictionaries_are_written_in_batches() -> None:
    value = {"list": list(range(3500)), "dict": {str(i): i for i in range(3500)}}
    assert pickle.loads(write(value)) == value


def test_a_shared_container_stays_shared() -> None:
    inner = [1]
    back = pickle.loads(write([inner, inner]))
    assert back[0] is back[1]


def test_torch_reads_the_constants_with_weights_only() -> None:
    root = OrderedNode(
        {"size": SizeNode((2, 3)), "dtype": DtypeNode("bfloat16"), "device": DeviceNode("cuda:1")}
    )
    vars(root)["_metadata"] = OrderedNode({"": {"version": 1}})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", write({"root": root, "bytes": b"\xff", "set": {1, 2}}))
        archive.writestr("archive/version", b"3\n")
    buffer.seek(0)
    back = torch.load(buffer, weights_only=True)
    assert back["root"] == OrderedDict(
        size=torch.Size([2, 3]), dtype=torch.bfloat16, device=torch.device("cuda:1")
    )
    assert back["root"]._metadata == {"": {"version": 1}}
    assert back["bytes"] == b"\xff" and back["set"] == {1, 2}
