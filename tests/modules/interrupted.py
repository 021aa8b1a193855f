"""Loads two checkpoints by turns, and looks after each interrupt whether the model is wholly one of them.

``python -m modules.interrupted FOLDER TIMES``; who starts it sends interrupts from ``ready`` on.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import ckptkit
from ckptkit.modules import filling

WIDE = 400
LAYERS = {"large": 24, "small": 4}  # 15 MB, of which no copy is kept; 2.6 MB, of which one is


def build(layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDE, WIDE) for _ in range(layers)), nn.BatchNorm1d(3))


def holds(model: nn.Module) -> set[float]:
    """The one or two values that its parameters have."""
    found: set[float] = set()
    for value in model.parameters():
        low, high = value.detach().aminmax()
        found |= {float(low), float(high)}
    return found


class Ear:
    """Hears one interrupt of a load; others are let pass, however close they come."""

    open = False

    def __call__(self, number: int, frame: Any) -> None:
        if self.open:
            self.open = False
            raise KeyboardInterrupt


def main() -> None:
    folder, times = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(2)
    filling.SMALL = 4 << 20
    models = {name: build(count) for name, count in LAYERS.items()}
    for name, model in models.items():
        for value in (1.0, 2.0):
            state = {k: torch.full_like(v, value) for k, v in model.state_dict().items()}
            ckptkit.save(state, folder / f"{name}-{value:.0f}.safetensors")
        ckptkit.load(model, folder / f"{name}-1.safetensors")
    outcomes = {"old": 0, "new": 0, "torn": 0}
    turn = 0
    ear = Ear()
    signal.signal(signal.SIGINT, ear)
    print("ready", flush=True)
    while sum(outcomes.values()) < times:
        turn += 1
        name = "large" if turn % 4 < 2 else "small"
        new = float(1 + turn % 2)
        model = models[name]
        before, interrupted = holds(model), False
        try:
            ear.open = True
            ckptkit.load(model, folder / f"{name}-{new:.0f}.safetensors")
            ear.open = False
        except KeyboardInterrupt:
            interrupted = True
        after = holds(model)
        if interrupted:
            outcomes["torn" if len(after) > 1 else "old" if after == before else "new"] += 1
        else:
            assert after == {new}
    print(outcomes, flush=True)


if __name__ == "__main__":
    main()
