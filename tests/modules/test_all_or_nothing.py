"""A load that cannot be carried out changes nothing, and the report never says what is not so."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit

from .test_loading import tensors


def two() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def ones(model: nn.Module) -> dict[str, Any]:
    state = model.state_dict()
    return {key: torch.ones_like(value) for key, value in state.items() if value is not None}


class Extra(nn.Module):
    """An extra state that may be missing, of any size, or refuse."""

    def __init__(self, state: Any = None, refuse: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.weight = nn.Parameter(torch.zeros(2))
        self.state, self.refuse = state, refuse

    def get_extra_state(self) -> Any:
        if self.refuse:
            raise RuntimeError("not initialised")
        return self.state

    def set_extra_state(self, state: Any) -> None:
        if self.refuse:
            raise ValueError("no such state")
        self.state = state


def with_last(value: torch.Tensor) -> Callable[[nn.Module], dict[str, Any]]:
    return lambda model: {**ones(model), "1.weight": value}


def expanded() -> nn.Module:
    model = two()
    model[1].weight = nn.Parameter(torch.zeros(1, 2).expand(2, 2))
    return model


def inferred() -> nn.Module:
    model = two()
    with torch.inference_mode():
        model[1] = nn.Linear(2, 2)
    return model


def after_the_load() -> nn.Module:
    def refuse(module: nn.Module, keys: Any) -> None:
        raise ValueError("the hook says no")

    model = two()
    model.register_load_state_dict_post_hook(refuse)
    return model


big = torch.full((2, 2), 1e30)
HALF = {"rules": [{"op": "cast", "dtype": "float16", "keys": ["*"]}]}
STOPPED: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], dict[str, Any]], dict[str, Any], str]] = {
    "a cast that overflows": (two, with_last(big), HALF, "cannot be held by float16"),
    "a meta tensor": (two, with_last(torch.ones(2, 2, device="meta")), {}, "has a shape but no data"),
    "a meta tensor to assign": (two, with_last(torch.ones(2, 2, device="meta")), {"assign": True}, "no data"),
    "a sparse tensor": (two, with_last(torch.ones(2, 2).to_sparse()), {}, "is sparse_coo, the model's strided"),
    "integers that become a parameter": (
        two, with_last(torch.ones(2, 2, dtype=torch.int8)), {"dtype": "checkpoint"}, "would become int8"),
    "integers that are assigned": (
        two, with_last(torch.ones(2, 2, dtype=torch.int8)), {"assign": True}, "would become int8"),
    "a policy of integers": (two, ones, {"dtype": "int8"}, "would become int8"),
    "complex numbers": (two, with_last(torch.ones(2, 2, dtype=torch.complex64)), {}, "imaginary part"),
    "expanded parameters": (expanded, lambda m: ones(two()), {}, "share memory"),
    "inference tensors": (inferred, lambda m: ones(two()), {}, "inference_mode"),
    "an extra state that is refused": (
        lambda: Extra(refuse=True), lambda m: {**ones(Extra()), "_extra_state": 1}, {}, "no such state"),
    "a hook after the load": (after_the_load, ones, {}, "the hook says no"),
    "a hook after the load that assigns": (after_the_load, ones, {"assign": True}, "the hook says no"),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPPED)
def test_what_stops_a_load_is_said_and_changes_nothing(name: str) -> None:
    build, give, config, words = STOPPED[name]
    model = build()
    state = {k: v for k, v in give(model).items() if k != "_extra_state" or isinstance(model, Extra)}
    before = {key: (value.dtype, value.clone()) for key, value in model.named_parameters()}
    with pytest.raises(ckptkit.CkptkitError) as caught:
        ckptkit.load(model, state, config)
    assert words in str(caught.value)
    for key, value in model.named_parameters():
        assert value.dtype is before[key][0]
        assert torch.equal(value, before[key][1])


DECIDED = [name for name in STOPPED if "cast" not in name and "hook" not in name and "extra" not in name]


@pytest.mark.parametrize("name", DECIDED)
def test_what_can_be_known_before_stands_in_the_check(name: str) -> None:
    build, give, config, words = STOPPED[name]
    model = build()
    report = ckptkit.check(model, give(model), config)
    assert not report.ok
    assert words in " ".join(report.errors)


class Ties(nn.Module):
    def __init__(self, by_storage: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = nn.Parameter(self.a.weight.data) if by_storage else self.a.weight


def test_assigning_to_a_later_name_of_a_tie_fills_every_name() -> None:
    model = Ties()
    report = ckptkit.load(model, {"b.weight": torch.full((2, 2), 9.0)}, {"assign": True})
    assert report.tied == (("a.weight", "b.weight"),)
    assert model.a.weight is model.b.weight
    assert model.a.weight.sum() == 36


def test_ties_by_storage_stay_ties_when_the_dtype_changes() -> None:
    model = Ties(by_storage=True)
    ckptkit.load(model, {"a.weight": torch.ones(2, 2)}, {"dtype": "bfloat16"})
    assert model.b.weight.dtype is torch.bfloat16
    assert model.b.weight.sum() == 4
    assert model.a.weight.data_ptr() == model.b.weight.data_ptr()


def test_reinit_keeps_the_models_values_in_modules_that_load_in_their_own_way() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = {key: torch.full_like(value, 7) for key, value in model.state_dict().items()}
    report = ckptkit.load(model, state, {"adapt": [{"keys": ["1.*"], "method": "reinit"}]})
    assert set(report.missing) == {f"1.{k}" for k in nn.BatchNorm1d(2).state_dict()}
    assert model[1].weight.sum() == 2
    assert model[1].running_mean.sum() == 0
    assert model[0].weight.sum() == 28


def test_reinit_of_one_name_of_a_tie_is_an_error() -> None:
    state = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}
    with pytest.raises(ckptkit.PlanError, match=r"'a.weight' is to keep .* is tied with 'b.weight'"):
        ckptkit.load(Ties(), state, {"adapt": [{"keys": ["a.weight"], "method": "reinit"}]})


def test_a_root_is_followed_or_refused_whatever_the_checkpoint_is_given_as(tmp_path: Path) -> None:
    raw = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    nested = {"state_dict": raw, "ema": {key: value * 2 for key, value in raw.items()}, "epoch": 3}
    torch.save(nested, tmp_path / "n.pt")
    for source in (tmp_path / "n.pt", ckptkit.open(tmp_path / "n.pt"), nested):
        model = nn.Linear(2, 2)
        ckptkit.load(model, source)
        assert model.bias.sum() == 2
        ckptkit.load(model, source, {"root": "ema"})
        assert model.bias.sum() == 4
        with pytest.raises(ckptkit.RootError, match="no root 'emma'"):
            ckptkit.load(model, source, {"root": "emma"})
    with pytest.raises(ckptkit.RootError, match="no root 'nonsense'"):
        ckptkit.load(nn.Linear(2, 2), raw, {"root": "nonsense"})
    with pytest.raises(ckptkit.RootError, match="stands at"):
        ckptkit.load(nn.Linear(2, 2), ckptkit.open(raw), {"root": "nonsense"})
    assert list(ckptkit.remap(nested, [{"op": "add_prefix", "prefix": "m."}])) == ["m.weight", "m.bias"]
    ckptkit.save(nested, tmp_path / "again.pt")
    assert torch.load(tmp_path / "again.pt")["epoch"] == 3


class Resized(nn.Module):
    """The usual hook that gives a buffer the checkpoint's shape."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("cache", torch.zeros(size))
        self.register_load_state_dict_pre_hook(self.resize)

    @staticmethod
    def resize(module: nn.Module, state: Any, prefix: str, *_: Any) -> None:
        if state[prefix + "cache"].shape != module.cache.shape:
            module.cache = torch.empty_like(state[prefix + "cache"])


