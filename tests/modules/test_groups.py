"""Parameter groups: each parameter once, decay where it belongs, learning rates by depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.errors import ConfigError, PlanError, UsageError

from real_models import import_timm, import_transformers

timm = import_timm()


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.gate = nn.Parameter(torch.ones(1, width))


class Net(nn.Module):
    def __init__(self, depth: int = 3, width: int = 4, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def rates(model: nn.Module, **config: Any) -> dict[str, tuple[float, float]]:
    groups = ckptkit.param_groups(model, config)
    return {key: (group["lr"], group["weight_decay"]) for group in groups for key in group["keys"]}


NETS = st.builds(Net, st.integers(2, 4), st.integers(1, 3), st.booleans())
CONFIGS = st.fixed_dictionaries(
    {"lr": st.floats(0, 1), "weight_decay": st.floats(0, 1)},
    optional={
        "layer_decay": st.floats(0.1, 1),
        "no_decay": st.sampled_from(["auto", ["*bias"], []]),
        "groups": st.lists(
            st.fixed_dictionaries(
                {"keys": st.sampled_from([["blocks.0.*"], ["*.mlp.*", "norm.bias"]]), "lr": st.floats(0, 1)}
            ),
            max_size=2,
        ),
    },
)


@given(NETS, CONFIGS, st.integers(0, 40), st.sampled_from([torch.optim.SGD, torch.optim.AdamW]))
@settings(deadline=None, max_examples=60)
def test_every_parameter_that_trains_is_in_exactly_one_group(
    model: Net, config: dict[str, Any], frozen: int, optimizer: Any
) -> None:
    parameters = list(model.parameters())
    for parameter in parameters[:frozen][::3]:
        parameter.requires_grad_(False)
    try:
        groups = ckptkit.param_groups(model, config)
    except PlanError:  # all that a pattern selects is frozen; which error that is, stands below
        return
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in parameters if p.requires_grad)
    assert all(len(group["params"]) == len(group["keys"]) > 0 for group in groups)
    made = optimizer(groups)
    assert [g["lr"] for g in made.param_groups] == [g["lr"] for g in groups]
    assert [g["weight_decay"] for g in made.param_groups] == [g["weight_decay"] for g in groups]
    again = ckptkit.param_groups(model, config)
    assert [g["keys"] for g in again] == [g["keys"] for g in groups]


def test_norms_biases_and_one_dimensional_parameters_do_not_decay() -> None:
    found = rates(Net(), lr=1.0, weight_decay=0.1)
    spared = {key for key, (_, decay) in found.items() if decay == 0.0}
    assert spared == {key for key in found if "norm" in key or key.endswith("bias")}
    assert rates(Net(), weight_decay=0.1, no_decay=["*.gate"])["blocks.0.gate"][1] == 0.0
    assert rates(Net(), weight_decay=0.1, no_decay=["*.gate"])["norm.bias"][1] == 0.1


def test_the_learning_rate_falls_by_one_factor_for_each_block_towards_the_input() -> None:
    found = {key: lr for key, (lr, _) in rates(Net(3), lr=1.0, layer_decay=0.5).items()}
    assert found["embed.weight"] == 0.5**4
    assert [found[f"blocks.{i}.mlp.0.weight"] for i in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert found["norm.weight"] == found["head.weight"] == 1.0


def test_an_exception_has_its_own_rate_without_layer_decay_and_the_first_one_counts() -> None:
    groups = [
        {"keys": ["head.*"], "lr": 0.3},
        {"keys": ["head.weight", "embed.*"], "lr": 0.7, "weight_decay": 0.2},
        {"keys": ["norm.*"], "weight_decay": 0.01},
    ]
    found = rates(Net(), lr=1.0, layer_decay=0.5, weight_decay=0.1, groups=groups)
    assert found["head.weight"] == (0.3, 0.1)
    assert found["embed.weight"] == (0.7, 0.2)
    assert found["norm.weight"] == (1.0, 0.01)


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet18", "efficientnet_b0"],
)
def test_depths_are_those_of_timms_layer_decay(name: str) -> None:
    """timm counts what follows the blocks, the final norm, as a layer before the head; here both are at the end."""
    from timm.optim import param_groups_layer_decay

    model = timm.create_model(name)
    names = {id(p): key for key, p in model.named_parameters()}
    theirs = {
        names[id(p)]: g["lr_scale"]
        for g in param_groups_layer_decay(model, layer_decay=0.8)
        for p in g["params"]
    }
    ours = {key: lr for key, (lr, _) in rates(model, lr=1.0, layer_decay=0.8).items()}
    apart = {key for key in ours if ours[key] != pytest.approx(theirs[key])}
    assert apart <= {"norm.weight", "norm.bias", "conv_head.weight", "bn2.weight", "bn2.bias"}


def test_encoder_and_decoder_count_their_blocks_apart() -> None:
    import_transformers()
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=16, d_ff=32, num_layers=2, num_decoder_layers=3, num_heads=2, vocab_size=50)
    found = {
        key: lr for key, (lr, _) in rates(T5ForConditionalGeneration(config), lr=1.0, layer_decay=0.5).items()
    }
    assert found["encoder.block.0.layer.0.SelfAttention.q.weight"] == 0.25
    assert found["encoder.block.0.layer.1.DenseReluDense.wi.weight"] == 0.25
    assert found["decoder.block.0.layer.0.SelfAttention.q.weight"] == 0.125
    assert found["decoder.block.2.layer.2.DenseReluDense.wo.weight"] == 0.5
    assert found["decoder.final_layer_norm.weight"] == 1.0


def test_a_pattern_for_the_blocks_decides_when_it_is_given() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    found = {
        key: lr for key, (lr, _) in rates(model, lr=1.0, layer_decay=0.5, blocks=r"^(?P<index>\d+)\.").items()
    }
    assert [found[f"{i}.weight"] for i in range(3)] == [0.125, 0.25, 0.5]


def test_wrappers_are_seen_through() -> None:
    model = Net()
    assert rates(torch.nn.DataParallel(model)) == rates(model)  # type: ignore[no-untyped-call]


WRONG: list[tuple[Any, type[Exception], str]] = [
    ({"groups": [{"keys": ["hed.*"], "lr": 1.0}]}, PlanError, "'hed.*' matches no parameter that trains; the nearest keys"),
    ({"no_decay": ["nrom.*"]}, PlanError, "no_decay: the pattern 'nrom.*' matches"),
    ({"layer_decay": 0.5, "blocks": r"^layers\.(?P<index>\d+)"}, PlanError, "matches no key"),
    ({"blocks": "blocks"}, ConfigError, "blocks needs a group named index"),
    ({"layer_decay": 0.5, "blocks": r"^(?P<index>\w+)\."}, PlanError, "the group index matched 'embed' in 'embed.weight'"),
    ({"groups": [{"keys": ["*"], "lr": 1.0}, {"keys": ["head.*"], "lr": 2.0}]}, PlanError,
     "groups.1: earlier entries take every parameter that 'head.*' match"),
    ({"layer_decay": 1.5}, ConfigError, "less than or equal to 1"),
    ({"lr": float("nan")}, ConfigError, "finite"),
    ({"groups": [{"keys": ["*"]}]}, ConfigError, "gives lr, weight_decay, or both"),
    (3, UsageError, "a value of type int is no GroupsConfig; give a GroupsConfig, its fields (description, lr,"),
    ("adam", ConfigError, "adam: a config file ends in .yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "kind", "text"), WRONG)
def test_what_cannot_be_meant_is_an_error_that_says_so(config: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=r".*") as caught:
        ckptkit.param_groups(Net(), config)
    assert text in str(caught.value)


def test_a_model_without_numbered_blocks_or_trainable_parameters_is_an_error() -> None:
    with pytest.raises(PlanError, match="layer_decay needs numbered blocks"):
        ckptkit.param_groups(nn.Linear(2, 2), {"layer_decay": 0.5})
    with pytest.raises(UsageError, match="Linear has no parameter that trains"):
        ckptkit.param_groups(nn.Linear(2, 2).requires_grad_(False))


def test_lazily_initialised_parameters_are_named() -> None:
    with pytest.raises(UsageError, match="'0.weight' is lazily initialised and has no shape yet"):
        ckptkit.param_groups(nn.Sequential(nn.LazyLinear(3)))


def test_names_of_one_tied_parameter_must_not_ask_for_different_things() -> None:
    groups = [{"keys": ["head.*"], "lr": 0.1}, {"keys": ["embed.*"], "lr": 0.2}]
    with pytest.raises(PlanError, match=r"'embed.weight', 'head.weight' are one tied parameter"):
        ckptkit.param_groups(Net(tied=True), {"groups": groups})
