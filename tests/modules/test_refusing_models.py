"""Models that refuse: parameters, hooks and trees that stop a freeze, a load or a check half way."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ckptkit
from ckptkit.errors import CkptkitError, IncompatibleKeysError, UsageError
from ckptkit.formats.module_tree import BESIDE, check_tree, levels
from ckptkit.patterns import select

from .faults import Stop, interrupt


class Refusing(nn.Parameter):
    """Raises at the n-th change of `requires_grad`, counted over all of them; other changes are torch's."""

    error: BaseException | None = None
    left = 0

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        if Refusing.error is not None:
            Refusing.left -= 1
            if Refusing.left < 0:
                error, Refusing.error = Refusing.error, None
                raise error
        return super().requires_grad_(requires_grad)


class Own(Exception):
    """An error that no library knows."""


def net() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), nn.Linear(3, 1)
    )
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            assert parameter is not None
            module._parameters[name] = Refusing(parameter.detach())
            module._parameters[name].grad = torch.ones_like(parameter)  # type: ignore[union-attr]
    return model


def state(model: nn.Module) -> list[Any]:
    return [
        *((name, p.requires_grad, id(p.grad) if p.grad is not None else None) for name, p in model.named_parameters()),
        *((name, m.training, sorted(vars(m)), vars(m).get("_ckptkit_frozen")) for name, m in model.named_modules()),
    ]  # fmt: skip


def stopped(act: Callable[[], Any], place: int, error: BaseException) -> BaseException | None:
    """What comes out of a call in which the n-th change of `requires_grad` raises; None when there are fewer."""
    Refusing.error, Refusing.left = error, place
    try:
        act()
    except BaseException as raised:
        return raised
    finally:
        Refusing.error = None
    return None


ERRORS = st.sampled_from([RuntimeError("no"), Own("no"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
PATTERNS = st.sampled_from([["*"], ["2.*"], ["0.*", "1.*"], ["*.weight"]])


@given(PATTERNS, PATTERNS, st.integers(0, 9), ERRORS, st.booleans())
def test_a_freeze_or_unfreeze_that_is_stopped_anywhere_leaves_the_model_as_it_was(
    before: list[str], patterns: list[str], place: int, error: BaseException, back: bool
) -> None:
    model = net()
    ckptkit.freeze(model, {"freeze": before})
    was = state(model)
    act = (lambda: ckptkit.unfreeze(model)) if back else (lambda: ckptkit.freeze(model, {"freeze": patterns}))
    raised = stopped(act, place, error)
    if raised is None:
        assert all(
            p.requires_grad is back
            for k, p in model.named_parameters()
            if back or k in select(patterns, [k]).keys
        )
        return
    assert state(model) == was
    assert isinstance(raised, UsageError if isinstance(error, Exception) else type(error))
    assert raised is error or raised.__cause__ is error


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("refusing", [False, True])
def test_an_interrupt_at_any_line_of_a_freeze_leaves_it_done_or_undone(back: bool, refusing: bool) -> None:
    """Also while what a refusal has stopped is put back."""

    def begin() -> nn.Module:
        model = net()
        if back:
            ckptkit.freeze(model, {"freeze": ["*"]})
        return model

    def act(model: nn.Module) -> Any:
        return ckptkit.unfreeze(model) if back else ckptkit.freeze(model, {"freeze": ["*"]})

    with Stop(0, None, True) as counting:
        act(begin())
    done, handler = begin(), signal.getsignal(signal.SIGINT)
    act(done)
    ends = [[each[:2] for each in state(model)] for model in (begin(), done)]
    stops = 0
    lines = random.Random(counting.count).sample(range(1, counting.count), min(60, counting.count - 1))
    for line in lines:
        model = begin()
        Refusing.error, Refusing.left = (Own("no"), 6) if refusing else (None, 0)
        try:
            with Stop(line, interrupt, True):
                act(model)
        except (KeyboardInterrupt, UsageError):
            stops += 1
        finally:
            Refusing.error = None
        assert [each[:2] for each in state(model)] in (ends[:1] if refusing else ends)
        assert signal.getsignal(signal.SIGINT) is handler
    assert stops > 5


def test_a_parameter_of_inference_mode_refuses_to_train_and_nothing_is_unfrozen() -> None:
    with torch.inference_mode():
        inner = nn.Linear(2, 2)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), inner)
    ckptkit.freeze(model, {"freeze": ["*"]})
    was = state(model)
    with pytest.raises(
        UsageError, match=r"what trains could not be changed \(RuntimeError: .*is as it was; where a par"
    ):
        ckptkit.unfreeze(model)
    assert state(model) == was


class Child(nn.Module):
    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.parent = parent


def cycle() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model.add_module("child", Child(model))
    return model


def nested(levels: int) -> nn.Module:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(levels):
        model = nn.Sequential(model)
    return model


def hooked(model: nn.Module) -> nn.Module:
    model.register_load_state_dict_pre_hook(ckptkit.load_hook([{"op": "strip_prefix", "prefix": "old."}]))
    return model


ACTS: dict[str, Callable[[nn.Module], Any]] = {
    "load": lambda model: ckptkit.load(model, {"0.weight": torch.zeros(2, 2)}, strict=False),
    "load with a hook": lambda model: ckptkit.load(hooked(model), {"0.weight": torch.zeros(2, 2)}, strict=False),
    "check": lambda model: ckptkit.check(model, {"0.weight": torch.zeros(2, 2)}),
    "freeze": lambda model: ckptkit.freeze(model, {"freeze": ["*"]}),
    "unfreeze": ckptkit.unfreeze,
    "param_groups": ckptkit.param_groups,
    "signature": ckptkit.signature,
    "open": ckptkit.open,
    "remap": lambda model: ckptkit.remap(model, []),
    "plan": lambda model: ckptkit.plan(model, []),
    "diff": lambda model: ckptkit.diff(model, model),
    "load from": lambda model: ckptkit.load(nn.Linear(2, 2), model, strict=False),
    "infer": lambda model: ckptkit.infer(model, model),
}  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
def test_a_module_that_holds_itself_is_refused_with_both_places(act: str) -> None:
    with pytest.raises(
        UsageError, match=r"'child\.parent' is the model itself again \(Sequential\): torch can neither"
    ):
        ACTS[act](cycle())


@pytest.mark.parametrize("act", ACTS)
def test_modules_on_too_many_levels_are_refused_and_fewer_are_not(act: str) -> None:
    with pytest.raises(UsageError, match=r"Sequential has modules in modules on more than \d+ levels"):
        ACTS[act](nested(2000))
    fewer = levels() - 50  # functions of ckptkit call each other, too
    assert fewer > 500
    try:
        ACTS[act](nested(fewer))
    except IncompatibleKeysError:
        assert act in ("load", "load with a hook", "load from")  # nothing of it fits


def test_shared_modules_are_no_cycle_and_do_not_take_exponential_time() -> None:
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(nn.Sequential(shared))})
    assert len(ckptkit.signature(model)) == 4
    tower: nn.Module = nn.Linear(1, 1)
    for _ in range(levels() - BESIDE):
        tower = nn.ModuleDict({"a": tower, "b": tower})
    check_tree(tower)


