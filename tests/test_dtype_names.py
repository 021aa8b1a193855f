"""dtypes as people write them are understood, and a misspelt one is never taken for another kind of number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import ckptkit
from ckptkit.__main__ import main
from ckptkit.dtype_names import CASTABLE, family_of, named_dtype
from ckptkit.dtypes import DTYPES, FROM_SAFETENSORS

WRITTEN = {
    "float64": ["fp64", "double", "F64", "f64", "torch.double", "np.float64", "<f8"],
    "float32": ["fp32", "float", "f32", "F32", "FP32", "Float32", "single", "torch.float", "<f4"],
    "float16": ["fp16", "half", "f16", "F16", "torch.half", "<f2"],
    "bfloat16": ["bf16", "bfloat", "BF16", "BFloat16", "torch.bfloat16"],
    "float8_e4m3fn": ["fp8", "float8", "fp8_e4m3", "F8_E4M3", "e4m3", "e4m3fn", "float8_e4m3"],
    "float8_e5m2": ["fp8_e5m2", "F8_E5M2", "e5m2"],
    "int64": ["long", "I64", "i64", "int_", "torch.long", "<i8"],
    "int32": ["int", "I32", "i32", "torch.int"],
    "int16": ["short", "I16", "i16"],
    "int8": ["I8", "char", "|i1"],
    "uint8": ["U8", "|u1"],
    "bool": ["bool_", "BOOL", "|b1", "np.bool_"],
    "complex64": ["cfloat", "C64"],
}


@pytest.mark.parametrize(("name", "spelling"), [(n, s) for n, all_of in WRITTEN.items() for s in all_of])
def test_what_everybody_writes_is_understood_wherever_a_dtype_is_given(name: str, spelling: str) -> None:
    rule = ckptkit.RemapConfig(rules=[{"op": "cast", "dtype": spelling}]).rules[0]
    assert rule.model_dump()["dtype"] == name
    assert ckptkit.LoadConfig(dtype=spelling).dtype == name


def test_every_dtype_of_torch_and_every_code_of_safetensors_means_itself() -> None:
    for short in ("half", "float", "double", "short", "int", "long", "chalf", "cfloat", "cdouble", *CASTABLE):
        dtype = getattr(torch, short)
        assert named_dtype(short) == named_dtype(str(dtype)) == str(dtype).removeprefix("torch.")
        assert ckptkit.LoadConfig(dtype=dtype).dtype == str(dtype).removeprefix("torch.")
    for code, dtype in FROM_SAFETENSORS.items():
        if dtype.name in CASTABLE:
            assert named_dtype(code) == dtype.name


@pytest.mark.parametrize("given_as", [np.float16, np.dtype("float16"), np.dtype("float16").str, "np.half"])
def test_a_dtype_of_numpy_is_taken_itself(given_as: object) -> None:
    rules = [{"op": "cast", "dtype": given_as}]
    assert ckptkit.remap({"a": torch.ones(2)}, rules)["a"].dtype == torch.float16


def test_the_command_takes_short_names(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert main(["remap", str(tmp_path / "a.safetensors"), str(tmp_path / "b.pt"), "--cast", "bf16"]) == 0
    assert torch.load(tmp_path / "b.pt", weights_only=True)["a"].dtype == torch.bfloat16


@pytest.mark.parametrize("unclear", ["i8", "u8", "f8", "f4", "byte", "uint"])
def test_a_name_with_two_meanings_is_refused_with_both(unclear: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^the dtype '{unclear}' can be .*(NumPy|torch).*; write the name of the one"
    ):
        named_dtype(unclear)


def test_the_error_names_the_nearest_and_all() -> None:
    with pytest.raises(ckptkit.ConfigError) as caught:
        ckptkit.LoadConfig(dtype="flaot32")
    assert str(caught.value) == (
        f"dtype: unknown dtype 'flaot32'; did you mean 'float32'? Known are {', '.join(CASTABLE)}, and short names such "
        "as fp32, half and bf16"
    )


@given(word=st.sampled_from([s for v in WRITTEN.values() for s in v] + list(CASTABLE)), data=st.data())
def test_a_suggestion_is_of_the_family_that_the_word_begins_with(word: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(word)))
    drop = data.draw(st.integers(0, 2))
    wrong = word[:place] + data.draw(st.text("0123468_abefiotu", max_size=2)) + word[place + drop :]
    try:
        named_dtype(wrong)
    except ValueError as error:
        _, asks, rest = str(error).partition("did you mean '")
        if asks:
            assert DTYPES[rest.partition("'")[0]].kind == family_of(wrong.lower().rpartition(".")[2])


def test_the_family_of_every_spelling_is_that_of_its_dtype() -> None:
    for name, spellings in WRITTEN.items():
        for spelling in (name, *spellings):
            word = spelling.lower().rpartition(".")[2]
            assert word[0] in "<|" or family_of(word) == DTYPES[name].kind, spelling
