"""Modules as users write them; no process that reads them may import this file."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune


class Tied(nn.Module):
    """One embedding under two names, a buffer that is not saved, and a module that is None."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.unused: nn.Module | None
        self.register_module("unused", None)
        self.register_parameter("nothing", None)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("empty", None)
        self.plain = torch.zeros(9)


class Shared(nn.Module):
    """One module at two places, and a buffer that looks into another."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = self.one
        base = torch.arange(12.0).reshape(3, 4)
        self.register_buffer("whole", base)
        self.register_buffer("turned", base.t())
        self.register_buffer("part", base[1, 1:3])


class Linked(nn.Module):
    """A child that knows its parent, a config that knows itself, a callable, a device, a dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(2, 2)
        self.child.__dict__["parent"] = self
        config: dict[str, Any] = {"name": "x"}
        config["self"] = config
        self.config = config
        self.act = torch.nn.functional.gelu
        self.where = torch.device("cpu")
        self.kind = torch.float16


class Slotted(nn.Module):
    """A name in `__slots__`, so that the state is a pair."""

    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 3, dtype=torch.complex64))
        self.extra = 3


class Lists(nn.Module):
    """Every container of modules and parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU()))
        self.many = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
        self.named = nn.ModuleDict({"x.y".replace(".", "_"): nn.GRU(2, 3, 2), "n": nn.LayerNorm(2)})
        self.params = nn.ParameterList([torch.randn(2), torch.randn(1)])
        self.dict = nn.ParameterDict({"k": torch.randn(3), "l": torch.randn(1)})


class Extra(nn.Module):
    """An extra state, which no attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    def get_extra_state(self) -> Any:
        return io.BytesIO(b"fp8")

    def set_extra_state(self, state: Any) -> None: ...


class HalfTrained(nn.Module):
    """Mixed dtypes, frozen parameters, a meta buffer's stand-in of no elements."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(3).bfloat16(), requires_grad=False)
        self.b = nn.Parameter(torch.empty(0, 4))
        self.c = nn.Parameter(torch.randn(4, 4).half()[::2, 1:])
        self.register_buffer("d", torch.tensor(True))
        self.register_buffer("e", torch.randn(2).to(torch.float8_e4m3fn))


class Subclassed(nn.BatchNorm2d):
    """A class of a user above one of torch's that has a version."""


def pruned() -> nn.Module:
    """A module whose weight is stored as two parts."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(1, 2, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def normed() -> nn.Module:
    """Weight norm as torch had it before parametrizations."""
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.utils.spectral_norm(nn.Linear(4, 2)))
