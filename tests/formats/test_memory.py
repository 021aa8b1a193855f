"""State_dicts and modules in memory: their bytes, their ties, and what has no bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given

import ckptkit
from ckptkit.errors import FormatError
from ckptkit.formats.base import Item
from ckptkit.formats.memory import MemorySource, module_state
from ckptkit.formats.tensor_bytes import item_bytes
from ckptkit.signatures import OBJECT

from ..strategies import IN_TORCH, bits, state_dicts


def read(source: MemorySource, key: str) -> bytes:
    view = source.view(key)
    item = Item(key, source.signature[key], source, view)
    return b"".join(bytes(chunk) for chunk in item_bytes(item))


@given(state=state_dicts(dtypes=IN_TORCH))
def test_the_bytes_of_every_view_are_those_of_its_tensor(state: dict[str, torch.Tensor]) -> None:
    source = MemorySource(state)
    assert {key: read(source, key) for key in source.signature} == {k: bits(v) for k, v in state.items()}


@given(state=state_dicts(dtypes=IN_TORCH))
def test_keys_are_tied_exactly_when_writing_to_one_shows_in_all_of_the_other(
    state: dict[str, torch.Tensor],
) -> None:
    def place(tensor: torch.Tensor) -> Any:
        return (
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.shape,
            tensor.stride(),
            tensor.dtype,
        )

    groups: dict[Any, list[str]] = {}
    for key, tensor in state.items():
        if tensor.numel():
            groups.setdefault(place(tensor), []).append(key)
    expected = {frozenset(keys) for keys in groups.values() if len(keys) > 1}
    assert {frozenset(group) for group in MemorySource(state).signature.tied} == expected


def test_reading_neither_copies_nor_changes_the_state() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    source = MemorySource({"w": weight, "part": weight[:, 1], "t": weight.t()})
    assert source.tensor("w").data_ptr() == weight.data_ptr()
    assert len({source.view(key).storage.id for key in source.signature}) == 1
    assert read(source, "part") == bits(torch.tensor([1.0, 4.0]))
    assert read(source, "t") == bits(weight.t())


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(3, 2)
        self.head = torch.nn.Linear(2, 3, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("same", self.embed.weight.detach())
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("void", torch.empty(0))

    def get_extra_state(self) -> Any:
        return {"step": 3}

    def set_extra_state(self, state: Any) -> None:
        self.step = state["step"]


def test_a_module_is_its_state_dict_with_ties_versions_and_extra_state() -> None:
    module = Tied()
    source = MemorySource(module_state(module))
    assert list(source.signature) == list(module.state_dict())
    assert source.signature.tied == (("same", "embed.weight", "head.weight"),)
    assert source.signature["_extra_state"] == OBJECT
    assert source.value("_extra_state") == {"step": 3}
    assert source.state_metadata is not None
    assert source.state_metadata["embed"] == {"version": 1}
    assert not source.tensor("embed.weight").requires_grad


def test_on_meta_identity_ties_and_there_are_no_bytes() -> None:
    with torch.device("meta"):
        source = MemorySource(module_state(Tied()))
    # A detached alias on meta has no address that could tell; the shared parameter is the same object.
    assert ("embed.weight", "head.weight") in source.signature.tied
    with pytest.raises(FormatError, match="'embed.weight' is a meta tensor: it has a shape but no data"):
        source.view("embed.weight")


def test_a_tensor_with_more_dimensions_than_strides_allow_is_still_exact() -> None:
    state = {
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "flipped": torch.arange(6.0).reshape(2, 3).flip(0),
        "windows": torch.arange(5.0).unfold(0, 3, 1),
        "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
        "zero": torch.empty(2, 0, 3).transpose(0, 2),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    source = MemorySource(state)
    assert {key: read(source, key) for key in state} == {key: bits(value) for key, value in state.items()}


def test_subclasses_whose_bytes_are_not_their_values_are_refused() -> None:
    class Scaled(torch.Tensor):
        pass

    source = MemorySource({"w": torch.ones(2).as_subclass(Scaled), "p": torch.nn.Buffer(torch.ones(1))})
    with pytest.raises(FormatError, match="'w' is a Scaled, a subclass"):
        source.view("w")
    assert read(source, "p") == bits(torch.ones(1))


def test_opening_a_checkpoint_again_is_the_checkpoint_and_a_module_opens() -> None:
    checkpoint = ckptkit.open(torch.nn.Linear(2, 3))
    assert ckptkit.open(checkpoint) is checkpoint
    assert {key: list(value.shape) for key, value in checkpoint.items()} == {"weight": [3, 2], "bias": [3]}
