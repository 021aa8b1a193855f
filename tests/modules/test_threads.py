"""Threads that load one model, or look at it meanwhile: its hooks stay where they are."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit


class Hooked(nn.Module):
    """Renames old keys by a method, and gives a buffer the checkpoint's size."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("cache", torch.zeros(2))
        self.register_load_state_dict_pre_hook(Hooked.resize)
        self._register_load_state_dict_pre_hook(self.rename)
        self.linear.register_load_state_dict_pre_hook(ckptkit.load_hook({"rules": []}))
        self.register_load_state_dict_post_hook(lambda module, keys: None)

    @staticmethod
    def resize(module: Any, state: Any, prefix: str, *_: Any) -> None:
        if state[prefix + "cache"].shape != module.cache.shape:
            module.cache = torch.empty_like(state[prefix + "cache"])

    def rename(self, state: Any, prefix: str, *_: Any) -> None:
        if prefix + "old" in state:
            state[prefix + "linear.weight"] = state.pop(prefix + "old")


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def hooks(model: nn.Module) -> list[Any]:
    return [
        (id(table), [*table.items()])
        for module in model.modules()
        for table in (module._load_state_dict_pre_hooks, module._load_state_dict_post_hooks)
    ]


@pytest.mark.parametrize("assign", [False, True])
def test_hooks_stay_in_their_tables_while_threads_load_and_check(hurried: None, assign: bool) -> None:
    model = Hooked()
    state: dict[str, Any] = {**model.state_dict(), "cache": torch.arange(5.0)}
    state["linear.bias"] = torch.ones(3)
    state["old"] = state.pop("linear.weight").clone()
    ckptkit.load(model, state)
    before, attributes = hooks(model), {name: set(vars(m)) for name, m in model.named_modules()}
    problems: list[Any] = []
    done = threading.Event()

    def load(check: bool) -> None:
        try:
            for _ in range(4):
                (ckptkit.check if check else ckptkit.load)(
                    model, state, {"assign": assign}
                ).raise_for_errors()
        except BaseException as error:
            problems.append(error)

    def watch() -> None:
        while not done.is_set():
            if hooks(model) != before or model.cache.is_meta:
                problems.append("the hooks of the model are not the same")
                return
            if {name: set(vars(m)) for name, m in model.named_modules()} != attributes:
                problems.append("the attributes of the model are not the same")
                return

    watcher = threading.Thread(target=watch)
    loaders = [threading.Thread(target=load, args=(number == 0,)) for number in range(4)]
    for thread in (watcher, *loaders):
        thread.start()
    for thread in loaders:
        thread.join()
    done.set()
    watcher.join()
    assert not problems
    assert hooks(model) == before
    assert torch.equal(model.cache, torch.arange(5.0))
    assert torch.equal(model.linear.bias, torch.ones(3))


def test_a_check_reaches_the_model_by_no_hook() -> None:
    """Whatever way a hook knows the model by: what it does while it is tried out is undone, or done to a stand-in."""

    def build() -> tuple[nn.Module, list[Any]]:
        model = Hooked()

        def by_closure(state: Any, *_: Any) -> None:
            spoil(model)

        def by_argument(module: Any, *_: Any) -> None:
            spoil(module)

        class Callable:
            def __init__(self) -> None:
                self.model = model

            def __call__(self, *_: Any) -> None:
                spoil(self.model)

        return model, [by_closure, by_argument, Callable()]

    for number in range(3):
        model, spoilers = build()
        if number == 1:
            model.register_load_state_dict_pre_hook(spoilers[1])
        else:
            model._register_load_state_dict_pre_hook(spoilers[number])
        values, tables = {k: v.clone() for k, v in model.state_dict().items()}, hooks(model)
        ckptkit.check(model, model.state_dict())
        assert all(torch.equal(value, values[key]) for key, value in model.state_dict().items())
        assert hooks(model) == tables
        assert not hasattr(model, "spoilt")


def spoil(module: Any) -> None:
    module.spoilt = True
    module.linear.weight.data.zero_()
    module.norm.bias = None
