"""Finding the weights in a nested checkpoint: by structure and names, never by guessing between equals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ckptkit
from ckptkit.errors import FormatError, RootError
from ckptkit.formats.pickled import Opaque, TensorNode
from ckptkit.formats.root_candidates import dotted
from ckptkit.formats.roots import choose_root

from .handmade import call, mapping, tensor, torch_file


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


@pytest.mark.parametrize("nested", [False, True])
def test_tens_of_thousands_of_dictionaries_of_tensors_are_compared_in_no_time(nested: bool) -> None:
    """G5: only with those that contain them."""
    shared = weights(1)["layer0.weight"]
    tree: dict[str, Any] = {f"{i:05x}": {"a": shared} for i in range(30_000)}
    if nested:
        tree = {"one": shared, **{f"{i:05x}": {"a": shared, "b": {"c": shared}} for i in range(15_000)}}
    with pytest.raises(RootError, match="the weights could be in '00000"):
        choose_root(tree, "auto", "f.pt")


def test_a_long_name_above_many_dictionaries_is_not_repeated_for_each() -> None:
    """G5, G6."""
    shared = weights(1)["layer0.weight"]
    tree = {"x" * (1 << 20): {f"{i:05x}": {"a": shared} for i in range(10_000)}}
    with pytest.raises(RootError, match="take more than 16777216 characters"):
        choose_root(tree, "auto", "f.pt")


def test_long_names_beside_the_root_are_shown_cut(tmp_path: Path) -> None:
    """G6: what lies beside has a name of its own each, and not the megabyte of what lies above."""
    long = "x" * (1 << 20)
    entries = {f"{i:05x}": call("os", "system") for i in range(10_000)}
    path = torch_file(
        tmp_path / "f.pt", mapping({long: mapping({**entries, "model": mapping({"w": tensor()})})})
    )
    with ckptkit.open(path) as opened:
        source = opened.source
        assert opened.signature.root == f"{long}.model"
        assert len(source.surroundings) == 10_000
        assert sum(map(len, source.surroundings)) + sum(map(len, source.notes)) < 5_000_000
        written = ckptkit.save(opened, tmp_path / "o.pt")
    assert len(written.left_out) == 10_000
    assert sum(map(len, written.left_out)) < 5_000_000


@pytest.mark.parametrize(
    ("tree", "place"), [(optimizer(), "the top level"), ({"optim": optimizer()}, "optim")]
)
def test_a_file_with_an_optimizer_only_is_said_to_be_one(tree: Any, place: str) -> None:
    with pytest.raises(RootError, match=f"no weights were found: '{place}' looks like an optimizer's state"):
        choose_root(tree, "auto", "f.pt")


@given(st.lists(st.sampled_from(["ema", "module", "a.b", "x"]), min_size=2, max_size=4), st.data())
def test_a_root_without_tensors_names_the_place_inside_that_has_them(keys: list[str], data: Any) -> None:
    tree: Any = weights(3)
    for key in reversed(keys):
        tree = {key: tree, "step": 1}
    depth = data.draw(st.integers(1, len(keys) - 1))
    root, full = ".".join(keys[:depth]), ".".join(keys)
    with pytest.raises(RootError) as caught:
        choose_root(tree, root, "f.pt")
    assert caught.value.message == (
        f"f.pt: the root {root!r} holds no tensors itself; {full!r} inside it does: name that as root "
        "(--root PATH, root: PATH)"
    )
    assert chosen(tree, full) == full


def test_a_root_without_tensors_names_the_place_inside_and_an_empty_one_is_taken() -> None:
    tree = {"ema": {"module": weights(3), "decay": 0.9}, "none_yet": {}, "numbers": {"lr": 0.1}}
    with pytest.raises(RootError, match="'ema.module' inside it does: name that as root"):
        choose_root(tree, "ema", "f.pt")
    assert chosen(tree, "none_yet") == "none_yet" and chosen(tree, "numbers") == "numbers"


def test_a_mapping_in_memory_with_such_a_root_says_so_too() -> None:
    tree = {"ema": {"module": {"w": torch.ones(1)}, "decay": 0.9}}
    with pytest.raises(
        RootError, match="the root 'ema' holds no tensors itself; 'ema.module' inside it does"
    ):
        ckptkit.open(tree, root="ema")
