"""A checkpoint of a wrapped model loads into that model, as torch loads it, and into the model inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import ckptkit

from .test_loading import randomised


class Inner(nn.Module):
    """Has a part that is called as wrappers call theirs, and one that is compiled by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = torch.compile(nn.Linear(3, 2))


Wrap = Callable[[nn.Module], Any]
WRAPS: list[Wrap] = [torch.compile, nn.DataParallel]
# torch.compile of what is compiled is a function, which has no state.
STACKS: list[tuple[Wrap, ...]] = [
    (torch.compile,),
    (nn.DataParallel,),
    (torch.compile, nn.DataParallel),
    (nn.DataParallel, torch.compile),
    (torch.compile, nn.DataParallel, torch.compile),
]


def wrapped(seed: int, stack: Sequence[Wrap]) -> Any:
    model: Any = randomised(Inner(), seed)
    for wrap in stack:
        model = wrap(model)
    return model


def values(model: Any) -> list[list[float]]:
    return [value.flatten().tolist() for value in model.state_dict().values()]


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "-".join(wrap.__name__ for wrap in stack))
def test_a_checkpoint_from_any_layer_of_a_wrapped_model_loads_into_it(stack: tuple[Wrap, ...]) -> None:
    for layers in range(len(stack) + 1):
        source, target = wrapped(1, stack[:layers]), wrapped(2, stack)
        state = dict(source.state_dict())
        assert ckptkit.check(target, state).ok
        report = ckptkit.load(target, state)
        assert values(target) == values(source)
        assert "module.weight" in report.loaded  # named as in the model inside, whatever is around it
        assert report.coverage.parameters == 1.0


@pytest.mark.parametrize("config", [{}, {"strict": False}, {"assign": True}])
def test_the_same_state_that_torch_takes_is_taken(config: dict[str, Any]) -> None:
    source, target, torchs = (wrapped(seed, [torch.compile]) for seed in (1, 2, 2))
    torchs.load_state_dict(source.state_dict())
    report = ckptkit.load(target, source.state_dict(), config)
    assert values(target) == values(torchs)
    assert "the keys stand behind '_orig_mod.', as a wrapped model is saved" in report.notes


def test_what_is_missing_is_named_as_in_the_model_inside() -> None:
    source, target = wrapped(1, [torch.compile]), wrapped(2, [torch.compile])
    state = dict(source.state_dict())
    del state["_orig_mod.norm.weight"]
    report = ckptkit.check(target, state)
    assert (report.missing, report.unexpected) == (("norm.weight",), ())
    with pytest.raises(ckptkit.IncompatibleKeysError, match=r"1 missing: norm.weight"):
        ckptkit.load(target, state)


def test_a_model_without_wrappers_is_told_of_the_prefix_as_before() -> None:
    report = ckptkit.check(Inner(), wrapped(1, [torch.compile]).state_dict())
    assert not report.ok
    assert report.findings[0].cause == "prefix_strip"
