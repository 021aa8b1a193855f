"""`_metadata` through plans: what torch itself writes for the tree of modules that a plan makes."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.__main__ import main
from ckptkit.state_metadata import moved_state_metadata

LAWS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


class Versioned(nn.Module):
    """A module whose class has a version of its own, with tensors or without."""

    def __init__(self, version: int, tensors: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._version = version
        for name in tensors:
            self.register_parameter(name, nn.Parameter(torch.randn(2, 2)))


NAMES = ["encoder", "attn", "0", "1", "head", "norm", "net"]


@st.composite
def trees(draw: Any, depth: int = 3) -> nn.Module:
    """A random tree: containers of torch's and with versions of their own, layers, layers without tensors."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        leaf: nn.Module = draw(
            st.sampled_from(
                [
                    lambda: nn.Linear(2, 2),
                    lambda: nn.BatchNorm1d(2),
                    lambda: nn.Dropout(),
                    lambda: nn.MultiheadAttention(2, 1),
                    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
                    lambda: Versioned(7),
                    lambda: Versioned(3, ("weight", "scale")),
                ]
            )
        )()
        return leaf
    own = draw(st.sampled_from([(), (), ("token",)]))
    holder: nn.Module = Versioned(draw(st.sampled_from([1, 1, 2, 5])), own)
    if draw(st.integers(0, 4)) == 0:
        holder = nn.Sequential()
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
        holder.add_module(name, draw(trees(depth - 1)))
    return holder


Step = tuple[list[dict[str, Any]], Callable[[nn.Module], nn.Module]]


def paths(model: nn.Module, *, filled: bool = True) -> list[str]:
    """The modules below the root, those with tensors (anywhere below them) only."""
    return [p for p, m in model.named_modules() if p and (m.state_dict() or not filled)]


