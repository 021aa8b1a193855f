"""What is frozen does not move, what is not does, and unfreeze is the way back; through copies and wrappers."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.patterns import select


class Net(nn.Module):
    """Norms with and without parameters, shared modules, a stack, and dropout beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.1), nn.LayerNorm(4))
            for _ in range(2)
        )
        self.plain = nn.BatchNorm1d(4, track_running_stats=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        y: torch.Tensor = self.head(self.plain(x))
        return y


def train(model: nn.Module, steps: int = 2) -> None:
    """Steps with momentum and weight decay, which move every parameter that has a gradient, if only zeros."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.randn(6, 4)).square().sum()
        if not loss.requires_grad:
            continue
        loss.backward()
        optimizer.step()


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: nn.Module) -> set[str]:
    """Keys whose bytes changed."""
    now = model.state_dict()
    return {
        k for k, v in before.items() if v.numpy(force=True).tobytes() != now[k].numpy(force=True).tobytes()
    }


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def gradients(model: nn.Module) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in model.named_parameters()}


KEYS = list(Net().state_dict())
PATTERNS = st.sampled_from(
    [*KEYS, "*", "stem.*", "blocks.*", "blocks.0.*", "*.weight", "*.running_*", "re:.*(bias|var)", "head.*"]
)
STATISTICS = {key for key in KEYS if "running_" in key or "num_batches" in key}


@given(st.lists(PATTERNS, min_size=1, max_size=3), st.lists(PATTERNS, max_size=2), st.integers(0, 99))
def test_what_freeze_selects_without_unfreeze_is_bit_identical_after_training_and_the_rest_moves(
    freeze: list[str], unfreeze: list[str], seed: int
) -> None:
    torch.manual_seed(seed)
    model = Net()
    # A LayerNorm's or a head's gradient may vanish by symmetry, but weight decay moves what is not zero.
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    report = ckptkit.freeze(model, {"freeze": freeze, "unfreeze": unfreeze})
    chosen = set(select(freeze, KEYS).keys) - set(select(unfreeze, KEYS).keys)
    parameters = dict(model.named_parameters())
    norms = [
        [key for key in KEYS if key.startswith(name)] for name in ("stem.1.", "blocks.0.1.", "blocks.1.1.")
    ]
    held = {key for inside in norms if chosen.issuperset(inside) for key in inside}
    before = values(model)
    train(model)
    expected = (set(parameters) - chosen) | (STATISTICS - held)
    assert moved(before, model) == (expected if set(parameters) - chosen else STATISTICS - held)
    assert set(report.frozen) == chosen & set(parameters)
    assert set(report.trainable) == set(parameters) - chosen
    counts = {key: p.numel() for key, p in parameters.items()}
    assert report.frozen_parameters == sum(counts[key] for key in report.frozen)
    assert report.trainable_parameters == sum(counts[key] for key in report.trainable)
    assert sum(row.frozen_parameters for row in report.modules) == report.frozen_parameters
    assert sum(row.trainable_parameters for row in report.modules) == report.trainable_parameters


@given(
    st.lists(st.tuples(PATTERNS, PATTERNS), min_size=1, max_size=3),
    st.sets(st.sampled_from([k for k in KEYS if k not in STATISTICS])),
    st.booleans(),
    st.booleans(),
)
def test_unfreeze_restores_what_freezes_did_and_nothing_else(
    calls: list[tuple[str, str]], off: set[str], training: bool, later: bool
) -> None:
    model = Net().train(training)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in off)
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    before = gradients(model)
    for freeze, unfreeze in calls:
        ckptkit.freeze(model, {"freeze": [freeze], "unfreeze": [unfreeze]})
    model.train(later)
    ckptkit.unfreeze(model)
    assert gradients(model) == before
    assert set(modes(model).values()) == {later}
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert list(model.state_dict()) == KEYS


@given(st.permutations(["stem.*", "blocks.0.*", "*.bias"]), st.permutations(["stem.0.*", "*.running_mean"]))
def test_the_order_of_patterns_means_nothing(freeze: list[str], unfreeze: list[str]) -> None:
    one, other = Net(), Net()
    config = {"freeze": ["stem.*", "blocks.0.*", "*.bias"], "unfreeze": ["stem.0.*", "*.running_mean"]}
    expected = ckptkit.freeze(one, config)
    assert ckptkit.freeze(other, {"freeze": freeze, "unfreeze": unfreeze}) == expected


@given(st.lists(PATTERNS, min_size=1, max_size=3))
def test_freezing_one_by_one_is_freezing_at_once(patterns: list[str]) -> None:
    one, other = Net(), Net()
    at_once = ckptkit.freeze(one, {"freeze": patterns})
    for pattern in patterns:
        report = ckptkit.freeze(other, {"freeze": [pattern]})
    assert report.weights == at_once.weights
    assert report.eval_modules == at_once.eval_modules
    assert modes(one) == modes(other)


@given(st.permutations(["*.weight", "*.bias", "*.running_*", "*.num_batches_tracked"]))
def test_parts_of_a_norm_that_are_frozen_one_by_one_make_a_frozen_norm(patterns: list[str]) -> None:
    model = Net()
    for pattern in patterns:
        report = ckptkit.freeze(model, {"freeze": [pattern]})
    assert report.eval_modules == ("stem.1", "blocks.0.1", "blocks.1.1")
    ckptkit.unfreeze(model)
    assert all(gradients(model).values())
    assert all(modes(model).values())


def through_pickle(model: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(model))
    return copied


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_a_copy_stays_frozen_and_is_thawed_alone(copied: Callable[[nn.Module], nn.Module]) -> None:
    model = Net()
    report = ckptkit.freeze(model, {"freeze": ["stem.*", "blocks.*"]})
    twin = copied(model)
    assert type(twin.stem[1]) is nn.BatchNorm1d  # type: ignore[index]
    before = values(twin)
    train(twin)
    assert moved(before, twin) == {"plain.weight", "plain.bias", "head.weight", "head.bias"}
    assert moved(before, model) == set()
    ckptkit.unfreeze(twin)
    train(twin)
    assert "stem.1.running_mean" in moved(before, twin)
    assert all(gradients(twin).values())
    assert [name for name, training in modes(model.train()).items() if not training] == list(
        report.eval_modules
    )


READER = """
import json, sys, torch
model = torch.load(sys.argv[1], weights_only=False)
model.train()
held = [name for name, module in model.named_modules() if not module.training]
import ckptkit
ckptkit.unfreeze(model)
print(json.dumps([held, model[1].training, all(p.requires_grad for p in model.parameters())]))
"""


def test_another_process_reads_a_frozen_model_and_can_thaw_it(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    ckptkit.freeze(model, {"freeze": ["*"]})
    torch.save(model, tmp_path / "model.pt")
    command = [sys.executable, "-c", READER, str(tmp_path / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [["1"], True, True]


@pytest.mark.parametrize("first", ["compile", "freeze"])
def test_a_compiled_model_keeps_frozen_statistics_in_one_graph(first: str) -> None:
    torch.compiler.reset()
    model = Net()
    config = {"freeze": ["stem.*", "blocks.*"]}
    if first == "freeze":
        ckptkit.freeze(model, config)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    if first == "compile":
        train(compiled, 1)  # in the graph of before, statistics move
        report = ckptkit.freeze(compiled, config)
        assert "stem.0.weight" in report.frozen
    before = values(model)
    train(compiled)
    assert moved(before, model) == {"plain.weight", "plain.bias", "head.weight", "head.bias"}
    ckptkit.unfreeze(compiled)
    train(compiled)
    assert "stem.1.running_var" in moved(before, model)


def test_a_norm_that_is_compiled_by_itself_stays_in_eval() -> None:
    norm = nn.BatchNorm1d(4)
    compiled: Any = torch.compile(norm, backend="eager")
    assert ckptkit.freeze(compiled, {"freeze": ["*"]}).eval_modules == ("",)
    assert norm.training is compiled.train().training is False


def test_wrappers_are_seen_through() -> None:
    model = Net()
    report = ckptkit.freeze(nn.DataParallel(model), {"freeze": ["stem.*"]})
    assert report.what == "Net"
    assert report.eval_modules == ("stem.1",)
    ckptkit.unfreeze(nn.DataParallel(model))
    assert all(gradients(model).values())


class RunningNorm(nn.Module):
    """A norm of nobody's library, with a child that follows the mode, and a train method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_scale", torch.ones(4), persistent=False)
        self.drop = nn.Dropout(0.5)
        self.asked: list[bool] = []

    def train(self, mode: bool = True) -> RunningNorm:
        self.asked.append(mode)
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.running_scale.mul_(0.5)
        y: torch.Tensor = self.drop(x / self.running_scale)
        return y


def test_norms_of_other_libraries_are_held_and_their_children_follow_the_mode() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), RunningNorm()), nn.Linear(4, 4))
    report = ckptkit.freeze(model, {"freeze": ["0.*"]})
    assert report.eval_modules == ("0.1",)
    norm: Any = model[0][1]  # type: ignore[index]
    train(model)
    assert norm.running_scale.tolist() == [1.0] * 4
    assert norm.asked == [True]
    assert norm.drop.training
    assert not norm.training


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4, momentum=None),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_layer_with_statistics_of_torch_keeps_them(layer: nn.Module) -> None:
    model = nn.ModuleDict({"layer": layer, "head": nn.Linear(4, 4)})
    assert ckptkit.freeze(model, {"freeze": ["layer.*"]}).eval_modules
    before = values(model)
    model.train()
    if not isinstance(layer, nn.SyncBatchNorm):  # which computes on accelerators only
        layer(torch.randn(6, 4) if isinstance(layer, nn.BatchNorm1d | nn.Linear) else torch.randn(2, 4, 5))
    assert moved(before, model) == set()


