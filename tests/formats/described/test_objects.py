"""Objects in torch files: whatever their shape they stop nothing, and what holds tensors can be a root."""

from __future__ import annotations

import argparse
import collections
import io
import re
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import ckptkit
from ckptkit.errors import FormatError, RootError

WEIGHTS = {"w": torch.arange(4.0), "b": torch.ones(2)}


class Thing:
    """An object of a class that nobody else has."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Mapping(dict[Any, Any]):
    """A dictionary with attributes, as configuration libraries have them."""


def save(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def _holder(kind: str, inner: list[Any], named: dict[str, Any]) -> Any:
    if kind == "o":
        return Thing(**named)
    return {"d": named, "l": inner, "t": tuple(inner), "m": Mapping(named)}[kind]


@st.composite
def tangles(draw: st.DrawFn) -> Any:
    """Objects, dictionaries, lists and tuples that hold each other in any way, themselves included."""
    made: list[Any] = []
    for kind in draw(st.lists(st.sampled_from("odltmt"), min_size=1, max_size=12)):
        inner = [made[n % len(made)] if made else n for n in draw(st.lists(st.integers(0, 11), max_size=3))]
        made.append(_holder(kind, inner, {f"k{n}": value for n, value in enumerate(inner)}))
    for at, to in draw(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8)):
        holder, held = made[at % len(made)], made[to % len(made)]
        if isinstance(holder, dict):
            holder["back"] = held
        elif isinstance(holder, list):
            holder.append(held)
        elif isinstance(holder, Thing):
            holder.back = held  # type: ignore[attr-defined]
    return made


@settings(max_examples=80, deadline=None)
@given(tangles(), st.booleans())
def test_whatever_is_tangled_beside_the_weights_or_among_them_they_are_read(
    tangle: Any, inside: bool
) -> None:
    tree = {**WEIGHTS, "x": tangle} if inside else {"state_dict": WEIGHTS, "x": tangle, "n": 3}
    with tempfile.TemporaryDirectory() as folder:
        path = save(tree, Path(folder, "f.pt"))
        with ckptkit.open(path) as checkpoint:
            assert all(checkpoint[key].equal(value) for key, value in WEIGHTS.items())
            assert list(checkpoint) == [*WEIGHTS, *(["x"] if inside else [])]
        assert ckptkit.verify(path).ok
        drop = [{"op": "drop", "keys": ["x"]}] if inside else []
        ckptkit.save(ckptkit.remap(path, drop), Path(folder, "o.pt"))
        ckptkit.save(ckptkit.remap(path, drop), Path(folder, "o.safetensors"))
        assert torch.load(Path(folder, "o.pt"), weights_only=True).keys() >= (
            {"w"} if inside else {"state_dict"}
        )


CONTAINERS: dict[str, Any] = {
    "defaultdict": lambda: collections.defaultdict(list, WEIGHTS),
    "UserDict": lambda: collections.UserDict(WEIGHTS),
    "SimpleNamespace": lambda: types.SimpleNamespace(**WEIGHTS),
    "Namespace": lambda: argparse.Namespace(**WEIGHTS),
    "a dict of its own": lambda: Mapping(WEIGHTS),
    "an object": lambda: Thing(**WEIGHTS),
    "an object in an object": lambda: Thing(deeper=Thing(**WEIGHTS)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_of_a_state_dict_are_opened_and_never_written_as_what_surrounds(
    name: str, tmp_path: Path
) -> None:
    root = "deeper" if "in an" in name else None
    path = save(CONTAINERS[name](), tmp_path / "f.pt")
    with ckptkit.open(path) as checkpoint:
        assert list(checkpoint) == list(WEIGHTS) and checkpoint.signature.root == root
        assert all(checkpoint[key].equal(value) for key, value in WEIGHTS.items())
    path = save(
        {"state_dict": {**WEIGHTS, "more": torch.ones(1)}, "other": CONTAINERS[name](), "n": 1},
        tmp_path / "g.pt",
    )
    written = ckptkit.save(path, tmp_path / "o.pt")
    assert list(torch.load(tmp_path / "o.pt", weights_only=True)) == ["state_dict", "n"]
    assert len(written.left_out) == 1 and written.left_out[0].startswith("other (")


def test_the_way_to_the_weights_may_lead_through_objects_of_which_only_the_weights_are_written(
    tmp_path: Path,
) -> None:
    path = save({"ema": Thing(module=nn.Linear(2, 1), decay=0.9), "epoch": 3}, tmp_path / "f.pt")
    with ckptkit.open(path) as checkpoint:
        assert checkpoint.signature.root == "ema.module"
        written = ckptkit.save(checkpoint, tmp_path / "o.pt")
    assert list(torch.load(tmp_path / "o.pt", weights_only=True)) == ["weight", "bias"]
    assert "epoch" in written.left_out and "ema.decay" in written.left_out


def test_models_beside_models_are_roots_and_one_is_written(tmp_path: Path) -> None:
    path = save({"model": nn.Linear(2, 1), "ema": nn.Linear(2, 1), "epoch": 3}, tmp_path / "f.pt")
    with ckptkit.open(path) as checkpoint:
        assert [(root.path, root.kind) for root in checkpoint.signature.roots] == [
            ("model", "weights"),
            ("ema", "ema"),
        ]
        written = ckptkit.save(checkpoint, tmp_path / "o.pt")
    back = torch.load(tmp_path / "o.pt", weights_only=True)
    assert list(back) == ["model", "epoch"] and list(back["model"]) == ["weight", "bias"]
    assert written.left_out == ("ema (torch.nn.modules.linear.Linear)",)


FOREIGN: dict[str, Any] = {
    "BytesIO": (lambda: io.BytesIO(b"fp8"), "_io.BytesIO"),
    "object": (lambda: Thing(a=1), "Thing"),
    "object with a tensor": (lambda: Thing(a=torch.ones(3)), "Thing"),
    "model": (lambda: nn.Linear(1, 1), "Linear"),
    "array of texts": (lambda: np.array(["x"]), "a numpy array of texts"),
    "list of arrays": (lambda: [np.ones(2)], "a numpy array"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantised"),
    "subclass": (lambda: torch.ones(2).as_subclass(Odd), "the tensor subclass"),
    "wrapper": (
        lambda: TwoTensor(torch.ones(2), torch.ones(2)),
        "the tensor subclass .*two_tensor.TwoTensor",
    ),
    "parameter of a wrapper": (
        lambda: nn.Parameter(TwoTensor(torch.ones(2), torch.ones(2))),
        "the tensor subclass .*two_tensor.TwoTensor",
    ),
    "parameter of a subclass": (lambda: nn.Parameter(torch.ones(2).as_subclass(Odd)), "the tensor subclass"),
}


class Odd(torch.Tensor):
    """A tensor whose bytes may not be its values."""


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.filterwarnings("ignore")
def test_one_foreign_value_is_a_key_that_can_be_seen_renamed_kept_and_dropped(
    name: str, tmp_path: Path
) -> None:
    make, words = FOREIGN[name]
    path = save({**WEIGHTS, "l._extra_state": make()}, tmp_path / "f.pt")
    with ckptkit.open(path) as checkpoint:
        assert checkpoint.signature["l._extra_state"].kind == "object"
        assert any(re.search(f"l._extra_state.*{words}", note) for note in checkpoint.source.notes)
        for target in ("a.pt", "a.safetensors"):
            for rules in ([], [{"op": "add_prefix", "prefix": "m."}]):
                with pytest.raises(ckptkit.CkptkitError, match="_extra_state") as caught:
                    ckptkit.save(ckptkit.remap(checkpoint, rules), tmp_path / target)
                assert "drop" in caught.value.message and not (tmp_path / target).exists()
        for rule in ({"op": "drop", "keys": ["*._extra_state"]}, {"op": "keep", "keys": ["w", "b"]}):
            ckptkit.save(ckptkit.remap(checkpoint, [rule]), tmp_path / "o.safetensors", overwrite=True)
            assert sorted(ckptkit.open(tmp_path / "o.safetensors")) == ["b", "w"]
    assert ckptkit.verify(path).outcome != "damaged"


def test_tensors_in_an_object_do_not_make_another_dictionary_the_only_weights(tmp_path: Path) -> None:
    normalizer = {"mean": torch.ones(1), "std": torch.ones(1)}
    path = save({"net_g": Thing(layers=[torch.ones(2)] * 9), "normalizer": normalizer}, tmp_path / "a.pt")
    assert list(ckptkit.open(path, root="normalizer")) == ["mean", "std"]
    path = save(
        {"net_g": Thing(layers=[torch.ones(2), torch.ones(3)]), "normalizer": normalizer}, tmp_path / "a.pt"
    )
    with pytest.raises(RootError, match="'normalizer' holds 2 tensors, and 'net_g', an object of .*Thing"):
        ckptkit.open(path)
    path = save({"model": nn.Linear(1, 1), "normalizer": normalizer}, tmp_path / "b.pt")
    assert ckptkit.open(path).signature.root == "model"
    token = {
        "string_to_token": {"*": torch.tensor(7)},
        "string_to_param": nn.ParameterDict({"s": torch.ones(1, 4)}),
    }
    with pytest.raises(RootError, match="could be in 'string_to_token', 'string_to_param'"):
        ckptkit.open(save(token, tmp_path / "c.pt"))
    saved = {"state_dict": WEIGHTS, "hyper_parameters": {"net": nn.Linear(1, 1)}}
    assert ckptkit.open(save(saved, tmp_path / "d.pt")).signature.root == "state_dict"


def test_numbers_enter_lists_and_nested_trees_are_opened_flat(tmp_path: Path) -> None:
    old = {
        "language_model": {"embedding": {"word": {"weight": torch.ones(2)}}, "layers": {"0.w": torch.ones(1)}}
    }
    path = save({"model": old, "models": [WEIGHTS, {"w": torch.zeros(1)}], "iteration": 3}, tmp_path / "f.pt")
    assert list(ckptkit.open(path, root="model.language_model")) == ["embedding.word.weight", "layers.0.w"]
    assert ckptkit.open(path, root="models.1")["w"].tolist() == [0]
    for root in ("models.2", "models.-1", "models.x", "models.0.w.3", "models.00000000000"):
        with pytest.raises(RootError, match="there is no root"):
            ckptkit.open(path, root=root)
    with pytest.raises(RootError, match="or 'model.language_model', which is opened flat"):
        ckptkit.open(path)
    written = ckptkit.save(ckptkit.open(path, root="model.language_model"), tmp_path / "o.pt")
    back = torch.load(tmp_path / "o.pt", weights_only=True)
    assert (
        list(back["model"]["language_model"]) == ["embedding.word.weight", "layers.0.w"]
        and not written.left_out
    )
    path = save([WEIGHTS, {"w": torch.zeros(1)}], tmp_path / "l.pt")
    assert ckptkit.open(path, root="1")["w"].tolist() == [0]
    with pytest.raises(FormatError, match="it holds a list.*dictionaries of tensors: '0', '1'; name one"):
        ckptkit.open(path)


def test_integer_keys_are_strings_and_the_same_digits_twice_an_error(tmp_path: Path) -> None:
    path = save({0: torch.ones(1), 7: torch.zeros(2)}, tmp_path / "f.pt")
    with ckptkit.open(path) as checkpoint:
        assert list(checkpoint) == ["0", "7"] and checkpoint["7"].tolist() == [0, 0]
        assert any(
            "2 keys are numbers in the file and strings here" in note for note in checkpoint.source.notes
        )
        ckptkit.save(checkpoint, tmp_path / "o.safetensors")
    with pytest.raises(FormatError, match="has the key '0' as a number and as a string"):
        ckptkit.open(save({0: torch.ones(1), "0": torch.ones(1)}, tmp_path / "g.pt"))


def test_an_optimizers_file_is_not_asked_for_its_state_dict(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    for value in (optimizer, optimizer.state_dict()):
        with pytest.raises(RootError) as caught:
            ckptkit.open(save(value, tmp_path / "f.pt"))
        assert "give the file that holds the model" in caught.value.message
        assert "model.state_dict()" not in caught.value.message


def test_a_model_that_contains_itself_or_unfolds_without_end_is_an_object(tmp_path: Path) -> None:
    loop = nn.Sequential(nn.Linear(1, 1))
    loop.append(nn.Sequential())
    loop[1]._modules["up"] = loop
    laughs: nn.Module = nn.Linear(1, 1)
    for _ in range(40):
        laughs = nn.Sequential(laughs, laughs)
    for model, words in ((loop, "a module contains itself"), (laughs, "unfold to more keys")):
        path = save({"state_dict": WEIGHTS, "x": model}, tmp_path / "f.pt")
        with ckptkit.open(path) as checkpoint:
            assert checkpoint["w"].equal(WEIGHTS["w"])
            assert any(words in note for note in checkpoint.source.notes)
        assert ckptkit.verify(path).ok


@pytest.mark.parametrize("key", [(1, 2), True, None])
def test_a_mapping_with_a_key_that_is_no_name_is_refused_not_read_without_it(
    key: Any, tmp_path: Path
) -> None:
    file = save(Mapping({"w": torch.ones(2), key: torch.zeros(3)}), tmp_path / "m.pt")
    with pytest.raises(FormatError, match="it holds an object pickled as"):
        ckptkit.open(file)
    assert ckptkit.verify(file).outcome == "not understood"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [False, True])
def test_a_model_with_packed_weights_is_refused_not_read_without_them(scripted: bool, tmp_path: Path) -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    file = tmp_path / "q.pt"
    if scripted:
        torch.jit.script(model).save(str(file))
    else:
        torch.save(model, file)
    with pytest.raises(FormatError, match="Linear keeps its weights packed, which is not read"):
        ckptkit.open(file)
