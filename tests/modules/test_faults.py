"""Whatever stops a load, anywhere: the model is what it was, or wholly filled, or the error names what is neither."""

from __future__ import annotations

import ast
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit
from ckptkit.modules import filling
from ckptkit.modules.copying import Step

from .faults import Stop, interrupt
from .photograph import Photograph, data

FULL = "CKPTKIT_FULL" in os.environ
LINES = 40 if FULL else 10  # of each case
TIMES = 100 if FULL else 15  # interrupts of one process
TESTS = Path(__file__).parent.parent


class OwnCopy(nn.Parameter):
    """A parameter whose class copies in a way of its own, and refuses while `broken`."""

    broken = False

    def copy_(self, *arguments: Any, **keywords: Any) -> Any:
        result = super().copy_(*arguments, **keywords)
        if OwnCopy.broken and not self.is_meta:
            raise RuntimeError("this parameter is locked")
        return result


class OwnWay(nn.Linear):
    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state, prefix, *rest)
        self.loaded = True


def base(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype)


def half() -> nn.Module:
    return base(torch.float16)


def tied() -> nn.Module:
    model = base()
    model.append(nn.Linear(3, 4))
    model[3].weight = model[0].weight
    return model


def hooked() -> nn.Module:
    def before(module: Any, state: Any, prefix: str, *_: Any) -> None:
        state[prefix + "weight"] = state[prefix + "weight"] * 1
        with torch.no_grad():
            module.weight.zero_()
        module.seen = True

    def after(module: Any, keys: Any) -> None:
        module.added = nn.Linear(1, 1)

    model = base()
    model[0].register_load_state_dict_pre_hook(before)
    model[2].register_load_state_dict_post_hook(after)
    return model


def own_way() -> nn.Module:
    model = base()
    model.append(OwnWay(2, 2))
    return model


def subclassed() -> nn.Module:
    model = base()
    model[2].weight = OwnCopy(model[2].weight.detach())
    return model


def one_storage() -> nn.Module:
    model = base()
    flat = torch.cat([model[0].weight.detach().flatten(), model[2].weight.detach().flatten()])
    model[0].weight = nn.Parameter(flat[:12].view(4, 3))
    model[2].weight = nn.Parameter(flat[12:].view(2, 4))
    return model


CONCAT = [
    {"op": "rename", "pattern": r"^2\.weight$", "replacement": "whole"},
    {"op": "split", "pattern": "^whole$", "into": ["a", "b"], "dim": 0, "sizes": [1, 1]},
    {"op": "concat", "patterns": ["^a$", "^b$"], "into": "2.weight", "dim": 0},
]


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    config: dict[str, Any]


CASES = {
    "plain": Case(base, {}),
    "cast on the way": Case(half, {}),
    "cast by a rule": Case(base, {"rules": [{"op": "cast", "dtype": "float16", "keys": ["2.*"]}]}),
    "another dtype": Case(base, {"dtype": "float64"}),
    "assign": Case(base, {"assign": True}),
    "ties": Case(tied, {}),
    "ties, assigned": Case(tied, {"assign": True}),
    "hooks": Case(hooked, {}),
    "hooks, assigned": Case(hooked, {"assign": True}),
    "a class of its own way": Case(own_way, {}),
    "a parameter of its own class": Case(subclassed, {}),
    "parameters in one storage": Case(one_storage, {}),
    "computed": Case(base, {"rules": CONCAT}),
}


