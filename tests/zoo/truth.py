"""What is true of one file or folder of the zoo, and the list of all."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Opens:
    """It is a checkpoint.

    Args:
        path: what to open.
        state: what the tool's own loader gives, in its order; second names of ties come last in safetensors files.
        flags: of the command line: a root, a variant, what to drop.
        ties: keys that are one tensor.
        says: words that its notes hold.
        verified: what `verify` says of it.
        ordered: whether the file keeps the order of `state`; safetensors' own writer does not.
    """

    path: Path
    state: State
    flags: tuple[str, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    says: tuple[str, ...] = ()
    verified: str = "whole"
    ordered: bool = True


@dataclass(frozen=True)
class Refused:
    """It is none, or not one alone.

    Args:
        path: what somebody would give.
        says: words of the message: what it is, and the next step.
        verified: the outcome of `verify`; "error" where that refuses too.
        flags: of the command line.
    """

    path: Path
    says: tuple[str, ...]
    verified: str = "error"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class IsPart:
    """It is a part of a checkpoint, which `inspect` shows and nothing else takes.

    Args:
        path: the part.
        kind: of the whole.
        index: which part, from 0.
        count: how many there are, None where nothing says it.
    """

    path: Path
    kind: str
    index: int | None
    count: int | None


Truth = Opens | Refused | IsPart
Make = Callable[[Path], Truth]


@dataclass(frozen=True)
class Case:
    """One entry: how it is made in an empty folder, and what is true of it."""

    name: str
    make: Make


_FAMILIES = (
    "torch_files",
    "safetensors_files",
    "distributed",
    "parallel",
    "trainers",
    "hubs",
    "several",
    "objects",
    "foreign",
    "broken",
)
_CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Make], Make]:
    """Enter a function into the zoo."""

    def enter(make: Make) -> Make:
        assert name not in _CASES, name
        _CASES[name] = Case(name, make)
        return make

    return enter


def every_case() -> dict[str, Case]:
    """The whole zoo, by name."""
    for family in _FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    return _CASES
