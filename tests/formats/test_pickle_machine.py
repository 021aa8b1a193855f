"""The restricted pickle reader: what it describes, and that nothing hostile runs, hangs or allocates."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptkit.errors import FormatError
from ckptkit.formats.pickled import (
    Opaque,
    OrderedNode,
    StorageIds,
    TensorNode,
    check_beginning,
    load_pickle,
    load_prefix,
    machine,
    state,
)
from ckptkit.formats.pickled import load as load_module


def load(data: bytes) -> Any:
    return load_pickle(data, file="f.pt", what="data.pkl", persistent=StorageIds())


def glob(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tup(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: bytes, *args: bytes) -> bytes:
    return function + tup(*args) + b"R"


def prog(body: bytes, protocol: int = 2) -> bytes:
    return bytes((0x80, protocol)) + body + b"."


ORDERED = glob("collections", "OrderedDict") + b")R"


def frame(length: int) -> bytes:
    return b"\x95" + struct.pack("<Q", length)


def ints(*values: int) -> bytes:
    return tup(*(integer(v) for v in values))


def storage(numel: int = 4, kind: bytes = glob("torch", "FloatStorage"), key: bytes = text("0")) -> bytes:
    return tup(text("storage"), kind, key, text("cpu"), integer(numel)) + b"Q"


def tensor(
    offset: bytes = b"K\x00", size: bytes | None = None, stride: bytes | None = None, **kw: Any
) -> bytes:
    size, stride = size or ints(4), stride or ints(1)
    rebuild = glob("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, storage(**kw), offset, size, stride, b"\x89", ORDERED)


# -- agreement with pickle

KEYS = st.one_of(
    st.text(max_size=5), st.integers(-(2**59), 2**59), st.booleans(), st.none(), st.binary(max_size=3)
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.complex_numbers(allow_nan=False),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(0, 5))
def test_plain_values_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol)) == value


@given(VALUES, st.integers(0, 5), st.data())
@settings(max_examples=60)
def test_a_changed_byte_or_a_cut_ends_in_a_value_or_one_error(
    value: Any, protocol: int, data: st.DataObject
) -> None:
    raw = bytearray(pickle.dumps(value, protocol))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(raw), bytes(raw[:place])):
        try:
            load(damaged)
        except FormatError as error:
            assert error.file == "f.pt"  # noqa: PT017 - both outcomes are right, and the refusal must name the file


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_value_or_one_error(data: bytes) -> None:
    with suppress(FormatError):
        load(data)


def test_frames_that_end_where_opcodes_do_are_read_one_after_another() -> None:
    assert load(prog(frame(1) + b"]" + frame(3) + b"Na.", 4)[:-1]) == [None]
    large = [bytes(70_000), "x" * 70_000, list(range(50_000))]
    assert load(pickle.dumps(large, 4)) == large


def test_an_ordered_dict_keeps_its_attributes() -> None:
    value = OrderedDict(a=1)
    value._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    node = load(pickle.dumps(value, 2))
    assert type(node) is OrderedNode and node.attributes["_metadata"] == {"": {"version": 1}}


def test_a_tensor_is_described_not_built() -> None:
    node = load(prog(b"}" + text("w") + tensor() + b"s"))["w"]
    assert type(node) is TensorNode
    assert (node.size, node.stride, node.dtype, node.storage.key) == ((4,), (1,), "float32", "0")


# -- nothing runs

GADGETS = [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "exec"),
    ("builtins", "getattr"),
    ("subprocess", "check_call"), ("pkgutil", "resolve_name"), ("torch.utils.collect_env", "run"),
    ("torch", "os.system"), ("torch.serialization", "os.system"), ("os", "systemStorage"),
    ("os\r", "system\r"),
    ("numpy.core.multiarray", "scalar"), ("torch", "FloatTensor"), ("torch.hub", "load"),
]  # fmt: skip


@pytest.mark.parametrize("pair", GADGETS)
def test_a_global_outside_the_list_is_inert_and_named(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = tup(text("touch PWNED"))
    strings = (
        b"\x8c"
        + bytes((len(pair[0]),))
        + pair[0].encode()
        + b"\x8c"
        + bytes((len(pair[1]),))
        + pair[1].encode()
    )
    for body in (
        glob(*pair) + args + b"R",
        glob(*pair) + args + b"\x81",
        strings + b"\x93" + args + b"R",
        b"(" + glob(*pair) + text("touch PWNED") + b"o",
        b"(" + text("touch PWNED") + b"i" + glob(*pair)[1:],
    ):
        value = load(prog(body, 4))
        assert type(value) is Opaque and (value.module, value.name) == pair
        assert value.args == ("touch PWNED",)
    assert list(tmp_path.iterdir()) == []


def test_what_an_opaque_is_given_stays_inert() -> None:
    body = call(glob("argparse", "Namespace")) + b"}" + text("__setstate__") + glob("os", "system") + b"sb"
    value = load(prog(body))
    assert value.label == "argparse.Namespace" and value.state["__setstate__"].label == "os.system"
    filled = load(prog(glob("collections", "deque") + b")R(K\x01K\x02e"))
    assert filled.items == [1, 2]


def test_an_allowed_function_of_an_opaque_is_opaque_or_an_error() -> None:
    opaque = call(glob("os", "system"), text("x"))
    assert type(load(prog(call(glob("torch", "Size"), opaque)))) is Opaque
    with pytest.raises(FormatError, match=r"os\.system is used to build a tensor"):
        load(prog(call(glob("torch._utils", "_rebuild_tensor"), opaque, b"K\x00", ints(1), ints(1))))
    with pytest.raises(FormatError, match=r"os\.system is used as the type of a storage"):
        load(prog(tensor(kind=opaque)))


# -- refusals


@pytest.mark.parametrize(
    "made",
    [glob("torch._utils", "_rebuild_tensor"), glob("_codecs", "encode"), call(glob("argparse", "Namespace"))],
    ids=["function", "codec", "instance"],
)
def test_only_classes_are_instantiated(made: bytes) -> None:
    """G10, G12: Python and torch refuse NEWOBJ of a function or an instance, so a file that has one is damaged."""
    with pytest.raises(FormatError, match="which is no class here"):
        load(prog(made + b")\x81"))
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        pickle.loads(prog(made + b")\x81"))
    assert load(prog(glob("collections", "OrderedDict") + b")\x81")) is not None


@pytest.mark.parametrize(
    ("module", "name", "args", "empty"),
    [
        ("collections", "OrderedDict", tup(b"](](" + text("a") + b"Nee"), OrderedDict()),
        ("builtins", "set", tup(b"](K\x01e"), set()),
        ("builtins", "bytearray", tup(text("ab"), text("latin1")), bytearray()),
    ],
)
def test_newobj_fills_nothing(module: str, name: str, args: bytes, empty: Any) -> None:
    """G12: ``cls.__new__(cls, *args)`` leaves these empty, whatever it is given; a call would fill them."""
    data = prog(glob(module, name) + args + b"\x81")
    assert load(data) == empty == pickle.loads(data)
    assert load(prog(glob(module, name) + args + b"R")) != empty


COLLIDING = b"}(" + b"".join(integer((2**61 - 1) * i) + b"N" for i in range(1, 20_000)) + b"u"
LAUGHS = b"]" + b"".join(bytes((0x71, i, 0x30, 0x5D, 0x28, 0x68, i, 0x68, i, 0x65)) for i in range(60))
TUPLE_LAUGHS = b"})" + b"".join(bytes((0x71, i, 0x30, 0x68, i, 0x68, i, 0x86)) for i in range(40)) + b"Ns"


def again(module: str, name: str, *more: bytes) -> bytes:
    """Thousands of short calls on one memoised value."""
    return glob(module, name) + b"q\x01" + (b"h\x01(h\x00" + b"".join(more) + b"tR0") * 9000


REFUSED = {
    "empty": b"",
    "no stop": prog(b"N")[:-1],
    "stop on nothing": b"\x80\x02.",
    "two values": prog(b"NN"),
    "trailing": prog(b"N") + b"N",
    "underflow": prog(b"R"),
    "no mark": prog(b"t"),
    "unknown opcode": prog(b"\xf0"),
    "extension": prog(b"\x82\x01"),
    "buffer": prog(b"\x97", 5),
    "protocol 99": b"\x80\x63N.",
    "memo unset": prog(b"h\x05"),
    "memo huge": prog(b"Nr\xff\xff\xff\xff"),
    "memo negative": prog(b"Np-1\n"),
    "long huge": prog(b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01"),
    "long negative": prog(b"\x8b" + struct.pack("<i", -1)),
    "bytes huge": prog(b"\x8e" + struct.pack("<Q", 2**40) + b"x", 4),
    "bytearray huge": prog(b"\x96" + struct.pack("<Q", 2**62) + b"x", 5),
    "text huge": prog(b"X" + struct.pack("<I", 2**32 - 1) + b"x"),
    "frame huge": prog(b"\x95" + struct.pack("<Q", 2**40) + b"N", 4),
    "frame that ends inside an opcode": prog(frame(2) + text("abc"), 4),
    "frame inside a frame": prog(frame(10) + frame(1) + b"N", 4),
    "stop inside a frame": prog(frame(3) + b"N", 4) + b"N",
    "many lists": prog(b"](" + b"]" * 400_000 + b"e"),
    "many dictionaries": prog(b"](" + b"}" * 400_000 + b"e"),
    "many ordered dictionaries": prog(b"](" + (b"h\x00)R" * 250_000) + b"e").replace(
        b"\x80\x02", b"\x80\x02" + glob("collections", "OrderedDict") + b"q\x000", 1
    ),
    "setitem on a list": prog(b"]NNs"),
    "setitem on a tensor": prog(tensor() + b"NNs"),
    "append to a dict": prog(b"}Na"),
    "build of an int": prog(b"K\x01}b"),
    "build of a tensor": prog(tensor() + b"}b"),
    "setstate string": prog(ORDERED + text("x") + b"b"),
    "tensor under a key that is set again": prog(b"}(" + text("a") + tensor() + text("a") + tensor() + b"u"),
    "tensor that is popped": prog(b"}" + tensor() + b"0"),
    "list that is popped with its mark": prog(b"}(](" + tensor() + b"e1"),
    "state that is set again": prog(call(glob("my", "Thing")) + b"](" + tensor() + b"ebNb"),
    "deep lists": prog(b"]" * 100_000 + b"a" * 99_999),
    "deep tuples": prog(b")" + b"\x85" * 300_000),
    "laughs": prog(LAUGHS),
    "tuple key laughs": prog(TUPLE_LAUGHS),
    "colliding keys": prog(COLLIDING),
    "list as key": prog(b"}]Ns"),
    "bytearray of a length": prog(call(glob("builtins", "bytearray"), integer(2**40))),
    "storage of a length": prog(call(glob("torch.storage", "UntypedStorage"), integer(2**40))),
    "tensor of a length": prog(call(glob("torch", "Tensor"), integer(2**40))),
    "odd codec": prog(call(glob("_codecs", "encode"), text("w"), text("zlib_codec"))),
    "size of text": prog(call(glob("torch", "Size"), b"](" + text("x") + b"e")),
    "parameter of text": prog(call(glob("torch._utils", "_rebuild_parameter"), text("x"), b"\x88", ORDERED)),
    "numel negative": prog(tensor(numel=-4)),
    "numel text": prog(
        tup(text("storage"), glob("torch", "FloatStorage"), text("0"), text("cpu"), text("4")) + b"Q"
    ),
    "key int": prog(tensor(key=b"K\x00")),
    "size negative": prog(tensor(size=ints(-4))),
    "stride negative": prog(tensor(stride=ints(-1))),
    "offset negative": prog(tensor(offset=integer(-1))),
    "ranks differ": prog(tensor(size=ints(2, 2))),
    "pid short": prog(tup(text("storage")) + b"Q"),
    "pid text": prog(text("storage") + b"Q"),
    "pid module": prog(tup(text("module"), text("x")) + b"Q"),
    "copied set": prog(b"](" + b"".join(map(integer, range(9000))) + b"eq\x00" + again("builtins", "set")),
    "copied text": prog(text("x" * 90_000) + b"q\x00" + again("_codecs", "encode", text("latin1"))),
    "copied pairs": prog(b"](" + b"](NNe" * 5000 + b"eq\x00" + again("collections", "OrderedDict")),
    "copied state": prog(
        b"}(" + b"".join(text(str(i)) + b"N" for i in range(9000)) + b"uq\x00" + (ORDERED + b"h\x00b0") * 9000
    ),
    "many dimensions": prog(tensor(size=ints(*[1] * 2000), stride=ints(*[1] * 2000))),
    "one key, two types": prog(tup(tensor(), tensor(kind=glob("torch", "DoubleStorage"), numel=2))),
    "one key, two sizes": prog(tup(tensor(), tensor(numel=2))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_or_damaged_pickle_is_one_error_and_small(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"f\.pt: data\.pkl is (refused at byte|cut)"):
            load(REFUSED[name])
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("attribute", ["data", "requires_grad", "__class__", "_backward_hooks"])
def test_saved_attributes_may_not_change_the_tensor(attribute: str) -> None:
    inner = tup(storage(), b"K\x00", ints(4), ints(1), b"\x89", ORDERED)
    rebuild = call(
        glob("torch._tensor", "_rebuild_from_type_v2"), glob("torch._utils", "_rebuild_tensor_v2"),
        glob("torch", "Tensor"), inner, b"}" + text(attribute) + b"K\x03s",
    )  # fmt: skip
    with pytest.raises(FormatError, match="would change the tensor itself"):
        load(prog(rebuild))


def test_a_tensor_subclass_is_described_with_its_name() -> None:
    inner = tup(storage(), b"K\x00", ints(4), ints(1), b"\x89", ORDERED)
    rebuild = call(
        glob("torch._tensor", "_rebuild_from_type_v2"), glob("torch._utils", "_rebuild_tensor_v2"),
        glob("acme", "Weight"), inner, b"}",
    )  # fmt: skip
    assert "acme.Weight" in (load(prog(rebuild)).reason or "")


def test_many_items_given_to_an_opaque_take_linear_time() -> None:
    value = load(prog(glob("collections", "deque") + b")R" + b"K\x01a" * 200_000))
    assert value.items is not None and len(value.items) == 200_000


CALL = glob("torch.serialization", "unknown")
COSTLY = {
    "tuples of one": (b")" + b"\x85" * 3000, "tuples"),
    "tuples of two": (b"N" + b"2\x86" * 3000, "tuples"),
    "tuples of three": (b"N" + b"22\x87" * 3000, "tuples"),
    "tuples behind marks": (b"(" + b"(Nt" * 3000 + b"t", "tuples"),
    "unknown globals": (b"(" + b"ca\nb\n" * 5000 + b"t", "lists, dictionaries and calls"),
    "calls of one": (b"(" + CALL + b"2)R" * 3000 + b"t", "lists, dictionaries and calls"),
    "objects of one": (b"ca\nb\nq\0(" + b"h\0)\x81" * 3000 + b"t", "lists, dictionaries and calls"),
    "one tensor again and again": (
        glob("torch._utils", "_rebuild_tensor_v2") + b"q\0"
        + tup(storage(), b"K\0", ints(4), ints(1), b"\x89", ORDERED) + b"q\1("
        + b"h\0h\1R" * 3000 + b"t",
        "lists, dictionaries and calls",
    ),
    "marks": (b"(" * 3000, "marks that nothing closes"),
    "marks in a frame": (frame(6000) + b"(" * 6000, "marks that nothing closes"),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_what_takes_many_times_its_length_in_memory_is_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G6: tuples, marks and results of calls take up to eighty bytes for one of the pickle."""
    monkeypatch.setattr(state, "MIN_TUPLES", 1000)
    monkeypatch.setattr(state, "MIN_CONTAINERS", 1000)
    monkeypatch.setattr(state, "MAX_MARKS", 1000)
    monkeypatch.setattr(machine, "STEP", 100)
    body, words = COSTLY[name]
    with pytest.raises(FormatError, match=f"(too many|more than 1000) {words}"):
        load(prog(body, 4))


