"""Tensors that share memory load as if the checkpoint had been copied first, or are refused before anything changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit

from .photograph import Photograph

SIZE = 24  # elements of the storage that everything looks into


@st.composite
def looks(
    draw: st.DrawFn, shape: tuple[int, ...] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shape, strides and offset of a view into a storage of `SIZE` elements, which may overlap itself."""
    if shape is None:
        shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    stride = tuple(draw(st.integers(1, 4)) for _ in shape)
    reach = sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return shape, stride, draw(st.integers(0, SIZE - 1 - reach))


class Views(nn.Module):
    def __init__(self, flat: torch.Tensor, places: list[Any]) -> None:
        super().__init__()
        for number, place in enumerate(places):
            self.register_parameter(f"p{number}", nn.Parameter(flat.as_strided(*place)))


def bytes_of(model: nn.Module) -> dict[str, list[float]]:
    return {key: value.flatten().tolist() for key, value in model.state_dict().items()}


@given(places=st.lists(looks(), min_size=1, max_size=4), data=st.data())
def test_parameters_in_one_storage_get_their_values_or_nothing_changes(places: list[Any], data: Any) -> None:
    model = Views(torch.arange(float(SIZE)), places)
    agreeing = data.draw(st.booleans())
    other = torch.arange(100.0, 100.0 + SIZE)
    state = {
        key: other.as_strided(*place).clone() if agreeing else torch.rand(place[0])
        for key, place in zip(model.state_dict(), places, strict=True)
    }
    before = Photograph(model)
    if not ckptkit.check(model, state).ok:
        with pytest.raises(ckptkit.IncompatibleKeysError, match="different"):
            ckptkit.load(model, state)
        assert not agreeing
        assert not Photograph(model).different(before)
    else:
        ckptkit.load(model, state)
        assert bytes_of(model) == {key: value.flatten().tolist() for key, value in state.items()}


@given(data=st.data(), assign=st.booleans(), dtype=st.sampled_from(["auto", "float64"]))
def test_a_source_in_the_models_memory_loads_as_its_copy_does(data: Any, assign: bool, dtype: str) -> None:
    """The model has views that do not overlap; the checkpoint any views of the same storage."""
    flat = torch.arange(float(SIZE))
    rows = [((2, 3), (3, 1), 0), ((3, 2), (1, 3), 6), ((2, 3), (3, 1), 12), ((6,), (1,), 18)]
    model = Views(flat, rows)
    places = [data.draw(looks(shape)) for shape, _, _ in rows]
    state: dict[str, torch.Tensor] = {f"p{i}": flat.as_strided(*place) for i, place in enumerate(places)}
    expected = {key: value.flatten().tolist() for key, value in state.items()}
    source = data.draw(st.sampled_from([state, ckptkit.open(state)]))
    ckptkit.load(model, source, {"assign": assign, "dtype": dtype})
    assert bytes_of(model) == expected


SWAP = [
    {"op": "rename", "pattern": r"^0\.", "replacement": "tmp."},
    {"op": "rename", "pattern": r"^1\.", "replacement": "0."},
    {"op": "rename", "pattern": r"^tmp\.", "replacement": "1."},
]


@pytest.mark.parametrize("how", ["module", "state_dict", "opened", "planned", "transposed", "cast"])
def test_a_model_can_be_loaded_from_itself_with_its_parts_exchanged(how: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    old = {key: value.clone() for key, value in model.state_dict().items()}
    rules: list[dict[str, Any]] = list(SWAP)
    sources = {
        "module": model,
        "state_dict": model.state_dict(),
        "opened": ckptkit.open(model),
        "planned": ckptkit.remap(model, SWAP),
        "transposed": model,
        "cast": model,
    }
    if how == "cast":
        rules.append({"op": "cast", "keys": ["*"], "dtype": "float64"})
    if how == "transposed":
        rules.append({"op": "transpose", "keys": ["*.weight"], "dims": [0, 1]})
    assert (
        ckptkit.load(model, sources[how], {"rules": [] if how == "planned" else rules}).coverage.parameters
        == 1.0
    )
    for a, b in (("0", "1"), ("1", "0")):
        weight = old[f"{a}.weight"].T if how == "transposed" else old[f"{a}.weight"]
        assert torch.equal(model.get_parameter(f"{b}.weight"), weight)
        assert torch.equal(model.get_parameter(f"{b}.bias"), old[f"{a}.bias"])


def test_a_hook_that_hands_out_the_models_own_parameters_gives_what_they_were() -> None:
    def exchange(module: Any, state: Any, prefix: str, *_: Any) -> None:
        state[prefix + "0.weight"], state[prefix + "1.weight"] = module[1].weight, module[0].weight

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    old = {key: value.clone() for key, value in model.state_dict().items()}
    model.register_load_state_dict_pre_hook(exchange)
    ckptkit.load(model, {key: torch.zeros_like(value) for key, value in old.items()})
    assert torch.equal(model.get_parameter("0.weight"), old["1.weight"])
    assert torch.equal(model.get_parameter("1.weight"), old["0.weight"])


def test_what_is_to_keep_its_values_is_not_changed_through_another_name() -> None:
    flat = torch.zeros(6)
    model = Views(flat, [((4,), (1,), 0), ((4,), (1,), 2)])
    before = Photograph(model)
    with pytest.raises(
        ckptkit.IncompatibleKeysError, match="'p0', 'p1' overlap in memory, .* load with assign"
    ):
        ckptkit.load(
            model,
            {"p0": torch.ones(4), "p1": torch.ones(4)},
            {"adapt": [{"keys": ["p1"], "method": "reinit"}]},
        )
    assert not Photograph(model).different(before)