def test_layers_that_behave_alike_in_both_modes_and_dropout_are_left_in_training_mode() -> None:
    model = Net()
    report = ckptkit.freeze(model, {"freeze": ["*"]})
    assert report.eval_modules == ("stem.1", "blocks.0.1", "blocks.1.1")


def test_batch_norm_leave_touches_no_mode() -> None:
    model = Net()
    before = values(model)
    report = ckptkit.freeze(model, {"freeze": ["*"], "unfreeze": ["head.*"], "batch_norm": "leave"})
    train(model)
    assert report.eval_modules == ()
    assert moved(before, model) == STATISTICS | {"head.weight", "head.bias"}


def test_a_norm_that_is_frozen_in_part_is_named_in_a_note() -> None:
    report = ckptkit.freeze(Net(), {"freeze": ["*.weight", "*.bias"]})
    assert report.eval_modules == ()
    assert any("statistics move" in note and "stem.1" in note for note in report.notes)


def test_a_train_of_ones_own_comes_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4))
    asked: list[bool] = []
    model[0].train = asked.append  # type: ignore[assignment]
    ckptkit.freeze(model, {"freeze": ["*"]})
    model.train()
    ckptkit.unfreeze(model)
    model.eval()
    assert asked == [True, False]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "config", [{"freeze": ["embed.*"]}, {"freeze": ["*"], "unfreeze": ["head.*"]}], ids=["beside", "carved"]
)
def test_a_tied_tensor_that_is_frozen_under_one_name_is_frozen_and_reported(
    config: dict[str, Any], device: str
) -> None:
    with torch.device(device):
        model = Tied()
    report = ckptkit.freeze(model, config)
    assert [(c.frozen, c.trainable) for c in report.tied_conflicts] == [(("embed.weight",), ("head.weight",))]
    assert report.frozen == ("embed.weight", "head.weight")
    assert (report.frozen_parameters, report.trainable_parameters) == (20, 0)
    assert "one tensor" in str(report)
    ckptkit.unfreeze(model)
    assert model.embed.weight.requires_grad


