"""A checkpoint under other names is diagnosed with rules that make it load."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.errors import IncompatibleKeysError


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)


class Model(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))


def old_names(model: nn.Module) -> OrderedDict[str, torch.Tensor]:
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for key, value in model.state_dict().items():
        key = key.replace("blocks.", "encoder.layer.").replace("up.", "fc1.").replace("down.", "fc2.")
        if "qkv" in key:
            for part, name in zip(value.chunk(3), ("query", "key", "value"), strict=True):
                state[key.replace("qkv", name)] = part.clone()
        else:
            state[key] = value.clone()
    return state


def test_check_offers_rules_that_make_the_checkpoint_fit() -> None:
    wanted = Model()
    report = ckptkit.check(Model(), old_names(wanted))
    finding = next(f for f in report.findings if f.cause == "fused_split")
    assert finding.fix is not None
    model = Model()
    assert ckptkit.load(model, old_names(wanted), {"rules": list(finding.fix.remap)}).ok
    for key, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_the_error_of_a_load_carries_the_rules() -> None:
    with pytest.raises(IncompatibleKeysError) as caught:
        ckptkit.load(Model(), old_names(Model()))
    assert any(f.cause == "fused_split" and f.fix.remap for f in caught.value.findings)


def test_no_rules_are_offered_where_they_would_not_make_it_fit() -> None:
    report = ckptkit.check(Model(), {"a.weight": torch.ones(3)})
    assert all(f.cause not in ("fused_split", "rename", "layout") for f in report.findings)
