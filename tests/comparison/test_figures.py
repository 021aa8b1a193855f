"""Figures of two tensors: as torch's plain formulas have them, whatever the dtype and the block size."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.comparison.figures import ELEMENTS, compare
from ckptkit.diff_report import ValueChange

from ..strategies import IN_TORCH, NARROW, bits, tensors

NUMBERS = [dtype for dtype in IN_TORCH if dtype is not torch.float4_e2m1fn_x2]


def figures(a: torch.Tensor, b: torch.Tensor, elements: int = ELEMENTS) -> ValueChange:
    """Compare in memory, with chunks of a size that suits no element."""
    names = (str(a.dtype).removeprefix("torch."), str(b.dtype).removeprefix("torch."))
    raw = [[whole[i : i + 5] for i in range(0, len(whole), 5)] for whole in (bits(a), bits(b))]
    return compare("k", names, raw[0], raw[1], elements)


def widened(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return (tensor.to(torch.float32) if tensor.dtype in NARROW else tensor).to(torch.float64)


def near(found: Any, expected: float) -> bool:
    if isinstance(found, float | int) and math.isnan(expected):
        return math.isnan(found)
    return bool(found == pytest.approx(expected, rel=1e-9, abs=1e-12))


@st.composite
def pairs(draw: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of one shape, often of other dtypes, with arbitrary bits."""
    a = draw(tensors(NUMBERS))
    width = torch.empty(0, dtype=(dtype := draw(st.sampled_from([a.dtype, *NUMBERS])))).element_size()
    raw = draw(st.binary(min_size=a.numel() * width, max_size=a.numel() * width))
    raw = bytes(byte & 1 for byte in raw) if dtype is torch.bool else raw
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
    return a, flat.view(dtype).reshape(a.shape)


@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 999),
    dtype=st.sampled_from(NUMBERS),
    elements=st.integers(1, 50),
)
def test_figures_are_those_of_the_plain_formulas(
    size: int, seed: int, dtype: torch.dtype, elements: int
) -> None:
    torch.manual_seed(seed)
    a, b = ((torch.rand(size, dtype=torch.float64) * 9 + 1).to(torch.float32).to(dtype) for _ in "ab")
    found = figures(a, b, elements)
    x, y = widened(a), widened(b)
    assert near(found.max_abs, float((x - y).abs().max()))
    assert near(found.rel_l2, float(torch.linalg.vector_norm(x - y) / torch.linalg.vector_norm(x)))
    product = torch.sum(x.conj() * y).real / (torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y))
    assert near(found.cosine, float(product))
    assert found.equal == (bits(a) == bits(b))


@given(pair=pairs(), elements=st.integers(1, 9))
def test_figures_do_not_depend_on_the_size_of_blocks(pair: tuple[Any, Any], elements: int) -> None:
    whole, parts = figures(*pair), figures(*pair, elements)
    assert (whole.equal, whole.nan, whole.inf) == (parts.equal, parts.nan, parts.inf)
    for name in ("max_abs", "rel_l2", "cosine"):
        assert near(getattr(parts, name), getattr(whole, name)), name


@given(pair=pairs())
def test_not_finite_values_are_counted_and_show_in_every_threshold(pair: tuple[Any, Any]) -> None:
    found = figures(*pair)
    x, y = (widened(tensor) for tensor in pair)
    assert found.nan == (int(x.isnan().sum()), int(y.isnan().sum()))
    assert found.inf == (int(x.isinf().sum()), int(y.isinf().sum()))
    alike = (x == y) | (x.isnan() & y.isnan())
    if bool((~(x.isfinite() & y.isfinite()) & ~alike).any()):
        assert not (found.max_abs is not None and math.isfinite(found.max_abs))
        assert not found.equal


@given(tensor=tensors(IN_TORCH))
def test_a_tensor_is_equal_to_itself_bit_for_bit(tensor: torch.Tensor) -> None:
    found = figures(tensor, tensor.clone())
    assert found.equal
    if tensor.dtype is not torch.float4_e2m1fn_x2:
        assert (found.max_abs, found.rel_l2, found.cosine) == (0, 0, 1)


def test_values_that_float64_cannot_square_keep_their_figures() -> None:
    a, b = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([4.0, 3.0], dtype=torch.float64)
    for scale in (1e300, 1e-300, 1e-315):
        found = figures(a * scale, b * scale, 1)
        assert near(found.cosine, 0.96)
        assert near(found.rel_l2, math.sqrt(2) / 5)
        assert near((found.max_abs or 0) / scale, 1.0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64])
def test_neighbours_among_large_integers_differ_by_one(dtype: torch.dtype) -> None:
    a = torch.tensor([2**62, 7]).to(dtype)
    b = torch.tensor([2**62 + 1, 7]).to(dtype)
    assert figures(a, b).max_abs == 1
    assert not figures(a, b).equal


def test_the_edges_of_the_formulas_are_as_documented() -> None:
    zero, one = torch.zeros(2), torch.ones(2)
    inf, nan = torch.tensor([math.inf, 1.0]), torch.tensor([math.nan, 1.0])

    def shown(a: torch.Tensor, b: torch.Tensor) -> tuple[Any, ...]:
        found = figures(a, b).to_json()
        return found["equal"], found["max_abs"], found["rel_l2"], found["cosine"]

    assert shown(zero, zero) == (True, 0, 0, 1)
    assert shown(zero, -zero) == (False, 0, 0, 1)
    assert shown(zero, one) == (False, 1, "inf", "nan")
    assert shown(one, zero) == (False, 1, 1, "nan")
    assert shown(one, inf) == (False, "inf", "inf", "nan")
    assert shown(one, nan) == (False, "nan", "nan", "nan")
    assert shown(inf, inf + 0) == (True, 0, 0, 1)
    assert shown(nan, nan.double()) == (True, 0, 0, 1)
    assert shown(one.half(), one) == (True, 0, 0, 1)
    assert shown(torch.zeros(0), torch.zeros(0)) == (True, 0, 0, 1)


def test_dtypes_without_numbers_are_compared_as_bytes() -> None:
    raw = b"\x01\x02\x03"
    assert compare("k", ("F6_E2M3", "F6_E2M3"), [raw], [raw[:1], raw[1:]]) == ValueChange("k", True)
    assert compare("k", ("F6_E2M3", "F6_E2M3"), [raw], [b"\x01\x02\x04"]) == ValueChange("k", False)
    assert compare("k", ("F6_E2M3", "F6_E3M2"), [raw], [raw]) == ValueChange("k", False)
