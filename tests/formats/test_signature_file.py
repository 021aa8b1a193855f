"""Signature files: what is written is read back, and what is malformed is one error."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import FormatError, PlanError
from ckptkit.signatures import OBJECT, Root, Signature, TensorInfo

from ..strategies import IN_TORCH, KEYS, SHAPES, state_dicts

DTYPES = st.sampled_from(
    ["float32", "bfloat16", "float4_e2m1fn_x2", "F6_E2M3", "F4", "qint8", "uint3", "complex128"]
)
INFOS = st.one_of(st.just(OBJECT), st.builds(TensorInfo, SHAPES, DTYPES))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@st.composite
def signatures(draw: Any) -> Signature:
    tensors = draw(st.dictionaries(KEYS, INFOS, max_size=6))
    alike: dict[TensorInfo, list[str]] = {}
    for key, info in tensors.items():
        if info.kind == "tensor":
            alike.setdefault(info, []).append(key)
    return Signature(
        tensors,
        tuple(tuple(keys) for keys in alike.values() if len(keys) > 1 and draw(st.booleans())),
        draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
        draw(st.none() | TEXTS),
        tuple(draw(st.lists(st.builds(Root, TEXTS, TEXTS, st.integers(0, 9), st.booleans()), max_size=2))),
    )


@given(signatures())
def test_a_signature_survives_its_document(signature: Signature) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        path.write_text(json.dumps(signature.to_json()))
        again = ckptkit.signature(path)
    assert again == signature
    assert list(again) == list(signature)
    assert (again.numel, again.nbytes) == (signature.numel, signature.nbytes)


@given(state=state_dicts(dtypes=IN_TORCH))
def test_a_written_signature_is_that_of_the_state_dict(
    state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("signature") / "a.json"
    ckptkit.save(state, path)
    written, expected = ckptkit.signature(path), ckptkit.signature(state)
    assert list(written.items()) == list(expected.items())
    assert written.tied == expected.tied


def document(**changes: Any) -> dict[str, Any]:
    two = [{"key": key, "shape": [2], "dtype": "float32"} for key in "ab"]
    return {"format": "ckptkit.signature", "version": 1, "tensors": two, **changes}


def tensor(**changes: Any) -> dict[str, Any]:
    return document(tensors=[{"key": "a", "shape": [2], "dtype": "float32", **changes}])


LONE = "\ud800"
BROKEN: dict[str, tuple[Any, str]] = {
    "no_json": ("{", "no valid JSON"),
    "no_utf8": (b'{"a": "\xff"}', "no valid JSON"),
    "deep": ("[" * 100_000, "no valid JSON"),
    "list": ([], "no signature"),
    "other_format": (document(format="ckptkit.plan"), "no signature"),
    "version": (document(version=2), "a signature of version '2'; this ckptkit reads 1"),
    "version_true": (document(version=True), "a signature of version 'True'"),
    "version_float": (document(version=1.0), "a signature of version '1.0'"),
    "no_tensors": ({"format": "ckptkit.signature", "version": 1}, "the field 'tensors' is missing"),
    "tensors_object": (document(tensors={}), "tensors is no list"),
    "entry_list": (document(tensors=[["a", [2], "float32"]]), "which is no object"),
    "no_dtype": (document(tensors=[{"key": "a", "shape": [2]}]), "the field 'dtype' is missing"),
    "key_number": (tensor(key=1), "key and dtype are strings"),
    "dtype_unknown": (tensor(dtype="float31"), "the dtype 'float31', which is none of torch's"),
    "dtype_with_prefix": (tensor(dtype="torch.float32"), "which is none of torch's"),
    "kind_unknown": (tensor(kind="scalar"), "is of the kind 'scalar'"),
    "shape_bool": (tensor(shape=[True]), "no list of sizes"),
    "shape_float": (tensor(shape=[2.0]), "no list of sizes"),
    "shape_negative": (tensor(shape=[-1]), "no list of sizes"),
    "shape_huge": (tensor(shape=[1 << 63]), "no list of sizes"),
    "shape_nan": ('{"format":"ckptkit.signature","version":NaN}', "NaN is no JSON"),
    "key_twice": (document(tensors=document()["tensors"][:1] * 2), "the key 'a' stands twice"),
    "name_twice": ('{"format":"ckptkit.signature","format":"x"}', "stands twice in one object"),
    "tied_one": (document(tied=[["a"]]), "no group of keys"),
    "tied_stranger": (document(tied=[["a", "z"]]), "no group of keys"),
    "tied_itself": (document(tied=[["a", "a"]]), "names a key of"),
    "tied_twice": (document(tied=[["a", "b"], ["b", "a"]]), "names a key of"),
    "tied_unlike": (
        document(
            tensors=[*tensor()["tensors"], {"key": "b", "shape": [3], "dtype": "float32"}], tied=[["a", "b"]]
        ),
        "their shapes or dtypes differ",
    ),
    "metadata_number": (document(metadata={"a": 1}), "metadata is no object of strings"),
    "root_number": (document(root=1), "root is neither a string nor null"),
    "roots_half": (
        '{"format":"ckptkit.signature","version":1,"tensors":[],"roots":[{"path":"","kind":"","tensors":1.5}]}',
        "tensors a number",
    ),
    "roots_inf": (
        '{"format":"ckptkit.signature","version":1,"tensors":[],"roots":[{"path":"","kind":"","tensors":1e400}]}',
        "the number 1e400 is beyond any double",
    ),
    "roots_text": (document(roots=["a"]), "roots holds a, which is no object"),
    "key_surrogate": (tensor(key=LONE), "a lone surrogate"),
    "metadata_surrogate": (document(metadata={"a": LONE}), "a lone surrogate"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_signature_is_one_error_that_says_why(name: str, tmp_path: Path) -> None:
    content, words = BROKEN[name]
    raw = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(FormatError) as caught:
        ckptkit.signature(tmp_path / "a.json")
    assert words in caught.value.message
    assert caught.value.file == str(tmp_path / "a.json")


def test_text_that_no_file_can_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    weights = {"w": torch.ones(1)}
    for target in ("a.json", "a.safetensors", "folder"):
        with pytest.raises(PlanError, match="lone surrogate"):
            ckptkit.save({LONE: torch.ones(1)}, tmp_path / target)
        with pytest.raises(PlanError, match="the metadata entry 'note' holds a lone surrogate"):
            ckptkit.save(weights, tmp_path / target, metadata={"note": LONE})
    assert not list(tmp_path.iterdir())


def test_dtypes_that_no_file_holds_can_be_named(tmp_path: Path) -> None:
    """A model with quantised weights has a signature, though ckptkit writes none of its tensors."""
    state = {"q": torch.empty(3, dtype=torch.uint3)}
    ckptkit.save(state, tmp_path / "a.json")
    assert ckptkit.signature(tmp_path / "a.json")["q"] == TensorInfo((3,), "uint3")
    assert ckptkit.signature(state).nbytes == 3
    for target in ("a.safetensors", "a.pt"):
        with pytest.raises(FormatError, match="which no checkpoint format holds"):
            ckptkit.save(state, tmp_path / target)
