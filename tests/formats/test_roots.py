"""Finding the weights in a nested checkpoint: by structure and names, never by guessing between equals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptkit.errors import FormatError, RootError
from ckptkit.formats.pickled import Opaque, TensorNode
from ckptkit.formats.roots import choose_root, dotted


def weights(count: int = 2) -> dict[str, Any]:
    return {f"layer{i}.weight": TensorNode(None, 0, (1,), (1,), "float32") for i in range(count)}


def optimizer(count: int = 2) -> dict[str, Any]:
    state = {i: {"step": 1, "exp_avg": w} for i, w in enumerate(weights(count).values())}
    return {"state": state, "param_groups": [{"lr": 0.1, "params": list(range(count))}]}


def chosen(tree: Any, root: str = "auto") -> str:
    choice = choose_root(tree, root, "f.pt")
    marked = [r.path for r in choice.roots if r.chosen]
    assert marked in ([], [dotted(choice.path)])
    return dotted(choice.path)


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        (weights(), ""),
        ({}, ""),
        ({"state_dict": {}}, "state_dict"),
        ({**weights(), "epoch": 3}, ""),
        ({"model": weights(), "optimizer": optimizer(), "epoch": 3}, "model"),
        ({"state_dict": weights(), "state_dict_ema": weights()}, "state_dict"),
        ({"model": weights(), "ema": {"module": weights()}}, "model"),
        ({"ema": {"module": weights()}, "epoch": 1}, "ema.module"),
        ({"model": weights(9), "stats": {"mean": weights(1)["layer0.weight"]}}, "model"),
        ({"state_dict": weights(9), "mean": weights(1)["layer0.weight"]}, "state_dict"),
        ({"some_net": weights(), "lr": 0.1}, "some_net"),
        ({"optimizer": optimizer(50), "backbone": weights(1)}, "backbone"),
        ({"opt": weights(9), "weights": weights(1)}, "weights"),
        ({**weights(4), "group": weights(1)}, ""),
        ({"callbacks": {Opaque("a", "B"): {"best": 1}}, "state_dict": weights()}, "state_dict"),
    ],
)  # fmt: skip
def test_auto_finds_the_weights(tree: Any, path: str) -> None:
    assert chosen(tree) == path


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"generator": weights(), "discriminator": weights()}, ["generator", "discriminator"]),
        ({"model": weights(), "state_dict": weights()}, ["model", "state_dict"]),
        ({"nets": {"a": weights(), "b": weights()}}, ["nets.a", "nets.b"]),
        ({"optimizer": optimizer(), "epoch": 1}, ["optimizer"]),
        ({"epoch": 1, "lr": 0.1}, ["epoch", "lr"]),
        (
            {"model": Opaque("acme", "Net", (), {"_modules": {}, "_parameters": {}})},
            ["acme.Net", "whole model"],
        ),
    ],
)
def test_auto_refuses_to_guess_and_lists_what_there_is(tree: Any, named: list[str]) -> None:
    with pytest.raises(RootError) as caught:
        choose_root(tree, "auto", "f.pt")
    assert all(name in str(caught.value) for name in named) and "f.pt" in str(caught.value)


def test_a_choice_by_name_is_said() -> None:
    choice = choose_root({"model": weights(), "criterion": weights(1)}, "auto", "f.pt")
    assert "by its name" in choice.notes[0] and "criterion" in choice.notes[0]
    beside = choose_root({"state_dict": weights(), "state_dict_ema": weights()}, "auto", "f.pt")
    assert "state_dict_ema" in beside.notes[0]


def test_every_root_is_listed_with_its_kind() -> None:
    tree = {"model": weights(3), "ema": weights(3), "optimizer": optimizer(2)}
    roots = {r.path: (r.kind, r.tensors, r.chosen) for r in choose_root(tree, "auto", "f.pt").roots}
    assert roots == {
        "model": ("weights", 3, True), "ema": ("ema", 3, False), "optimizer": ("optimizer", 2, False),
    }  # fmt: skip


def test_none_is_the_top_level_whatever_it_holds() -> None:
    assert chosen({"model": weights(), "epoch": 1}, "none") == ""


@given(st.lists(st.text(alphabet="ab.", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_dotted_path_is_tried_as_keys(keys: list[str]) -> None:
    tree: dict[str, Any] = weights()
    for key in reversed(keys):
        tree = {key: tree, "other": 1}
    choice = choose_root(tree, ".".join(keys), "f.pt")
    assert choice.node == weights() or ".".join(map(str, choice.path)) == ".".join(keys)


def test_the_longest_literal_key_comes_first() -> None:
    tree = {"a.b": {"c": {"x": 1}}, "a": {"b": {"c": {"y": 1}}, "z": {"w": 1}}}
    assert choose_root(tree, "a.b.c", "f").node == {"x": 1}
    assert choose_root(tree, "a.z", "f").node == {"w": 1}
    assert choose_root({"models": {0: {"x": 1}}}, "models.0", "f").node == {"x": 1}


@pytest.mark.parametrize("root", ["nowhere", "model.nowhere", "epoch", ""])
def test_a_root_that_is_not_there_is_an_error_with_the_choices(root: str) -> None:
    with pytest.raises(RootError, match="model"):
        choose_root({"model": weights(), "epoch": 3}, root, "f.pt")


@pytest.mark.parametrize("tree", [[1], (1,), None, 7, "x", weights(1)["layer0.weight"], Opaque("a", "B", ())])
def test_a_file_without_a_dictionary_is_refused_by_what_it_is(tree: Any) -> None:
    with pytest.raises(FormatError, match=r"f\.pt: it holds"):
        choose_root(tree, "auto", "f.pt")