def pre_hook(*_: Any) -> None:
    raise Own("the pre-hook's words")


def post_hook(*_: Any) -> None:
    raise Own("the post-hook's words")


def state_hook(*_: Any) -> None:
    raise Own("the state hook's words")


class OwnWay(nn.Linear):
    def _load_from_state_dict(self, *_: Any) -> None:
        raise Own("the class's words")


class Extra(nn.Linear):
    fails = False

    def get_extra_state(self) -> Any:
        if self.fails:
            raise Own("the extra state's words")
        return 1

    def set_extra_state(self, value: Any) -> None:
        raise Own("the extra state's words")


def with_hook(kind: str) -> nn.Module:
    inner: nn.Module = {"own": OwnWay, "extra": Extra}.get(kind, nn.Linear)(2, 2)
    if kind == "pre":
        inner.register_load_state_dict_pre_hook(pre_hook)
    elif kind == "post":
        inner.register_load_state_dict_post_hook(post_hook)
    return nn.ModuleDict({"inner": inner})


@pytest.mark.parametrize(
    ("kind", "words"),
    [("pre", "the hook pre_hook of Linear at 'inner' failed: Own: the pre-hook's words"),
     ("post", "the hook post_hook of Linear at 'inner' failed: Own: the post-hook's words"),
     ("own", "_load_from_state_dict of OwnWay at 'inner' failed: Own: the class's words"),
     ("extra", "of Extra at 'inner' failed: Own: the extra state's words")],
)  # fmt: skip
def test_a_hook_that_fails_while_loading_is_named_with_its_module(kind: str, words: str) -> None:
    model = with_hook(kind)
    was = copy.deepcopy(model.state_dict())
    saved = {key: value + 1 if isinstance(value, torch.Tensor) else value for key, value in was.items()}
    with pytest.raises(IncompatibleKeysError) as caught:
        ckptkit.load(model, saved)
    assert words in str(caught.value)
    assert isinstance(caught.value.__cause__, Own)
    assert all(
        torch.equal(was[k], v) if isinstance(v, torch.Tensor) else True for k, v in model.state_dict().items()
    )


@pytest.mark.parametrize("act", ["signature", "open", "remap", "plan", "load from"])
@pytest.mark.parametrize("kind", ["hook", "pre-hook", "extra"])
def test_a_hook_that_fails_while_saving_is_named_with_its_module(act: str, kind: str) -> None:
    inner: nn.Module = Extra(2, 2) if kind == "extra" else nn.Linear(2, 2)
    if kind == "hook":
        inner.register_state_dict_post_hook(state_hook)
    elif kind == "pre-hook":
        inner.register_state_dict_pre_hook(state_hook)
    else:
        inner.fails = True  # type: ignore[assignment]
    with pytest.raises(
        CkptkitError, match=r"(state_hook|get_extra_state) of \w+ at 'inner' failed: Own: "
    ) as caught:
        ACTS[act](nn.ModuleDict({"inner": inner}))
    assert isinstance(caught.value.__cause__, Own)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes_through_hooks(stop: type[BaseException], tmp_path: Path) -> None:
    def end(*_: Any) -> None:
        raise stop

    model = nn.Linear(2, 2)
    model.register_load_state_dict_post_hook(end)
    with pytest.raises(stop):
        ckptkit.load(model, {"weight": torch.ones(2, 2), "bias": torch.ones(2)})
    saving = nn.Linear(2, 2)
    saving.register_state_dict_post_hook(end)
    with pytest.raises(stop):
        ckptkit.signature(saving)
