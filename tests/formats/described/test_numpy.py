"""Arrays of numpy, in pickles, torch files and files of its own, are tensors of the same bytes."""

from __future__ import annotations

import io
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import CkptkitError, FormatError, UnsupportedFormatError

from .test_whole_models import read_elsewhere

CODES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of every dtype that torch has, in both byte orders, in any layout, empty ones and scalars among them."""
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    dtype = np.dtype(draw(st.sampled_from("<>")) + draw(st.sampled_from(CODES)))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    array = (raw % 2).view(bool).reshape(shape) if dtype.kind == "b" else raw.view(dtype).reshape(shape)
    layout = draw(st.sampled_from("CFT"))
    return array.T if layout == "T" else np.array(array, order=layout)  # type: ignore[call-overload]


def same(tensor: torch.Tensor, array: np.ndarray[Any, Any]) -> bool:
    native = array.astype(array.dtype.newbyteorder("="))
    return tuple(tensor.shape) == array.shape and tensor.contiguous().numpy().tobytes() == native.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), arrays(), min_size=1),
    st.sampled_from(["npz", "compressed", "torch", "0", "1", "2", "3", "4", "5"]),
)
def test_arrays_are_tensors_of_the_same_bytes_in_every_file(state: dict[str, Any], form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.npz" if form in ("npz", "compressed") else "f.pkl")
        if form == "npz":
            np.savez(path, **state)
        elif form == "compressed":
            np.savez_compressed(path, **state)
        elif form == "torch":
            torch.save({"model": state, "epoch": 3}, path)
        else:
            with path.open("wb") as file:
                pickle.dump({"model": state, "__author__": "x", "matching_heuristics": True}, file, int(form))
        with ckptkit.open(path) as checkpoint:
            assert list(checkpoint) == list(state)
            for key, array in state.items():
                assert same(checkpoint[key], array)
            ckptkit.save(checkpoint, Path(folder, "o.pt"))
        back = torch.load(Path(folder, "o.pt"), weights_only=True)
        back = back.get("model", back)
        assert all(same(back[key], array) for key, array in state.items())
        assert ckptkit.verify(path).ok


def test_one_array_is_one_key_and_scalars_count_as_no_weights(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    assert ckptkit.open(tmp_path / "a.npy")["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
    saved = {
        "state_dict": {"w": torch.ones(2)},
        "best": np.float64(0.5),
        "rng": np.arange(9),
        "more": np.float32(1),
    }
    torch.save(saved, tmp_path / "f.pt")
    with ckptkit.open(tmp_path / "f.pt") as checkpoint:
        assert checkpoint.signature.root == "state_dict"
        written = ckptkit.save(checkpoint, tmp_path / "o.pt")
    assert [name.partition(" ")[0] for name in written.left_out] == ["best", "rng", "more"]


@pytest.mark.parametrize(
    "value",
    [
        np.array(["x"]),
        np.array([{}], dtype=object),
        np.zeros(2, "f4,i4"),
        np.zeros(1, "M8[s]"),
        np.zeros(1, "f16"),
    ],
)
def test_arrays_that_torch_has_not_are_named_and_refused_when_used(value: Any, tmp_path: Path) -> None:
    state = {"w": np.ones(2), "v": np.ones(1), "odd": value}
    np.savez(tmp_path / "a.npz", **state)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(state))
    torch.save(state, tmp_path / "a.pt")
    for name in ("a.npz", "a.pkl", "a.pt"):
        with ckptkit.open(tmp_path / name) as checkpoint:
            assert checkpoint.signature["odd"].kind == "object" and checkpoint["w"].tolist() == [1, 1]
            with pytest.raises(FormatError, match="'odd' is a numpy array"):
                checkpoint["odd"]


def test_nothing_is_imported_for_a_pickle_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"w": np.ones(2)}}, 2))
    np.savez(tmp_path / "b.npz", w=np.ones(2))
    assert all(
        told["order"] == ["w"] for told in read_elsewhere([str(p) for p in tmp_path.iterdir()]).values()
    )


def test_a_pickle_without_arrays_is_no_checkpoint_and_what_follows_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    for value in ({"a": 1}, [1, 2], "x", torch.device("cpu")):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(
            UnsupportedFormatError, match="no torch file .* without arrays of numpy; it was not executed"
        ):
            ckptkit.open(path)
    path.write_bytes(pickle.dumps({"w": np.ones(2)}) + b"x")
    with pytest.raises(FormatError, match="1 bytes follow the end of the pickle"):
        ckptkit.open(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(2, 3)", b"(2, 4)"),
        (b"(2, 3)", b"(-2,3"),
        (b"'<f8'", b"open "),
        (b"False", b"None "),
        (b"\x93NUMPY", b"\x93NUMPX"),
        (b"\x01\x00v\x00", b"\x01\x00\xff\xff"),
        (b"\x01\x00v\x00", b"\x07\x00v\x00"),
    ],
)
def test_a_damaged_array_is_one_error(old: bytes, new: bytes, tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.arange(6.0).reshape(2, 3))
    assert old in held.getvalue()
    changed = held.getvalue().replace(old, new, 1)
    (tmp_path / "a.npy").write_bytes(changed)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", changed)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(CkptkitError):
            ckptkit.open(tmp_path / name)


def test_any_flipped_byte_or_cut_of_arrays_is_read_right_or_refused(tmp_path: Path) -> None:
    state = {"w": np.arange(40.0), "v": np.arange(3, dtype=">i4")}
    np.savez(tmp_path / "a.npz", **state)
    np.savez_compressed(tmp_path / "b.npz", **state)
    for name in ("a.npz", "b.npz"):
        whole = (tmp_path / name).read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 200)):
            for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]):
                (tmp_path / "c.npz").write_bytes(changed)
                try:
                    with ckptkit.open(tmp_path / "c.npz") as checkpoint:
                        assert all(
                            key not in state or same(checkpoint[key], state[key]) for key in checkpoint
                        )
                except CkptkitError:
                    pass
