"""Casts between all dtypes: as torch casts, and what is lost is counted exactly."""

from __future__ import annotations

from itertools import product
from math import inf, isfinite, nan, trunc
from pathlib import Path

import pytest
import torch

import ckptkit
from ckptkit.dtypes import DTYPES
from ckptkit.errors import CastError, PlanError
from ckptkit.expr.casting import Losses, cast

CASTABLE = [name for name, known in DTYPES.items() if known.torch and known.kind != "other"]
INTEGERS = [name for name in CASTABLE if DTYPES[name].kind in ("int", "uint")]
FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e5m2"]
pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf", "error:Casting complex")


def of(name: str, values: list[int]) -> torch.Tensor:
    """A tensor of any integers that its dtype holds."""
    signed = [value - 2**64 if value >= 2**63 else value for value in values]
    whole = torch.tensor(signed, dtype=torch.int64)
    return whole.view(torch.uint64) if name == "uint64" else whole.to(getattr(torch, name))


def edges(name: str) -> list[int]:
    limits = torch.iinfo(getattr(torch, name))
    return [limits.min, limits.max, 0, 1, limits.max // 2]


@pytest.mark.parametrize("before", CASTABLE)
def test_any_cast_gives_what_torch_gives_or_a_cast_error(before: str) -> None:
    """G3, G19."""
    for after, allow in product(CASTABLE, (True, False)):
        check_cast(before, after, allow)


def check_cast(before: str, after: str, allow: bool) -> None:
    kind = DTYPES[before].kind
    if kind in ("int", "uint"):
        tensor = of(before, edges(before))
    elif kind == "bool":
        tensor = torch.tensor([True, False])
    elif kind == "complex":
        tensor = torch.tensor([0, 1, 60000, 1e-8]).to(getattr(torch, before))
    else:
        tensor = torch.tensor([0, 1, -2.5, inf, nan, 1e38, 1e-38]).to(getattr(torch, before))
    try:
        found = cast(tensor, after, allow, Losses())
    except CastError as error:
        assert not allow and "allow_overflow" in str(error)  # noqa: PT017 - either is right
        return
    target = getattr(torch, after)
    real = tensor.real if kind == "complex" and DTYPES[after].kind not in ("complex", "bool") else tensor
    expected = real.to(target)
    assert found.dtype is target
    assert torch.equal(found.contiguous().view(torch.uint8), expected.contiguous().view(torch.uint8))


@pytest.mark.parametrize(("before", "after"), list(product(INTEGERS, INTEGERS)))
def test_integers_that_another_integer_dtype_cannot_hold_are_counted(before: str, after: str) -> None:
    """G19."""
    limits, losses = torch.iinfo(getattr(torch, after)), Losses()
    cast(of(before, edges(before)), after, True, losses)
    assert losses.overflowed == sum(not limits.min <= value <= limits.max for value in edges(before))


@pytest.mark.parametrize(("before", "after"), list(product(FLOATS, INTEGERS)))
def test_floats_that_an_integer_dtype_cannot_hold_are_counted(before: str, after: str) -> None:
    """G19: at the very bounds too, which few floats hold."""
    limits, losses = torch.iinfo(getattr(torch, after)), Losses()
    wanted = [
        limits.max,
        limits.max + 1,
        limits.min,
        limits.min - 1,
        limits.max // 2,
        -0.5,
        0.5,
        2.0**70,
        nan,
        inf,
    ]
    tensor = torch.tensor([float(value) for value in wanted], dtype=torch.float64).to(getattr(torch, before))
    cast(tensor, after, True, losses)
    values = tensor.double().tolist()
    assert losses.overflowed == sum(
        not (isfinite(value) and limits.min <= trunc(value) <= limits.max) for value in values
    )


@pytest.mark.parametrize("before", ["uint16", "uint32", "uint64", "int64"])
def test_integers_beyond_a_small_float_are_counted_and_shown(before: str) -> None:
    tensor, losses = of(before, [0, 65504, 65535]), Losses()
    assert cast(tensor, "float16", True, losses).tolist() == [0, 65504, inf]
    assert losses.overflowed == 1
    with pytest.raises(
        CastError, match=f"^1 value of {before} cannot be held by float16 .the largest is 65535, "
    ):
        cast(tensor, "float16", False)


def test_an_imaginary_part_is_not_dropped_unasked(tmp_path: Path) -> None:
    """G19: nothing is lost without a word."""
    tensor = torch.tensor([1, 2 + 1j, 3 - 2j])
    with pytest.raises(
        CastError, match="^2 values of complex64 have an imaginary part, which float32 cannot hold"
    ):
        cast(tensor, "float32", False)
    assert cast(tensor[:1], "float32", False).tolist() == [1]
    losses = Losses()
    assert cast(tensor.conj(), "int8", True, losses).tolist() == [1, 2, 3]
    assert losses == Losses(flattened=2)
    torch.save({"w": tensor}, tmp_path / "f.pt")
    rules = [{"op": "cast", "dtype": "float32", "keys": ["w"], "allow_overflow": True}]
    written = ckptkit.save(ckptkit.remap(tmp_path / "f.pt", rules), tmp_path / "o.safetensors")
    assert written.notes == ("casting: 2 values lost their imaginary part in 1 tensor (w)",)


def test_complex_numbers_overflow_and_vanish_by_their_parts() -> None:
    losses = Losses()
    found = cast(
        torch.tensor([1e300 + 1j, 1e-300 + 1e300j], dtype=torch.complex128), "complex64", True, losses
    )
    assert (found.real.tolist(), losses) == ([inf, 0], Losses(overflowed=2, vanished=1))


@pytest.mark.parametrize(("before", "after"), [("F4", "float32"), ("float4_e2m1fn_x2", "int8")])
def test_packed_numbers_are_not_cast(before: str, after: str) -> None:
    """G3."""
    signature = ckptkit.Signature({"w": ckptkit.TensorInfo((2,), before)})
    with pytest.raises(PlanError, match="torch has no dtype|packs several numbers into one element"):
        ckptkit.plan(signature, [{"op": "cast", "dtype": after, "keys": ["w"]}])