@pytest.mark.parametrize("name", ["N", "I1\nR", "N."], ids=["sound", "wrong", "short"])
def test_a_large_pickle_is_refused_by_its_beginning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """G6: what is no pickle is not read to its end."""
    monkeypatch.setattr(load_module, "LARGE", 1000)
    monkeypatch.setattr(load_module, "BEGINNING", 100)
    wrong = name != "N"
    data = (b"\x80\x02" + name.encode()).ljust(2000, b"0" if wrong else b"N")
    read: list[int] = []

    def first(count: int) -> bytes:
        read.append(count)
        return data[:count]

    if wrong:
        with pytest.raises(FormatError, match=r"f\.pt: data\.pkl is refused at byte"):
            check_beginning(first, len(data), file="f.pt", what="data.pkl")
    else:
        check_beginning(first, len(data), file="f.pt", what="data.pkl")
    check_beginning(first, 999, file="f.pt", what="data.pkl")
    assert read == [100]


def test_a_pickle_before_other_bytes_is_read_in_growing_windows() -> None:
    value = [str(i) for i in range(5000)]
    data = pickle.dumps(value, 2) + b"trailing data" * 10_000
    sizes: list[int] = []

    def read(count: int) -> bytes:
        sizes.append(count)
        return data[:count]

    found, end = load_prefix(read, len(data), file="f", what="object", window=64)
    assert found == value and data[end:].startswith(b"trailing data")
    assert max(sizes) < 8 * end
    with pytest.raises(FormatError, match="it goes on beyond 1000 bytes, which are the most"):
        load_prefix(read, len(data), file="f", what="object", window=64, limit=1000)
    with pytest.raises(FormatError, match="cut"):
        load_prefix(lambda n: data[: min(n, 100)], 100, file="f", what="object", window=64)
