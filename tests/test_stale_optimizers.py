"""An optimizer's state kept beside changed weights: stale only where torch would give a parameter another's."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.__main__ import main

Rules = list[dict[str, Any]]


def net(blocks: int = 2) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            [(f"b{i}", nn.Sequential(nn.Linear(i + 2, i + 3), nn.BatchNorm1d(i + 3))) for i in range(blocks)]
        )
    )


def trained(model: nn.Module, make: Any = torch.optim.AdamW) -> Any:
    """An optimizer that made one step; its moments are those of its own parameter."""
    optimizer = make(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return optimizer


def notes(tree: Any, rules: Rules, folder: Path, root: str = "auto") -> list[str]:
    torch.save(tree, folder / "a.pt")
    config = ckptkit.RemapConfig(root=root, rules=rules)
    written = ckptkit.save(ckptkit.remap(folder / "a.pt", config), folder / "b.pt", overwrite=True)
    assert not written.left_out
    return [note for note in written.notes if "stale" in note]


NEXT = "start the optimizer anew"
STALE: dict[str, tuple[Rules, str]] = {
    "drop": ([{"op": "drop", "keys": ["b1.*"]}], "drops b1.{0..1}.weight, b1.{0..1}.bias"),
    "keep": ([{"op": "keep", "keys": ["b0.*"]}], "drops b1.{0..1}.weight, b1.{0..1}.bias"),
    "add": ([{"op": "copy", "key": "b0.0.bias", "into": "more"}], "adds more"),
    "reorder": (
        [{"op": "rename", "pairs": [["^b0", "b1"], ["^b1", "b0"]]}],
        "puts parameters into another order",
    ),
    "renumber backwards": (
        [{"op": "rename", "pairs": [["^b0", "b.7"], ["^b1", "b.4"]]}],
        "puts parameters into another order",
    ),
    "transpose": (
        [{"op": "transpose", "keys": ["b0.0.weight"], "dims": [0, 1]}],
        "changes shape or layout of b0.0.weight",
    ),
    "split": (
        [{"op": "split", "pattern": r"b1\.0\.bias", "into": ["x", "y"]}],
        "changes shape or layout of b1.0.bias",
    ),
    "resize": (
        [{"op": "resize", "keys": ["b0.0.bias"], "shape": [9], "method": "pad", "fill": "zero"}],
        "changes shape or layout of b0.0.bias",
    ),
}  # fmt: skip
EXACT: dict[str, Rules] = {
    "nothing": [],
    "prefix": [{"op": "add_prefix", "prefix": "model."}],
    "rename": [{"op": "rename", "pattern": "^b", "replacement": "block."}],
    "renumber": [
        {"op": "rename", "pattern": "^b", "replacement": "b."},
        {"op": "renumber", "pattern": r"^b\.(?P<index>\d+)", "offset": 9},
    ],
    "cast": [{"op": "cast", "dtype": "bfloat16"}],
    "statistics dropped": [{"op": "drop", "keys": ["*running*", "*num_batches*"]}],
    "there and back": [{"op": "add_prefix", "prefix": "m."}, {"op": "strip_prefix", "prefix": "m."}],
}


@pytest.mark.parametrize("name", STALE)
def test_a_state_by_position_is_stale_where_positions_or_shapes_change(name: str, tmp_path: Path) -> None:
    rules, why = STALE[name]
    model = net()
    rules = [{**rule, "sizes": [2, 2]} if rule["op"] == "split" else rule for rule in rules]
    tree = {"model": model.state_dict(), "optimizer": trained(model).state_dict()}
    assert notes(tree, rules, tmp_path) == [
        f"the optimizer state at 'optimizer' is kept as it is and is stale: it goes by position, and the plan {why}; {NEXT}"
    ]


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_a_state_by_position_is_exact_after_renames_and_casts(name: str, make: Any, tmp_path: Path) -> None:
    model = net()
    tree = {"model": model.state_dict(), "optimizer": trained(model, make).state_dict()}
    assert notes(tree, EXACT[name], tmp_path) == []


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_called_exact_resumes_as_if_nothing_had_been_renamed(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """Blocks get other names; a model that has them in the order of their numbers takes model and optimizer."""
    folder = tmp_path_factory.mktemp("s")
    count = data.draw(st.integers(2, 4))
    numbers = data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count, unique=True))
    model = nn.ModuleDict({str(i): nn.Linear(2, 2) for i in range(count)})
    optimizer = trained(model)
    tree = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    rules: Rules = [{"op": "renumber", "pattern": r"^(?P<index>\d+)", "map": dict(enumerate(numbers))}]
    said = notes(tree, rules, folder)
    event("stale" if said else "exact")
    moved = torch.load(folder / "b.pt", weights_only=True)
    other = nn.ModuleDict({str(i): nn.Linear(2, 2) for i in sorted(numbers)})
    other.load_state_dict(moved["model"])
    resumed = torch.optim.AdamW(other.parameters(), lr=1e-3)
    resumed.load_state_dict(moved["optimizer"])
    same = True
    for old, new in enumerate(numbers):
        for one, two in zip(model[str(old)].parameters(), other[str(new)].parameters(), strict=True):
            assert torch.equal(one, two)
            same &= torch.equal(optimizer.state[one]["exp_avg"], resumed.state[two]["exp_avg"])
    assert same == (not said)


def test_buffers_that_the_shapes_in_the_state_rule_out_may_go(tmp_path: Path) -> None:
    model = net(1)
    state = {**model.state_dict(), "mask": torch.ones(7, 7), "twin": torch.ones(3)}
    tree = {"model": state, "optimizer": trained(model).state_dict()}
    assert notes(tree, [{"op": "drop", "keys": ["mask"]}], tmp_path) == []
    assert notes(tree, [{"op": "drop", "keys": ["mask", "twin"]}], tmp_path) == []
    (note,) = notes(tree, [{"op": "drop", "keys": ["twin"]}], tmp_path)
    assert "drops twin (which may be buffers and then do not matter)" in note


@pytest.mark.parametrize(
    "rules", [[], [{"op": "cast", "dtype": "float64"}], [{"op": "add_prefix", "prefix": "m."}]]
)
def test_a_state_by_name_is_stale_after_a_rename_and_not_after_a_cast(rules: Rules, tmp_path: Path) -> None:
    model = net(1)
    names = [name for name, _ in model.named_parameters()]
    moments = {name: {"exp_avg": torch.zeros(1)} for name in names}
    whole = {"state": moments, "param_groups": [{"params": names}]}
    flat = {f"state.{name}.exp_avg": torch.zeros(1) for name in names}
    for optimizer in (whole, flat):
        said = notes({"model": model.state_dict(), "optimizer": optimizer}, rules, tmp_path)
        if rules and rules[0]["op"] == "add_prefix":
            assert said == [
                "the optimizer state at 'optimizer' is kept as it is and is stale: it goes by name, and the plan renames, "
                "drops or changes b0.{0..1}.weight, b0.{0..1}.bias; " + NEXT
            ]
        else:
            assert said == []


def test_each_of_several_states_in_a_list_is_judged_and_none_is_none(tmp_path: Path) -> None:
    """As Lightning saves them."""
    model = net()
    states = [trained(model).state_dict(), None, trained(model).state_dict()]
    tree: Any = {"state_dict": model.state_dict(), "optimizer_states": states}
    said = notes(tree, [{"op": "drop", "keys": ["b1.*"]}], tmp_path)
    assert [note.split("'")[1] for note in said] == ["optimizer_states.0", "optimizer_states.2"]
    for nothing in (None, {}, []):
        tree = {"state_dict": model.state_dict(), "optimizer": nothing}
        assert notes(tree, [{"op": "drop", "keys": ["b1.*"]}], tmp_path) == []


def test_tied_names_count_once_and_one_of_them_may_go(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    tree = {"model": model.state_dict(), "optimizer": trained(model).state_dict()}
    assert notes(tree, [{"op": "drop", "keys": ["1.weight"]}], tmp_path) == []
    assert (
        len(
            notes(
                tree,
                [
                    {"op": "drop", "keys": ["*.weight"]},
                ],
                tmp_path,
            )
        )
        == 1
    )


def test_a_plan_over_a_plan_is_judged_as_one(tmp_path: Path) -> None:
    model = net()
    torch.save({"model": model.state_dict(), "optimizer": trained(model).state_dict()}, tmp_path / "a.pt")
    swap: Rules = [{"op": "rename", "pairs": [["^b0", "b1"], ["^b1", "b0"]]}]
    once = ckptkit.remap(tmp_path / "a.pt", swap)
    assert any("stale" in note for note in ckptkit.save(once, tmp_path / "b.pt").notes)
    twice = ckptkit.remap(once, swap)
    assert not any("stale" in note for note in ckptkit.save(twice, tmp_path / "c.pt").notes)


def test_a_dry_run_says_what_would_be_stale_and_root_only_has_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = net()
    torch.save({"model": model.state_dict(), "optimizer": trained(model).state_dict()}, tmp_path / "a.pt")
    words = ["remap", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--drop", "b1.*", "--dry-run"]
    assert main(words) == 0
    assert "is stale: it goes by position, and the plan drops b1.{0..1}.weight" in capsys.readouterr().err
    assert main([*words, "--root-only"]) == 0
    assert "stale" not in capsys.readouterr().err
