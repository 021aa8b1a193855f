"""Broken pairs: a model, a checkpoint that does not fit it, and what is true of the failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

State = dict[str, torch.Tensor]
Outcome = Literal["equal", "loads", "none"]


@dataclass(frozen=True)
class Broken:
    """A failure that really happens.

    Args:
        name: of the case.
        causes: the slugs that count as right in the first place; of two causes at once either.
        model: what is loaded into.
        state: what is loaded.
        outcome: what the best config reaches: every tensor where it belongs; all but what is new; nothing.
        expected: what must stand in the model after any load that succeeds, bit by bit.
        signal: which lists of an error are needed to tell the cause.
        simple: whether a cut text still shows the whole fix.
        together: every cause that takes part, where there are two.
        fix_from: who can be asked for the fix. A text hides square weights, orders of parts, and shapes under other names.
    """

    name: str
    causes: tuple[str, ...]
    model: nn.Module
    state: Mapping[str, Any]
    outcome: Outcome
    expected: State = field(default_factory=dict)
    signal: Literal["both", "missing", "unexpected", "shapes"] = "both"
    simple: bool = False
    together: tuple[str, ...] = ()
    fix_from: Literal["text", "objects", "nobody"] = "text"


Make = Callable[[], nn.Module]
CASES: dict[str, Callable[[], Broken]] = {}
CAUSES: dict[str, tuple[str, ...]] = {}  # of each case, without building it


def case(name: str, causes: tuple[str, ...], make: Callable[[str], Broken]) -> None:
    """Keep a case, which is built when it is asked for."""
    assert name not in CASES, name
    CASES[name], CAUSES[name] = lambda: make(name), causes


def seeded(make: Make, seed: int) -> nn.Module:
    """The same weights on every run, whatever was built before; norms and biases too are no constants."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand_like(buffer) * 0.05)
    return model


def tensors(model: nn.Module) -> State:
    return {
        key: value.detach().clone() for key, value in model.state_dict().items() if torch.is_tensor(value)
    }


# ---- names


def renamed(
    name: str,
    make: Make,
    change: Callable[[str], str],
    causes: tuple[str, ...],
    *,
    into: bool = False,
    **truth: Any,
) -> None:
    """A checkpoint under other names; `into`: the checkpoint has the plain names and the model the others."""

    def build(name: str) -> Broken:
        state = tensors(seeded(make, 1))
        if into:
            model = Named(seeded(make, 2), change)
            return Broken(
                name, causes, model, state, "equal", {change(k): v for k, v in state.items()}, **truth
            )
        return Broken(
            name, causes, seeded(make, 2), {change(k): v for k, v in state.items()}, "equal", state, **truth
        )

    case(name, causes, build)


class Named(nn.Module):
    """A model whose keys are called otherwise, as another class would call them."""

    def __init__(self, model: nn.Module, change: Callable[[str], str]) -> None:
        super().__init__()
        for kind, entries in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
            for key, value in entries:
                if kind == "buffer" and key not in model.state_dict():
                    continue
                *path, leaf = change(key).split(".")
                place: nn.Module = self
                for part in path:
                    if part not in place._modules:
                        place.add_module(part, nn.Module())
                    place = place._modules[part]  # type: ignore[assignment]
                if kind == "parameter":
                    place.register_parameter(leaf, nn.Parameter(value.detach().clone(), value.requires_grad))
                else:
                    place.register_buffer(leaf, value.detach().clone())


def prefix(text: str) -> Callable[[str], str]:
    return lambda key: text + key


def substituted(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def change(key: str) -> str:
        for pattern, replacement in pairs:
            key = re.sub(pattern, replacement, key)
        return key

    return change


# ---- sizes, and keys that one side has


def differing(
    name: str,
    source: Make,
    target: Make,
    causes: tuple[str, ...],
    outcome: Outcome,
    new: str = r"$.",
    **truth: Any,
) -> None:
    """Two builds of a model; `new` matches the keys that no checkpoint can fill as they are."""

    def build(name: str) -> Broken:
        state, model = tensors(seeded(source, 1)), seeded(target, 2)
        fits = {
            key: state[key]
            for key, value in model.state_dict().items()
            if key in state and state[key].shape == value.shape and not re.search(new, key)
        }
        return Broken(name, causes, model, state, outcome, {} if outcome == "none" else fits, **truth)

    case(name, causes, build)


def changed(
    name: str,
    make: Make,
    edit: Callable[[State], State],
    causes: tuple[str, ...],
    outcome: Outcome,
    new: str = r"$.",
    **truth: Any,
) -> None:
    """A checkpoint whose tensors were edited; what a fix must bring back is what was there before."""

    def build(name: str) -> Broken:
        state = tensors(seeded(make, 1))
        expected = {key: value for key, value in state.items() if not re.search(new, key)}
        return Broken(
            name,
            causes,
            seeded(make, 2),
            edit(dict(state)),
            outcome,
            {} if outcome == "none" else expected,
            **truth,
        )

    case(name, causes, build)


def without(pattern: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if not re.search(pattern, key)}


def beside(**extra: tuple[int, ...]) -> Callable[[State], State]:
    def edit(state: State) -> State:
        more = {key.replace("__", "."): torch.randn(shape) for key, shape in extra.items()}
        return {**state, **more}

    return edit


def each(pattern: str, change: Callable[[str, torch.Tensor], State]) -> Callable[[State], State]:
    """Replace the tensors whose keys match by one or several."""

    def edit(state: State) -> State:
        found: State = {}
        for key, value in state.items():
            found |= change(key, value) if re.search(pattern, key) else {key: value}
        return found

    return edit


def chained(*edits: Callable[[State], State]) -> Callable[[State], State]:
    def edit(state: State) -> State:
        for one in edits:
            state = one(state)
        return state

    return edit


def under(text: str) -> Callable[[State], State]:
    return lambda state: {text + key: value for key, value in state.items()}