def parent(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    above, _, name = path.rpartition(".")
    return model.get_submodule(above), name


@st.composite
def steps(draw: Any, model: nn.Module) -> Step:
    """Rules, and the same done to the tree itself."""
    kind = draw(
        st.sampled_from(
            ["wrap", "rename", "rename", "rename tensors", "values", "drop", "take", "copy", "wrap one"]
        )
    )
    event(kind)
    inner = paths(model)
    path = draw(st.sampled_from(inner)) if inner else ""
    if kind == "wrap" or not path:
        name = draw(st.sampled_from(["model", "module", "a.b"]))

        def wrap(tree: nn.Module) -> nn.Module:
            for part in reversed(name.split(".")):
                holder = nn.Module()
                holder.add_module(part, tree)
                tree = holder
            return tree

        return [{"op": "add_prefix", "prefix": f"{name}."}], wrap
    if kind == "values":
        return draw(
            st.sampled_from(
                [
                    [{"op": "cast", "dtype": "float64"}],
                    [{"op": "transpose", "keys": ["*weight"], "dims": [-1, 0], "required": False}],
                    [{"op": "reshape", "keys": ["*bias"], "shape": [-1, 1], "required": False}],
                ]
            )
        ), lambda tree: tree
    literal = re.escape(path)
    if kind == "take":
        return [
            {"op": "keep", "keys": [f"{path}.*"]},
            {"op": "strip_prefix", "prefix": f"{path}."},
        ], lambda tree: tree.get_submodule(path)
    if kind == "wrap one":
        path = path.partition(".")[0]
        assume("inner" not in dict(model.named_modules()))

        def wrapped(tree: nn.Module) -> nn.Module:
            holder = nn.Module()
            holder.add_module(path, tree._modules.pop(path))
            tree.add_module("inner", holder)
            return tree

        return [{"op": "add_prefix", "prefix": "inner.", "keys": [f"{path}.*"]}], wrapped
    if kind == "drop":

        def drop(tree: nn.Module) -> nn.Module:
            holder, name = parent(tree, path)
            del holder._modules[name]
            return tree

        return [{"op": "drop", "keys": [f"{path}.*"]}], drop
    if kind == "copy":
        assume(f"{path}_twin" not in dict(model.named_modules()))

        def doubled(tree: nn.Module) -> nn.Module:
            holder, name = parent(tree, path)
            holder.add_module(name + "_twin", copy.deepcopy(holder._modules[name]))
            return tree

        return [{"op": "copy", "pattern": rf"{literal}\.(.*)", "into": rf"{path}_twin.\1"}], doubled
    if kind == "rename tensors":
        return [
            {
                "op": "rename",
                "pattern": rf"^{literal}\.(\w+)$",
                "replacement": rf"{path}.my_\1",
                "required": False,
            }
        ], (lambda tree: _with_renamed_tensors(tree, path))
    new = draw(st.sampled_from(["other", "blocks", "5"]))
    above = path.rpartition(".")[0]
    place = f"{above}.{new}" if above else new
    assume(place not in dict(model.named_modules()))

    def renamed(tree: nn.Module) -> nn.Module:
        holder, name = parent(tree, path)
        holder._modules = {(new if k == name else k): v for k, v in holder._modules.items()}
        return tree

    return [{"op": "rename", "pattern": rf"^{literal}\.", "replacement": f"{place}."}], renamed


def _with_renamed_tensors(tree: nn.Module, path: str) -> nn.Module:
    module = tree.get_submodule(path)
    module._parameters = {f"my_{k}": v for k, v in module._parameters.items()}
    module._buffers = {f"my_{k}": v for k, v in module._buffers.items()}
    module._non_persistent_buffers_set = {f"my_{k}" for k in module._non_persistent_buffers_set}
    return tree


def versions(state: Any) -> dict[str, Any]:
    return dict(state._metadata)


def filled(module: nn.Module) -> bool:
    return bool(module.state_dict())


def tagged(model: nn.Module) -> nn.Module:
    """Each module knows whether it held tensors at first, through all that is done to the tree."""
    for module in model.modules():
        module.held = filled(module)  # type: ignore[assignment]
    return model


class Case:
    """A state_dict, rules for it, and the tree that they make; shown without asking modules whose tensors were renamed."""

    def __init__(self, state: Any, rules: list[dict[str, Any]], tree: nn.Module) -> None:
        self.state, self.rules, self.tree = state, rules, tree

    def __repr__(self) -> str:
        return (
            f"{versions(self.state)}, {list(self.state)}, {self.rules} -> {versions(self.tree.state_dict())}"
        )


def emptied(tree: nn.Module) -> list[str]:
    """Modules whose tensors were all dropped, and what lies in them: keys cannot tell that they are still there."""
    roots = [path for path, m in tree.named_modules() if getattr(m, "held", False) and not filled(m)]
    return [
        p for p, _ in tree.named_modules() if any(p == root or p.startswith(f"{root}.") for root in roots)
    ]


def lonely(holder: nn.Module) -> bool:
    """Whether all tensors are in `inner`: keys cannot tell that from a prefix of all that was there."""
    return all(key.startswith("inner.") for key in holder.state_dict())


@st.composite
def cases(draw: Any, count: int) -> Case:
    model = draw(trees())
    assume(filled(model))
    state = model.state_dict()
    tree = copy.deepcopy(tagged(model))
    rules: list[dict[str, Any]] = []
    for _ in range(count):
        more, change = draw(steps(tree))
        tree = change(tree)
        rules += more
    assume(filled(tree))
    assume(not any("inner" in m._modules and lonely(m) for m in tree.modules()))
    return Case(state, rules, tree)


@given(cases(1))
@LAWS
def test_each_rule_gives_what_torch_writes_for_the_tree_that_it_makes(
    case: Case,
) -> None:
    state, rules, tree = case.state, case.rules, case.tree
    moved = moved_state_metadata(state._metadata, ckptkit.plan(state, rules))
    gone = set(emptied(tree))
    wanted = {path: entry for path, entry in versions(tree.state_dict()).items() if path not in gone}
    assert moved.entries == wanted
    assert versions(ckptkit.remap(state, rules)) == wanted


@given(cases(3))
@LAWS
def test_after_several_rules_an_entry_is_what_torch_writes_or_is_listed(
    case: Case,
) -> None:
    state, rules, tree = case.state, case.rules, case.tree
    moved = moved_state_metadata(state._metadata, ckptkit.plan(state, rules))
    assert moved.entries is not None
    said = (*moved.left_out, *moved.notes)
    wrong, gone = [], set(emptied(tree))
    for path, module in tree.named_modules():
        # A container that one rule made and the next one renamed cannot be told from one that was there before.
        if not hasattr(module, "held") or (not filled(module) and module._version == 1) or path in gone:
            continue
        if moved.entries.get(path) != {"version": module._version}:
            wrong.append(path)
            told = any(f"(version {module._version})" in line for line in said)
            assert told or module._version == 1, f"{path}: {moved}, from {versions(state)}, {list(state)}"
    event("exact" if not wrong else "listed")
    assert not wrong or said


class Old(nn.Module):
    """A class that changed its layout: until version 2 its scale was stored as a logarithm."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state: Any, prefix: str, local: dict[str, Any], *more: Any) -> None:
        version = local.get("version")
        if (version is None or version < 2) and f"{prefix}scale" in state:
            state[f"{prefix}scale"] = state[f"{prefix}scale"].exp()
        super()._load_from_state_dict(state, prefix, local, *more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def migrating() -> nn.Module:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.Sequential(Old(), nn.Dropout()))
    with torch.no_grad():
        model[2][0].scale += torch.rand(2)
    model(torch.randn(4, 2))
    return model.eval()


@st.composite
def roads(draw: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rules that take a checkpoint away from its model, and those that bring it back."""
    name, leaf = draw(st.sampled_from(["module", "model", "a.b"])), draw(st.booleans())
    away: list[dict[str, Any]] = [{"op": "add_prefix", "prefix": f"{name}."}]
    back: list[dict[str, Any]] = [{"op": "strip_prefix", "prefix": f"{name}."}]
    if leaf:
        away.append({"op": "rename", "pattern": r"\.scale$", "replacement": ".gain"})
        back.append({"op": "rename", "pattern": r"\.gain$", "replacement": ".scale"})
    if draw(st.booleans()):
        away.append({"op": "cast", "dtype": "float64"})
    if draw(st.booleans()):
        away.append({"op": "rename", "pattern": r"\b2\.0\.", "replacement": "block.old."})
        back.insert(0, {"op": "rename", "pattern": r"\bblock\.old\.", "replacement": "2.0."})
    return away, back


@given(roads(), st.booleans())
@settings(LAWS, max_examples=25)
@pytest.mark.parametrize("how", ["load", "file", "memory", "lazy", "plan", "hook"])
def test_classes_that_migrate_load_what_was_saved_after_any_way_there_and_back(
    how: str, tmp_path_factory: pytest.TempPathFactory, road: tuple[Any, Any], old: bool
) -> None:
    folder = tmp_path_factory.mktemp("v")
    away, back = road
    one, two = migrating(), migrating()
    state = one.state_dict()
    if old:  # what the class wrote before version 2
        state["2.0.scale"] = state["2.0.scale"].log()
        state._metadata["2.0"] = {"version": 1}
    torch.save(ckptkit.remap(state, away), folder / "far.pt")
    ckptkit.save(ckptkit.remap(ckptkit.open(state), away), folder / "away.pt")
    far = torch.load(folder / "away.pt", weights_only=True)
    assert versions(far) == versions(torch.load(folder / "far.pt", weights_only=True))
    if how == "load":
        assert ckptkit.load(two, folder / "away.pt", {"rules": back}).ok
    elif how == "file":
        ckptkit.save(ckptkit.remap(folder / "away.pt", back), folder / "back.pt")
        two.load_state_dict(torch.load(folder / "back.pt", weights_only=True))
    elif how == "memory":
        two.load_state_dict(ckptkit.remap(far, back))
    elif how == "lazy":
        two.load_state_dict(ckptkit.remap(ckptkit.open(folder / "away.pt"), back))
    elif how == "plan":
        plan = ckptkit.plan(state, [rule for rule in away if rule["op"] != "cast"])
        keys = ckptkit.remap(state, plan)
        two.load_state_dict(ckptkit.remap(keys, plan.invert()))
    else:
        two.register_load_state_dict_pre_hook(ckptkit.load_hook(back))
        before = versions(far)
        two.load_state_dict(far)
        assert versions(far) == before
        two.load_state_dict(far)
        assert ckptkit.load(two, far).ok
        assert versions(far) == before
    x = torch.randn(3, 2)
    assert torch.allclose(one(x), two(x), atol=1e-6)


def test_a_wrapper_of_data_parallel_is_stripped_from_file_to_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
    torch.save(nn.DataParallel(model).state_dict(), tmp_path / "ddp.pt")
    result = ckptkit.remap(tmp_path / "ddp.pt", [{"op": "strip_prefix", "prefix": "module."}])
    written = ckptkit.save(result, tmp_path / "plain.pt")
    loaded = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert versions(loaded) == versions(model.state_dict())
    assert list(loaded._metadata) == list(versions(model.state_dict()))
    assert (written.left_out, written.notes) == ((), ())


def test_the_model_of_a_training_file_keeps_its_versions_and_the_wrapper_its_own_goes(tmp_path: Path) -> None:
    """As Lightning saves: the model below `model.`, buffers of losses beside it."""
    wrapper = nn.Module()
    wrapper.model, wrapper.loss = migrating(), nn.CrossEntropyLoss(weight=torch.ones(2))
    torch.save({"state_dict": wrapper.state_dict(), "epoch": 1}, tmp_path / "last.ckpt")
    rules = [{"op": "drop", "keys": ["loss.*"]}, {"op": "strip_prefix", "prefix": "model."}]
    written = ckptkit.save(ckptkit.remap(tmp_path / "last.ckpt", rules), tmp_path / "m.pt", root_only=True)
    assert versions(torch.load(tmp_path / "m.pt", weights_only=True)) == versions(wrapper.model.state_dict())
    assert written.left_out == ("epoch",)


def model_of(**children: nn.Module) -> nn.Module:
    model = nn.Module()
    for name, child in children.items():
        model.add_module(name, child)
    return model


def named(version: int, **children: nn.Module) -> nn.Module:
    model = model_of(**children)
    model._version = version
    return model


WEIGHT, BOTH = ("weight",), ("weight", "scale")
LEFT_OUT: dict[str, tuple[nn.Module, list[dict[str, Any]], list[str]]] = {
    "two versions in one module": (
        model_of(q=Versioned(2, WEIGHT), k=Versioned(3, WEIGHT)),
        [{"op": "concat", "patterns": [r"q\.weight", r"k\.weight"], "into": "qk.weight", "dim": 0}],
        [
            "_metadata of q (version 2): became one module with 'k', which has another version",
            "_metadata of k (version 3): became one module with 'q', which has another version",
        ],
    ),
    "a root with a version, and another one in its place": (
        named(4, model=Versioned(1, BOTH)),
        [{"op": "strip_prefix", "prefix": "model."}],
        ["_metadata of the root module (version 4): 'model' is in its place now"],
    ),
    "a module that goes into the one that holds it": (
        model_of(block=model_of(norm=nn.BatchNorm1d(2), linear=nn.Linear(2, 2))),
        [{"op": "rename", "pattern": r"norm\.", "replacement": "norm_"}],
        ["_metadata of block.norm (version 2): became one module with 'block', which has another version"],
    ),
    "a layer without tensors, and what held it is gone": (
        model_of(a=nn.Linear(2, 2), act=Versioned(5)),
        [{"op": "keep", "keys": ["a.*"]}, {"op": "strip_prefix", "prefix": "a."}],
        ["_metadata of act (version 5): where it is now is not evident"],
    ),
    "nothing, where all modules have the version that torch gives": (
        model_of(q=nn.Linear(2, 2), k=nn.Linear(2, 2), act=nn.ReLU()),
        [{"op": "concat", "patterns": [r"q\.(.*)", r"k\.(.*)"], "into": r"\1", "dim": 0}],
        [],
    ),
}
NOTES: dict[str, tuple[nn.Module, list[dict[str, Any]], str]] = {
    "a split": (
        model_of(qkv=Versioned(3, BOTH)),
        [{"op": "split", "pattern": r"qkv\.(.*)", "into": [r"q.\1", r"k.\1"], "dim": 0}],
        "_metadata of qkv (version 3): its tensors were split over 'q', 'k', and each has its version",
    ),
    "a split of a container": (
        model_of(a=named(5, x=nn.Linear(1, 1), y=nn.Linear(1, 1))),
        [{"op": "rename", "pairs": [[r"^a\.x\.", "b.x."], [r"^a\.y\.", "c.y."]]}],
        "_metadata of a (version 5): its tensors were split over 'b', 'c', and each has its version",
    ),
    "a tensor that becomes a new module's": (
        model_of(a=Versioned(3, BOTH)),
        [{"op": "rename", "pattern": r"a\.scale", "replacement": "a.b.gain"}],
        "_metadata of a (version 3): tensors of it are in 'a.b' now, which does not have its version",
    ),
    "a root that may have moved": (
        named(3, a=nn.Linear(1, 1)),
        [{"op": "rename", "pattern": r"^a\.", "replacement": "model.b."}],
        "_metadata of the root module (version 3): where it is now is not evident; taken to be where it was",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_versions_that_cannot_be_kept_are_listed_wherever_the_result_goes(name: str, tmp_path: Path) -> None:
    model, rules, lines = LEFT_OUT[name]
    torch.save(model.state_dict(), tmp_path / "a.pt")
    result = ckptkit.remap(tmp_path / "a.pt", rules)
    assert ckptkit.save(result, tmp_path / "b.pt").left_out == tuple(lines)
    assert result.source.notes == tuple(f"left out: {line}" for line in lines)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ckptkit.remap(model.state_dict(), rules)
    assert [str(warning.message) for warning in caught] == [f"left out: {line}" for line in lines]
    assert [warning.filename for warning in caught] == [__file__ for _ in lines]


@pytest.mark.parametrize("name", NOTES)
def test_versions_to_look_at_are_noted(name: str, tmp_path: Path) -> None:
    model, rules, line = NOTES[name]
    torch.save(model.state_dict(), tmp_path / "a.pt")
    result = ckptkit.remap(tmp_path / "a.pt", rules)
    assert ckptkit.save(result, tmp_path / "b.pt").notes == (line,)
    assert result.source.notes == (line,)


def test_a_dry_run_lists_versions_that_would_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _, (line,) = LEFT_OUT["a root with a version, and another one in its place"]
    torch.save(model.state_dict(), tmp_path / "a.pt")
    command = ["remap", str(tmp_path / "a.pt"), "--strip-prefix", "model.", "--dry-run"]
    assert main(command) == 0
    assert f"left out: {line}" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == [line]


def test_an_entry_keeps_all_that_it_says(tmp_path: Path) -> None:
    state = nn.Linear(2, 2).state_dict()
    state._metadata[""] = {"version": 1, "local": {"odd": [1, None]}}
    torch.save(state, tmp_path / "a.pt")
    ckptkit.save(ckptkit.remap(tmp_path / "a.pt", [{"op": "add_prefix", "prefix": "m."}]), tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True)._metadata == {
        "": {"version": 1},
        "m": {"version": 1, "local": {"odd": [1, None]}},
    }


def test_a_metadata_that_is_not_whole_gets_no_entries_that_nobody_wrote() -> None:
    state = nn.Linear(2, 2).state_dict()
    state._metadata = {"a": {"version": 2}}
    assert ckptkit.remap(state, [{"op": "add_prefix", "prefix": "m."}])._metadata == {}  # type: ignore[attr-defined]


def test_a_copy_and_its_original_keep_the_version_of_what_holds_them_though_one_is_renamed_inside() -> None:
    state = model_of(encoder=named(2, layer=nn.Linear(2, 2)), head=nn.Linear(2, 2)).state_dict()
    rules = [
        {"op": "copy", "pattern": r"encoder\.(.*)", "into": r"momentum.\1"},
        {"op": "add_prefix", "prefix": "model."},
        {"op": "rename", "pattern": r"^model\.encoder\.layer", "replacement": "model.encoder.first"},
    ]
    got = versions(ckptkit.remap(state, rules))
    assert (got["model.encoder"], got["model.momentum"]) == ({"version": 2}, {"version": 2})


def test_a_prefix_on_one_child_makes_a_plain_container_and_the_root_stays() -> None:
    state = named(2, a=nn.Linear(2, 2), b=nn.Linear(2, 2)).state_dict()
    got = versions(ckptkit.remap(state, [{"op": "add_prefix", "prefix": "inner.", "keys": ["a.*"]}]))
    assert (got[""], got["inner"]) == ({"version": 2}, {"version": 1})