def test_two_parameters_over_the_same_bytes_freeze_together() -> None:
    model = Tied()
    model.head.weight = nn.Parameter(model.embed.weight.detach())
    report = ckptkit.freeze(model, {"freeze": ["embed.*"]})
    assert not model.head.weight.requires_grad
    assert report.tied_conflicts[0].trainable == ("head.weight",)


def test_tied_names_that_are_frozen_together_are_no_conflict() -> None:
    assert ckptkit.freeze(Tied(), {"freeze": ["*"]}).tied_conflicts == ()


def test_every_pattern_without_a_key_is_an_error_with_the_nearest_and_changes_nothing() -> None:
    model = Net()
    with pytest.raises(ckptkit.PlanError) as caught:
        ckptkit.freeze(model, {"freeze": ["stem.*", "block.0.*"], "unfreeze": ["heads.weight"]})
    assert [p.location for p in caught.value.problems] == ["freeze.1", "unfreeze.0"]
    assert "'block.0.*' matches no key" in str(caught.value)
    assert "'blocks.0.0.weight'" in str(caught.value)
    assert "'head.weight'" in str(caught.value)
    assert all(gradients(model).values())
    assert all(modes(model).values())


def test_a_gradient_that_is_left_over_does_not_move_a_frozen_parameter() -> None:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(6, 4)).sum().backward()
    ckptkit.freeze(model, {"freeze": ["stem.*"]})
    before = values(model)
    optimizer.step()
    assert not {key for key in moved(before, model) if key.startswith("stem.")}