def test_a_hook_that_resizes_a_buffer_loads_and_its_check_changes_nothing() -> None:
    state = {**Resized(5).state_dict(), "cache": torch.arange(5.0)}
    model = Resized()
    assert ckptkit.check(model, state).ok
    assert model.cache.shape == (3,)
    assert not model.cache.is_meta
    assert ckptkit.load(model, state).ok
    assert torch.equal(model.cache, state["cache"])
    with pytest.raises(ckptkit.IncompatibleKeysError):
        ckptkit.load(model, {**Resized(7).state_dict(), "more": torch.ones(1)})
    assert torch.equal(model.cache, state["cache"])


def test_observers_that_take_the_checkpoints_size_load() -> None:
    observer = torch.ao.quantization.PerChannelMinMaxObserver()
    observer(torch.randn(4, 3))
    filled = nn.Sequential(nn.Linear(2, 2), observer)
    model = nn.Sequential(nn.Linear(2, 2), torch.ao.quantization.PerChannelMinMaxObserver())
    assert ckptkit.load(model, filled.state_dict()).ok
    assert torch.equal(model[1].min_val, observer.min_val)


@pytest.mark.parametrize("own", [None, torch.zeros(3, dtype=torch.uint8), {"a": 1}])
def test_an_extra_state_may_be_anything_on_either_side(own: Any) -> None:
    for given in (torch.ones(5, dtype=torch.uint8), None, {"b": 2}):
        model, other = Extra(own), Extra(given)
        report = ckptkit.load(model, other.state_dict())
        assert report.ok
        assert report.coverage.parameters == 1.0
        assert (model.state is given) or torch.equal(model.state, given)


