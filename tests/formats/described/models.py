"""The models that are saved whole."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.fx
from torch import nn

from ...modules.architectures import ARCHITECTURES
from . import users_code as users


def _transformer() -> nn.Module:
    return nn.Transformer(8, 2, 1, 1, 16)


WHOLE: dict[str, Callable[[], nn.Module]] = {
    # torch itself refuses to pickle parametrised modules.
    **{name: build for name, build in ARCHITECTURES.items() if name != "parametrised"},
    "linear": lambda: nn.Linear(2, 3),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "instance norm": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "attention": lambda: nn.MultiheadAttention(4, 2, kdim=3),
    "lstm": lambda: nn.LSTM(2, 3, 2, bidirectional=True, proj_size=1),
    "transformer": _transformer,
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "channels last": lambda: nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last),
    "double": lambda: nn.Sequential(nn.Linear(2, 2), nn.PReLU(3), nn.GroupNorm(1, 2)).double(),
    "data parallel": lambda: nn.DataParallel(users.Tied()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),  # type: ignore[dict-item]
    "traced": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))),
    "nothing": lambda: nn.Sequential(nn.ReLU(), nn.Linear(1, 1)),
    "deep": lambda: _nested(60),
    "tied": users.Tied,
    "shared": users.Shared,
    "linked": users.Linked,
    "slotted": users.Slotted,
    "lists": users.Lists,
    "mixed": users.HalfTrained,
    "subclassed": lambda: nn.Sequential(users.Subclassed(2)),
    "pruned": users.pruned,
    "normed": users.normed,
    "copied": lambda: copy.deepcopy(users.Tied()).eval().requires_grad_(False),
}  # fmt: skip


def _nested(levels: int) -> nn.Module:
    model: nn.Module = nn.Linear(1, 1)
    for _ in range(levels):
        model = nn.Sequential(model)
    return model