def test_what_was_frozen_before_stays_so_and_unfreeze_of_the_config_says_it() -> None:
    model = Net()
    model.head.bias.requires_grad_(False)
    report = ckptkit.freeze(model, {"freeze": ["stem.*", "head.*"], "unfreeze": ["head.*"]})
    assert "head.bias" in report.frozen
    assert any("head.bias" in note for note in report.notes)


def test_an_unfreeze_that_carves_nothing_is_noted() -> None:
    report = ckptkit.freeze(Net(), {"freeze": ["stem.*"], "unfreeze": ["head.*"]})
    assert report.notes == ("unfreeze 'head.*' takes nothing out of freeze",)


def test_a_submodule_can_be_frozen_by_its_own_keys_and_thawed_alone() -> None:
    model = Net()
    ckptkit.freeze(model.stem, {"freeze": ["*"]})
    ckptkit.freeze(model, {"freeze": ["head.*"]})
    ckptkit.unfreeze(model.stem)
    assert [name for name, on in gradients(model).items() if not on] == ["head.weight", "head.bias"]


def test_weights_load_into_a_frozen_model_which_stays_frozen() -> None:
    model, other = Net(), Net()
    train(other)
    ckptkit.freeze(model, {"freeze": ["*"], "unfreeze": ["head.*"]})
    ckptkit.load(model, other.state_dict())
    assert moved(values(other), model) == set()
    before = values(model)
    train(model)
    assert moved(before, model) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("model", "config", "error"),
    [
        ({"a": torch.ones(2)}, {"freeze": ["*"]}, ckptkit.UsageError),
        (nn.Sequential(nn.LazyLinear(3)), {"freeze": ["*"]}, ckptkit.UsageError),
        (nn.Linear(2, 2), 3, ckptkit.UsageError),
        (nn.Linear(2, 2), None, ckptkit.UsageError),
        (nn.Linear(2, 2), {"frozen": ["*"]}, ckptkit.ConfigError),
        (nn.Linear(2, 2), {"freeze": ["[a"]}, ckptkit.ConfigError),
        (nn.Identity(), {"freeze": ["*"]}, ckptkit.PlanError),
    ],
)
def test_what_cannot_be_frozen_is_refused_in_words(model: Any, config: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ckptkit.freeze(model, config)


def test_the_table_folds_equal_blocks_and_their_counts_add_up() -> None:
    text = str(ckptkit.freeze(Net(), {"freeze": ["blocks.*", "stem.*"]}))
    (row,) = [line.split() for line in text.splitlines() if "blocks" in line and "eval mode" not in line]
    assert row[:3] == ["blocks", "56", "0"]
    mixed = str(ckptkit.freeze(Net(), {"freeze": ["blocks.*.3.*"]}))
    (row,) = [line.split() for line in mixed.splitlines() if "blocks.{0..1}.3" in line]
    assert row[1:4] == ["16", "0", "frozen"]


def test_unfreeze_finds_what_a_parametrization_has_made_of_a_parameter() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    ckptkit.freeze(model, {"freeze": ["*"]})
    nn.utils.parametrizations.weight_norm(model[0])
    nn.utils.weight_norm(model[1])
    ckptkit.unfreeze(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_unfreeze_does_all_or_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    ckptkit.freeze(model, {"freeze": ["*"]})
    model[1].weight.data = model[1].weight.data.to(torch.int8)
    with pytest.raises(ckptkit.UsageError, match=r"torch.int8, which takes no gradients"):
        ckptkit.unfreeze(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model[1].weight.data = model[1].weight.data.float()
    ckptkit.unfreeze(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_pattern_that_meets_extra_states_only_is_an_error() -> None:
    class Stateful(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    with pytest.raises(ckptkit.PlanError, match="'_extra_state' matches extra states only"):
        ckptkit.freeze(Stateful(2, 2), {"freeze": ["_extra_state"]})