def source(model: nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = {}
    for key, value in model.state_dict().items():
        fresh = torch.rand(value.shape).to(torch.float32 if value.is_floating_point() else value.dtype)
        state[key] = next(
            (state[k] for k, v in model.state_dict().items() if k in state and v is value), fresh
        )
    if "3.weight" in state and state["3.weight"].shape == (4, 3):
        state["3.weight"] = state["0.weight"]
    return state


def no_memory() -> None:
    raise MemoryError("injected")


def lines(case: Case, state: dict[str, Any], undoing: bool) -> int:
    with Stop(0, None, undoing) as stop:
        ckptkit.load(case.build(), state, case.config)
    return stop.count


def complete(case: Case, state: dict[str, Any]) -> dict[str, Any]:
    """The bytes of a model that was filled without a fault."""
    model = case.build()
    ckptkit.load(model, state, case.config)
    return {key: data(value) for key, value in model.state_dict().items()}


def attempt(case: Case, filled: dict[str, Any], run: Callable[[nn.Module], Any]) -> None:
    """Load under a fault, and hold the outcome against the promise."""
    model = case.build()
    before, handler = Photograph(model), signal.getsignal(signal.SIGINT)
    error: BaseException | None = None
    try:
        run(model)
    except (Exception, KeyboardInterrupt) as stopped:
        error = stopped
    assert signal.getsignal(signal.SIGINT) is handler
    changed = Photograph(model).different(before)
    if error is None or (changed and not isinstance(error, ckptkit.CkptkitError)):
        # What comes after the last copy finds the model filled.
        assert {key: data(value) for key, value in model.state_dict().items()} == filled
    elif changed:
        assert "is not as it was before" in str(error), (changed, error)
        assert isinstance(error, ckptkit.IncompatibleKeysError)
        assert {*changed} <= {problem.location for problem in error.problems}, (changed, error)
        assert filling.SMALL == 0
    else:
        assert "not as it was" not in str(error) or filling.SMALL == 0


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the model counts as one of which everything is kept."""
    if request.param == "large":
        monkeypatch.setattr(filling, "SMALL", 0)
    return str(request.param)


def chosen(count: int, number: int, seed: str) -> Iterator[int]:
    """Lines spread over all of them, others each time the code changes."""
    yield from sorted(random.Random(f"{seed}{count}").sample(range(1, count + 1), min(number, count)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fault", [interrupt, no_memory])
def test_a_fault_at_any_line_leaves_the_model_whole(name: str, fault: Callable[[], None], size: str) -> None:
    case = CASES[name]
    state = source(case.build())
    undoing, filled = fault is interrupt, complete(case, state)
    for line in chosen(lines(case, state, undoing), LINES, name):

        def run(model: nn.Module, line: int = line) -> None:
            with Stop(line, fault, undoing):
                ckptkit.load(model, state, case.config)

        attempt(case, filled, run)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fault", [interrupt, no_memory])
def test_a_fault_at_any_tensor_leaves_the_model_whole(
    name: str, fault: Callable[[], None], size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after every write into a tensor that copying does, by whatever way."""
    case = CASES[name]
    state = source(case.build())
    filled = complete(case, state)
    write, left = torch.Tensor.copy_, [0]
    over: list[bool] = []

    def write_or_stop(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0 and number % 2:
            fault()
        result = write(tensor, *arguments, **keywords)
        if left[0] == 0 and not number % 2:
            fault()
        return result

    monkeypatch.setattr(torch.Tensor, "copy_", write_or_stop)
    for number in range(1, 80):

        def run(model: nn.Module, turn: int = (number + 1) // 2) -> None:
            left[0] = turn
            try:
                ckptkit.load(model, state, case.config)
                over.append(left[0] > 0)
            finally:
                left[0] = 0

        attempt(case, filled, run)
        if any(over):
            break
    assert any(over)


def test_a_process_that_is_interrupted_at_random_moments_never_holds_half_a_model(tmp_path: Path) -> None:
    paths = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "ignore", "-m", "modules.interrupted", str(tmp_path), str(TIMES)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        moments = random.Random(0)
        end = time.monotonic() + 300
        while child.poll() is None and time.monotonic() < end:
            time.sleep(moments.uniform(0.002, 0.04))
            child.send_signal(signal.SIGINT)
        child.kill()
        told = child.stdout.read()
    outcomes = ast.literal_eval(told)
    assert outcomes["torn"] == 0
    assert outcomes["old"] + outcomes["new"] == TIMES


def test_a_second_interrupt_and_other_signals_wait_and_each_handler_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All signals of a user come while the last tensor is copied; the model is filled, and all are heard of."""
    monkeypatch.setattr(filling, "SMALL", 0)
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        assert frame.f_lineno  # as handlers do that show where the program is
        raise KeyboardInterrupt

    model, numbers = base(), (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
    state = source(model)
    copy = Step.carry_out

    def copy_under_signals(step: Step) -> None:
        copy(step)
        for number in (*numbers, *numbers):
            signal.raise_signal(number)

    monkeypatch.setattr(Step, "carry_out", copy_under_signals)
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        with pytest.raises(KeyboardInterrupt):
            ckptkit.load(model, state)
        assert sorted(heard) == sorted(numbers)
        assert all(signal.getsignal(number) is hear for number in numbers)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_parameter_class_that_refuses_is_undone(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    model = subclassed()
    before = Photograph(model)
    monkeypatch.setattr(OwnCopy, "broken", True)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="this parameter is locked"):
        ckptkit.load(model, source(model))
    assert not Photograph(model).different(before)


def test_a_hook_that_puts_a_list_into_the_state_is_refused(size: str) -> None:
    model = base()
    model[2].register_load_state_dict_pre_hook(
        lambda module, state, prefix, *_: state.update({prefix + "bias": [1.0, 2.0]})
    )
    before = Photograph(model)
    with pytest.raises(ckptkit.IncompatibleKeysError, match="received <class 'list'>"):
        ckptkit.load(model, source(model))
    assert not Photograph(model).different(before)


def test_a_hook_after_the_load_that_adds_a_module_and_raises_leaves_none(size: str) -> None:
    def add(module: Any, keys: Any) -> None:
        module.extra = nn.Linear(1, 1)
        module[0].register_forward_hook(lambda *_: None)
        module.eval()
        module[1]._non_persistent_buffers_set.add("running_var")
        raise OSError("no space left")

    model = base()
    model.register_load_state_dict_post_hook(add)
    before = Photograph(model)
    with pytest.raises(
        ckptkit.IncompatibleKeysError,
        match="as it was before: the hook add of Sequential .* failed: .*no space left",
    ):
        ckptkit.load(model, source(model))
    assert not Photograph(model).different(before)


@pytest.mark.parametrize("config", [{}, {"dtype": "float64"}, CASES["cast by a rule"].config])
def test_memory_that_is_refused_for_any_cast_is_undone(
    monkeypatch: pytest.MonkeyPatch, size: str, config: dict[str, Any]
) -> None:
    """Every allocation of a cast, counted over a whole load, fails once."""
    state = source(half())
    convert, left = torch.Tensor.to, [0]

    def refuse(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return convert(tensor, *arguments, **keywords)

    monkeypatch.setattr(torch.Tensor, "to", refuse)
    for number in range(1, 200):
        model = half()
        before = Photograph(model)
        left[0] = number
        try:
            ckptkit.load(model, state, config)
        except (ckptkit.CkptkitError, RuntimeError):  # the latter before anything was begun
            left[0] = 0
            assert not Photograph(model).different(before)
        if left[0] > 0:
            break
    assert 3 < number < 199