def test_an_extra_state_that_cannot_be_saved_is_nothing_to_a_check() -> None:
    state = {**ones(Extra()), "_extra_state": 1}
    assert ckptkit.check(Extra(refuse=True), state).ok


def hooked(hook: Callable[..., None]) -> nn.Module:
    model = Ties()
    model.b.weight = nn.Parameter(torch.zeros(2, 2))
    model._register_load_state_dict_pre_hook(hook)
    return model


def test_what_hooks_report_counts_as_torch_counts_it() -> None:
    def refuse(
        state: Any, prefix: str, local: Any, strict: Any, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        errors.append("version too old")

    def surplus(
        state: Any, prefix: str, local: Any, strict: Any, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        unexpected.append("zzz")

    def short(state: Any, prefix: str, *_: Any) -> None:
        if "q" in state:
            state["b.weight"] = state.pop("q")[:1]

    full = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}
    cut = {"a.weight": torch.ones(2, 2), "q": torch.ones(2, 2)}
    for hook, state, words in (
        (refuse, full, "version too old"),
        (surplus, full, "zzz"),
        (short, cut, "b.weight"),
    ):
        model = hooked(hook)
        before = tensors(model)
        with pytest.raises(RuntimeError, match=words if hook is not short else "size mismatch"):
            hooked(hook).load_state_dict(dict(state))
        assert not ckptkit.check(model, state).ok
        with pytest.raises(ckptkit.IncompatibleKeysError, match=words):
            ckptkit.load(model, state)
        assert tensors(model) == before


def test_hooks_that_make_keys_read_numbers_or_rename_on_both_ways_load() -> None:
    class Versioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self._register_load_state_dict_pre_hook(self.rename)

        @staticmethod
        def rename(state: Any, prefix: str, *_: Any) -> None:
            if "version" in state and int(state.pop("version")) == 2:
                state["a.weight"] = state.pop("old")

    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2, bias=False)
            self._register_state_dict_hook(self.out)
            self._register_load_state_dict_pre_hook(self.back)

        @staticmethod
        def out(module: nn.Module, state: Any, prefix: str, *_: Any) -> None:
            state[prefix + "w"] = state.pop(prefix + "inner.weight")

        @staticmethod
        def back(state: Any, prefix: str, *_: Any) -> None:
            state[prefix + "inner.weight"] = state.pop(prefix + "w")

    joined = nn.Linear(2, 2, bias=False)
    joined.register_load_state_dict_pre_hook(
        ckptkit.load_hook([{"op": "concat", "patterns": ["^a$", "^b$"], "into": "weight", "dim": 0}])
    )
    cases: list[tuple[nn.Module, dict[str, Any], str]] = [
        (Versioned(), {"version": torch.tensor(2), "old": torch.ones(2, 2)}, "a.weight"),
        (Outside(), {"w": torch.ones(2, 2)}, "inner.weight"),
        (joined, {"a": torch.ones(1, 2), "b": torch.ones(1, 2)}, "weight"),
    ]
    for model, state, key in cases:
        assert ckptkit.check(model, state).ok
        assert ckptkit.load(model, state).ok
        assert dict(model.named_parameters())[key].sum() == 4


