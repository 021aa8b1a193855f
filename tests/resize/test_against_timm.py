"""The adapters give what timm's own functions give on the same tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .support import adapted
from real_models import import_timm

import_timm()
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table  # noqa: E402
from timm.layers.pos_embed import resample_abs_pos_embed_nhwc  # noqa: E402
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple  # noqa: E402
from timm.models._manipulate import adapt_input_conv  # noqa: E402

SIDES = st.integers(1, 9)
GRIDS = st.tuples(SIDES, SIDES)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=4e-6 if a.dtype == torch.float32 else 1e-2)


@settings(deadline=None, max_examples=60)
@given(GRIDS, GRIDS, st.integers(0, 3), st.sampled_from(["bicubic", "bilinear"]), st.booleans(), DTYPES)
def test_position_embeddings_are_resampled_as_timm_does_it(
    grid: tuple[int, int],
    new: tuple[int, int],
    prefix: int,
    mode: str,
    antialias: bool,
    dtype: torch.dtype,
) -> None:
    before, after = (1, grid[0] * grid[1] + prefix, 4), (1, new[0] * new[1] + prefix, 4)
    if grid == new:
        return
    table = values(*before, dtype=dtype)
    result = adapted(
        table,
        after,
        method="interpolate",
        grid=list(grid),
        target_grid=list(new),
        mode=mode,
        antialias=antialias,
    )
    wanted = resample_abs_pos_embed(table, list(new), list(grid), prefix, mode, antialias)
    assert torch.equal(result, wanted)


@pytest.mark.parametrize(
    ("before", "after", "grid"), [(197, 577, 24), (197, 50, 7), (198, 402, 20), (196, 256, 16)]
)
def test_a_square_grid_and_its_prefix_tokens_are_proved(before: int, after: int, grid: int) -> None:
    table = values(1, before, 8)
    prefix = after - grid * grid
    wanted = resample_abs_pos_embed(table, [grid, grid], num_prefix_tokens=prefix)
    assert torch.equal(adapted(table, (1, after, 8), method="interpolate"), wanted)
    assert torch.equal(adapted(table[0], (after, 8), method="interpolate"), wanted[0])


def test_tables_with_the_grid_in_their_shape_are_resampled_as_timm_does_it() -> None:
    table = values(1, 14, 14, 6)
    wanted = resample_abs_pos_embed_nhwc(table, [20, 17])
    assert torch.equal(adapted(table, (1, 20, 17, 6), method="interpolate"), wanted)
    first = adapted(table.permute(0, 3, 1, 2), (1, 6, 20, 17), method="interpolate")
    assert torch.equal(first.permute(0, 2, 3, 1), wanted)


def rows(window: tuple[int, int], extra: int = 0) -> int:
    return (2 * window[0] - 1) * (2 * window[1] - 1) + extra


@settings(deadline=None, max_examples=60)
@given(GRIDS, GRIDS, st.integers(0, 3), DTYPES)
def test_relative_position_tables_are_resized_as_timm_does_it(
    window: tuple[int, int], new: tuple[int, int], extra: int, dtype: torch.dtype
) -> None:
    if window == new:
        return
    table = values(rows(window, extra), 3, dtype=dtype)
    shape = (rows(new, extra), 3)
    result = adapted(table, shape, method="rel_pos_table", grid=list(window), target_grid=list(new))
    close(result, resize_rel_pos_bias_table(table, new, shape, window))


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, st.sampled_from([0, 3]))
def test_square_windows_are_proved(old: int, new: int, extra: int) -> None:
    if old == new or min(old, new) < 3:  # tables of 1, 4, 9 and 12 rows can be read in two ways
        return
    table, shape = values(rows((old, old), extra), 3), (rows((new, new), extra), 3)
    close(adapted(table, shape, method="rel_pos_table"), resize_rel_pos_bias_table(table, (new, new), shape))
    bicubic = adapted(table, shape, method="rel_pos_table", mode="bicubic")
    close(bicubic, resize_rel_pos_bias_table_simple(table, (new, new), shape))


def test_tables_by_head_are_resized_as_timm_does_it() -> None:
    table = values(4, 13, 13)
    wanted = resize_rel_pos_bias_table(table, (12, 10), (4, 23, 19))
    close(adapted(table, (4, 23, 19), method="rel_pos_table"), wanted)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 14), st.integers(1, 3), DTYPES)
def test_three_input_channels_become_any_number_as_timm_does_it(
    channels: int, kernel: int, dtype: torch.dtype
) -> None:
    if channels == 3:
        return
    weight = values(5, 3, kernel, kernel, dtype=dtype)
    result = adapted(weight, (5, channels, kernel, kernel), method="input_channels")
    assert torch.equal(result, adapt_input_conv(channels, weight.clone()))


@pytest.mark.parametrize("groups", [2, 4, 16])
def test_a_stem_that_folds_pixels_into_channels_is_summed_in_groups_as_timm_does_it(groups: int) -> None:
    weight = values(5, 3 * groups, 2, 2)
    result = adapted(weight, (5, groups, 2, 2), method="input_channels", base_channels=3)
    assert torch.equal(result, adapt_input_conv(1, weight))


def models() -> list[Any]:
    big = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 4}
    return [(big, big | {"img_size": 112}), (big, big | {"img_size": 32}), (big, big | {"in_chans": 1})]


@pytest.mark.parametrize(("old", "new"), models())
def test_a_vision_transformer_takes_an_old_checkpoint_as_timms_own_filter_does(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    torch.manual_seed(0)
    state = VisionTransformer(**old).state_dict()
    model = VisionTransformer(**new)
    wanted = checkpoint_filter_fn(dict(state), model)
    if new.get("in_chans"):
        wanted["patch_embed.proj.weight"] = adapt_input_conv(1, state["patch_embed.proj.weight"])
    methods = {"pos_embed": "interpolate", "patch_embed.proj.weight": "input_channels"}
    changed = [key for key, value in model.state_dict().items() if value.shape != state[key].shape]
    assert changed
    for key in changed:
        result = adapted(state[key], tuple(model.state_dict()[key].shape), method=methods[key])
        assert torch.equal(result, wanted[key])
