"""Models whose tensors are not plain: sparse ones, quantised ones, and those of TorchScript."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.modules import filling

pytestmark = pytest.mark.filterwarnings("ignore")  # torch will give up some of these kinds


def sparse(value: float, count: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.arange(count)[None], torch.full((count,), value), (4,))


def loose(value: float, count: int) -> torch.Tensor:
    """Sparse, with one place named twice."""
    places = torch.tensor([[0, *range(count)]])
    return torch.sparse_coo_tensor(places, torch.full((count + 1,), value), (4,))


def scaled(value: float, count: int) -> torch.Tensor:
    return torch.quantize_per_tensor(torch.full((4,), value), 0.1 * count, count, torch.qint8)


def scaled_by_channel(value: float, count: int) -> torch.Tensor:
    scales = torch.tensor([0.1, 0.3]) * count
    return torch.quantize_per_channel(
        torch.full((2, 2), value), scales, torch.tensor([0, count]), 0, torch.qint8
    )


KINDS = {each.__name__: each for each in (sparse, loose, scaled, scaled_by_channel)}


class Holding(nn.Module):
    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("special", tensor)


def values(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_dense() if tensor.layout is torch.sparse_coo else tensor.dequantize()


def fail(*_: Any) -> None:
    raise OSError("no space left")


@pytest.mark.parametrize("small", [0, filling.SMALL])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_copy_replaces_beside_the_bytes_is_put_back(
    kind: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of values of a sparse tensor; the scales and zero points of a quantised one."""
    monkeypatch.setattr(filling, "SMALL", small)
    model, other = Holding(KINDS[kind](1.0, 2)), Holding(KINDS[kind](2.0, 3))
    special = model.special
    before, text = values(special).clone(), repr(special)
    hook = model.register_load_state_dict_post_hook(fail)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="as it was before"):
        ckptkit.load(model, other.state_dict())
    assert model.special is special
    assert torch.equal(values(special), before)
    assert repr(special) == text
    hook.remove()
    ckptkit.load(model, other.state_dict())
    assert torch.equal(values(model.special), values(other.special))


def quantised(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    made: nn.Module = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=torch.qint8)
    return made


def test_a_quantised_model_is_loaded_and_put_back() -> None:
    """Its layers save scales and packed weights, which are neither parameters nor buffers."""
    if not [each for each in torch.backends.quantized.supported_engines if each != "none"]:
        pytest.skip("this torch cannot quantise on this machine")
    model, other, example = quantised(0), quantised(1), torch.rand(5, 3)
    before, after = model(example), other(example)
    assert not torch.equal(before, after)
    hook = model.register_load_state_dict_post_hook(fail)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="as it was before"):
        ckptkit.load(model, other.state_dict())
    assert torch.equal(model(example), before)
    hook.remove()
    assert ckptkit.load(model, other.state_dict()).coverage.tensors == 1.0
    assert torch.equal(model(example), after)


def test_what_a_quantised_layer_misses_is_named() -> None:
    if not [each for each in torch.backends.quantized.supported_engines if each != "none"]:
        pytest.skip("this torch cannot quantise on this machine")
    state = quantised(1).state_dict()
    del state["2.scale"]
    with pytest.raises(ckptkit.IncompatibleKeysError, match=r"missing.*2\.scale"):
        ckptkit.load(quantised(0), state)


@pytest.mark.parametrize("small", [0, filling.SMALL])
def test_a_torchscript_model_is_filled_as_any_other(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SMALL", small)
    plain = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = torch.jit.script(plain)
    state = {key: torch.ones_like(value) * 3 for key, value in plain.state_dict().items()}
    ckptkit.load(model, state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
