"""Figures agree with torch's own, whatever the dtype, the strides and the size of the chunks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit.stats as module
from ckptkit.formats.memory import MemorySource
from ckptkit.stats import Stats, chunks, measure, of_chunks

from .strategies import FLOATS, IN_TORCH, tensors


def figures(tensor: torch.Tensor) -> Stats:
    return of_chunks(chunks(tensor))


@given(tensors(FLOATS), st.integers(1, 5))
def test_figures_are_those_of_torch_over_the_finite_values(tensor: torch.Tensor, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", size)
        found = figures(tensor)
    every = tensor.to(torch.float64).reshape(-1)
    finite = every[every.isfinite()]
    assert (found.nan, found.inf) == (int(every.isnan().sum()), int(every.isinf().sum()))
    if not finite.numel():
        assert (found.min, found.max, found.mean, found.std) == (None, None, None, None)
        return
    assert (found.min, found.max) == (finite.min().item(), finite.max().item())
    scale = float(finite.abs().max()) or 1.0
    scaled = (finite / scale).tolist()  # squares of the largest float64 overflow
    if scale < 1e150:
        assert found.mean is not None
        assert found.std is not None
        mean = math.fsum(scaled) / len(scaled)
        assert math.isclose(found.mean / scale, mean, rel_tol=1e-9, abs_tol=1e-12)
        if len(scaled) > 1 and scale > 1e-150:
            std = math.sqrt(math.fsum((x - mean) ** 2 for x in scaled) / (len(scaled) - 1))
            assert math.isclose(found.std / scale, std, rel_tol=1e-7, abs_tol=1e-12)


@given(tensors(IN_TORCH))
def test_every_dtype_has_figures_or_says_that_it_has_none(tensor: torch.Tensor) -> None:
    source = MemorySource({"k": tensor})
    ((key, found),) = measure(source, source.signature)
    assert key == "k"
    if tensor.dtype is torch.float4_e2m1fn_x2:
        assert found is None
    else:
        assert found is not None
        assert (found.min is None) == (found.nan + found.inf == tensor.numel())


def test_integers_keep_all_their_digits() -> None:
    big = torch.tensor([2**63 - 1, 2**63 - 3])
    assert (figures(big).min, figures(big).max) == (2**63 - 3, 2**63 - 1)
    unsigned = torch.tensor([1, -1]).view(torch.uint64)
    assert (figures(unsigned).min, figures(unsigned).max) == (1, 2**64 - 1)
    assert (figures(torch.tensor([True, False])).max, figures(torch.tensor([True, False])).mean) == (1, 0.5)


def test_a_large_mean_costs_no_digits_of_the_deviation() -> None:
    values = torch.tensor([1e9 + 1, 1e9 + 2, 1e9 + 3], dtype=torch.float64)
    assert figures(values).std == 1.0


def test_strided_tensors_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 10)
    tensor = torch.arange(600.0).reshape(3, 10, 20).transpose(1, 2)
    parts = list(chunks(tensor))
    assert max(part.numel() for part in parts) <= 10
    assert sorted(torch.cat(parts).tolist()) == list(range(600))


@pytest.mark.parametrize(
    "tensor", [torch.arange(600)[::2], torch.arange(600).reshape(300, 2)[:, 1:], torch.ones(1).expand(300)]
)
def test_flat_and_tall_strided_tensors_are_read_in_few_parts(
    monkeypatch: pytest.MonkeyPatch, tensor: torch.Tensor
) -> None:
    """G5: not one for each element."""
    monkeypatch.setattr(module, "CHUNK", 10)
    parts = list(chunks(tensor))
    assert len(parts) == 30
    assert torch.equal(torch.cat(parts), tensor.reshape(-1))


def test_objects_have_no_figures_and_progress_counts_bytes() -> None:
    state = {"a": torch.ones(3), "s": {"x": 1}}
    seen: list[int] = []
    source = MemorySource(state)
    found = dict(measure(source, source.signature, seen.append))
    assert found["s"] is None
    assert seen == [12]