def test_a_class_that_forgives_a_missing_key_is_believed() -> None:
    class Forgiving(nn.Linear):
        def _load_from_state_dict(
            self, state: Any, prefix: str, local: Any, strict: bool, missing: Any, *rest: Any
        ) -> None:
            super()._load_from_state_dict(state, prefix, local, strict, missing, *rest)
            if prefix + "bias" in missing:
                missing.remove(prefix + "bias")

    state = {"weight": torch.ones(2, 2)}
    Forgiving(2, 2).load_state_dict(state)
    report = ckptkit.load(Forgiving(2, 2), state)
    assert report.ok
    assert not report.missing


def test_the_dtype_comes_back_too_when_a_class_refuses() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(2))

        def _load_from_state_dict(self, *rest: Any) -> None:
            super()._load_from_state_dict(*rest)
            if not self.w.is_meta:
                raise ValueError("no")

    model = nn.Sequential(nn.BatchNorm1d(2), Bad())
    state = {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    with pytest.raises(ckptkit.IncompatibleKeysError, match="is as it was before"):
        ckptkit.load(model, state, {"dtype": "checkpoint"})
    assert {v.dtype for v in model.parameters()} == {torch.float32}


def test_tensors_in_the_attributes_of_a_module_come_back_too() -> None:
    """A cache in a list, a table in a dictionary, a single mask."""

    def spoil(module: Any, keys: Any) -> None:
        for tensor in (module.mask, *module.cache, *module.table.values()):
            tensor.zero_()
        module.cache.append(torch.ones(1))
        raise OSError("no space left")

    model: Any = nn.Linear(2, 2)
    model.mask, model.cache, model.table = torch.ones(3), [torch.ones(2)], {"a": torch.ones(2), "b": 1}
    model.register_load_state_dict_post_hook(spoil)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="as it was before"):
        ckptkit.load(model, nn.Linear(2, 2).state_dict())
    assert len(model.cache) == 1
    assert all(bool(tensor.all()) for tensor in (model.mask, model.cache[0], model.table["a"]))


def test_values_that_the_models_dtype_cannot_hold_stand_in_the_report() -> None:
    report = ckptkit.load(nn.Linear(2, 2).half(), {"weight": big, "bias": torch.full((2,), 1e-30)})
    told = "\n".join(report.notes)
    assert "'weight' in the model's dtype: 4 values overflowed" in told
    assert "'bias' in the model's dtype: 2 values became zero" in told


def test_a_load_hook_travels_with_its_model_and_takes_rules_alone() -> None:
    model = nn.Linear(2, 2)
    hook = ckptkit.load_hook([{"op": "rename", "pattern": "^old", "replacement": "weight"}])
    model.register_load_state_dict_pre_hook(hook)
    torch.save(model, io.BytesIO())
    again = pickle.loads(pickle.dumps(model))
    again.load_state_dict({"old": torch.ones(2, 2), "bias": torch.ones(2)})
    assert again.weight.sum() == 4
    with pytest.raises(
        ckptkit.UsageError, match="this LoadConfig also sets allow_missing; give its rules here"
    ):
        ckptkit.load_hook(ckptkit.LoadConfig(allow_missing=["x"], root="ema"))
    with pytest.raises(ckptkit.UsageError, match="which has no root 'ema'"):
        ckptkit.load_hook(ckptkit.LoadConfig(root="ema"))
