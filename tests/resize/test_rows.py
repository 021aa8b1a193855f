"""crop, pad, repeat and inflate keep what they promise to keep."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.config.load import LoadConfig
from ckptkit.errors import ConfigError, PlanError

from .support import adapted

SIDE = st.integers(1, 6)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])


def values(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@given(SIDE, SIDE, SIDE, DTYPES)
def test_crop_undoes_pad_whatever_the_fill(rows: int, columns: int, more: int, dtype: torch.dtype) -> None:
    table = values((rows, columns), dtype)
    for fill in ("zero", "mean", 0.5):
        longer = adapted(table, (rows + more, columns), method="pad", fill=fill)
        assert torch.equal(longer[:rows], table)
        assert torch.equal(adapted(longer, (rows, columns), method="crop"), table)


@given(SIDE, SIDE, SIDE, DTYPES)
def test_pad_fills_with_zero_a_number_or_the_mean_of_the_rows(
    rows: int, columns: int, more: int, dtype: torch.dtype
) -> None:
    table = values((rows, columns), dtype)
    target = (rows + more, columns)
    assert not adapted(table, target, method="pad", fill="zero")[rows:].any()
    assert (adapted(table, target, method="pad", fill=0.25)[rows:] == 0.25).all()
    work = table if dtype is torch.float64 else table.float()
    mean = adapted(table, target, method="pad", fill="mean")[rows:]
    assert torch.equal(mean, work.mean(0).to(dtype).expand(more, columns))


@given(SIDE, SIDE, st.integers(2, 4), DTYPES)
def test_repeat_gives_the_rows_again_in_their_order(
    rows: int, columns: int, times: int, dtype: torch.dtype
) -> None:
    table = values((rows, columns), dtype)
    result = adapted(table, (rows * times, columns), method="repeat")
    assert all(torch.equal(part, table) for part in result.split(rows))


@given(SIDE, SIDE, SIDE)
def test_several_dimensions_change_only_when_they_are_named(rows: int, columns: int, more: int) -> None:
    table = values((rows, columns), torch.float32)
    target = (rows + more, columns + more)
    with pytest.raises(PlanError, match=r"dimension 1 differs too .* give dims: \[0, 1\]"):
        adapted(table, target, method="pad", fill="zero")
    both = adapted(table, target, method="pad", fill="zero", dims=[0, 1])
    assert torch.equal(both[:rows, :columns], table)
    assert both.count_nonzero() == table.count_nonzero()


@given(SIDE, SIDE, st.integers(1, 5))
def test_an_inflated_kernel_answers_a_still_video_as_the_image_kernel_did(
    inputs: int, side: int, steps: int
) -> None:
    kernel = values((2, inputs, side, side), torch.float64)
    image = values((1, inputs, side + 2, side + 2), torch.float64)
    video = image[:, :, None].expand(-1, -1, steps, -1, -1)
    wanted = torch.nn.functional.conv2d(image, kernel)
    for mode in ("average", "center"):
        inflated = adapted(kernel, (2, inputs, steps, side, side), method="inflate", mode=mode)
        answer = torch.nn.functional.conv3d(video, inflated)[:, :, 0]
        torch.testing.assert_close(answer, wanted)


def test_integers_and_masks_are_never_resized() -> None:
    with pytest.raises(PlanError, match="int64 tensors cannot be resized, since indices"):
        adapted(torch.arange(4), (8,), method="pad", fill="zero")


def test_every_problem_of_an_adapt_entry_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LoadConfig.parse(
            {"adapt": [{"keys": ["a"], "method": "pad"}, {"keys": ["b"], "method": "crop", "grid": [2, 2]}]}
        )
    assert [(p.location, p.message) for p in caught.value.problems] == [
        ("adapt.0.fill", "pad needs it: zero, mean or a number"),
        ("adapt.1.grid", "crop does not take it; it takes dims"),
    ]
