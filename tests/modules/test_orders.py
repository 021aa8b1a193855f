"""Freeze, parameter groups, load and load hooks over one model: in every order they end in the same."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ckptkit

from real_models import import_timm


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.rand(width, 2))


class Staged(nn.Module):
    """Blocks in stages, with an embedding below, a head above, and perhaps a tie between both."""

    def __init__(self, stages: tuple[int, ...], width: int, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, width)
        self.stages = nn.ModuleList(
            nn.ModuleDict({"blocks": nn.ModuleList(Block(width) for _ in range(n))}) for n in stages
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5, bias=False)
        if tied:
            self.head.weight = self.embed.weight


SHAPES = st.tuples(
    st.lists(st.integers(1, 3), min_size=2, max_size=3).map(tuple), st.integers(1, 4), st.booleans()
)
FREEZES = st.fixed_dictionaries(
    {"freeze": st.sampled_from([["embed.*"], ["stages.0.*"], ["*.blocks.0.*", "norm.*"], ["*norm*"], ["stages.*"]])},
    optional={"unfreeze": st.sampled_from([["stages.0.blocks.0.fc.*"], ["*.bias"]]),
              "batch_norm": st.sampled_from(["eval", "leave"])},
)  # fmt: skip
GROUPS = st.fixed_dictionaries(
    {"lr": st.floats(0.1, 1), "layer_decay": st.sampled_from([0.5, 0.9])},
    optional={"no_decay": st.sampled_from(["auto", []]),
              "blocks": st.just(r"^stages\.(?P<index>\d+)\."),
              "groups": st.just([{"keys": ["*.weight"], "weight_decay": 0.3}])},
)  # fmt: skip
OLD = [{"op": "rename", "pattern": r"^stem\.", "replacement": "embed."}]


def rates(groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    return {key: (group["lr"], group["weight_decay"]) for group in groups for key in group["keys"]}


@given(SHAPES, FREEZES, GROUPS)
@settings(deadline=None, max_examples=60)
def test_a_freeze_changes_no_rate_of_what_still_trains(
    shape: tuple[tuple[int, ...], int, bool], freeze: dict[str, Any], config: dict[str, Any]
) -> None:
    model = Staged(*shape)
    before = rates(ckptkit.param_groups(model, config))
    ckptkit.freeze(model, freeze)
    trains = {key for key, value in model.named_parameters() if value.requires_grad}
    assert rates(ckptkit.param_groups(model, config)) == {key: before[key] for key in trains}


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18", "vit_tiny_patch16_224"])
def test_with_all_but_one_part_of_a_known_architecture_frozen_its_rates_stay(name: str) -> None:
    model = import_timm().create_model(name)
    whole = rates(ckptkit.param_groups(model, {"layer_decay": 0.75}))
    for part in range(5):
        keys = [key for number, key in enumerate(whole) if number * 5 // len(whole) == part]
        model.requires_grad_(True)
        ckptkit.freeze(model, {"freeze": ["*"], "unfreeze": keys})
        found = rates(ckptkit.param_groups(model, {"layer_decay": 0.75}))
        assert found == {key: whole[key] for key in found}
        assert set(keys) <= set(found)
        ckptkit.unfreeze(model)


@given(SHAPES, FREEZES, GROUPS, st.booleans(), st.integers(0, 9))
@settings(deadline=None, max_examples=12)
def test_freeze_groups_load_and_hooks_end_in_the_same_in_every_order(
    shape: tuple[tuple[int, ...], int, bool],
    freeze: dict[str, Any],
    config: dict[str, Any],
    direct: bool,
    seed: int,
) -> None:
    """`direct`: the checkpoint's old names are dealt with by the load's own rules, not by a hook alone."""
    torch.manual_seed(seed)
    saved = Staged(*shape).state_dict()
    old = {key.replace("embed.", "stem."): value for key, value in saved.items()}
    rules = [{**rule, "required": False} for rule in OLD]
    first: Any = None
    for order in permutations(("hook", "load", "freeze", "groups")):
        if not direct and order.index("load") < order.index("hook"):
            continue  # nothing knows the old names yet
        torch.manual_seed(seed + 1)
        model = Staged(*shape)
        for step in order:
            if step == "hook":
                model.register_load_state_dict_pre_hook(ckptkit.load_hook(OLD))
            elif step == "load":
                ckptkit.load(model, old, {"rules": rules if direct else [], "root": "none"})
            elif step == "freeze":
                ckptkit.freeze(model, freeze)
            else:
                groups = ckptkit.param_groups(model, config)
        model.train()
        frozen = {key for key, value in model.named_parameters() if not value.requires_grad}
        found = (
            frozen,
            {name for name, module in model.named_modules() if not module.training},
            {key: pair for key, pair in rates(groups).items() if key not in frozen},
        )
        first = first or found
        assert found == first, order
        for key, value in model.state_dict().items():
            assert torch.equal(value, saved[key]), (order, key)
        own = dict(model.named_parameters())
        assert all(own[key] is p for g in groups for key, p in zip(g["keys"], g["params"], strict=True)), (
            order
        )
