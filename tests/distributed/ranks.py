"""What each rank of the two-process tests does: ``python -m distributed.ranks CASE FOLDER RANK``."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import ckptkit

WORLD = 2
WIDE = 3000  # a 36 MB weight: large beside what a process needs anyway


class Net(nn.Module):
    """Rows that two ranks do not share evenly, a buffer, and a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.norm = nn.BatchNorm1d(6)
        self.odd = nn.Linear(6, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        value = self.embed(tokens)
        for layer in self.layers:
            value = layer(value).relu()
        result: torch.Tensor = self.odd(self.norm(value))
        return result


class Large(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDE, WIDE, bias=False) for _ in range(6))


def sharded(model: nn.Module) -> nn.Module:
    for layer in model.layers:  # type: ignore[union-attr]
        fully_shard(layer)
    fully_shard(model)
    return model


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        key: value.full_tensor() if isinstance(value, DTensor) else value
        for key, value in model.state_dict().items()
    }


def equal(folder: Path) -> dict[str, Any]:
    """Load one file with a prefix into a sharded model, and compare with the unsharded result."""
    torch.manual_seed(1)  # the same on each rank, and not the file's values
    model = sharded(Net())
    report = ckptkit.load(
        model, folder / "net.safetensors", {"rules": [{"op": "strip_prefix", "prefix": "m."}]}
    )
    plain = Net()
    ckptkit.load(plain, folder / "net.safetensors", {"rules": [{"op": "strip_prefix", "prefix": "m."}]})
    got = whole(model)
    same = all(torch.equal(got[key], value) for key, value in plain.state_dict().items())
    parts = sum(isinstance(p, DTensor) for p in model.parameters())
    output = model.eval()(torch.arange(5))  # puts the parameters together
    return {
        "same": same and set(got) == set(plain.state_dict()),
        "output": torch.allclose(output, plain.eval()(torch.arange(5))),
        "sharded": parts,
        "loaded": len(report.loaded),
    }


def assigned(folder: Path) -> dict[str, Any]:
    """A model that was sharded on the meta device gets its parameters by assignment."""
    with torch.device("meta"):
        model = sharded(Net())
    rules = [{"op": "strip_prefix", "prefix": "m."}]
    ckptkit.load(model, folder / "net.safetensors", {"rules": rules, "assign": True})
    plain = Net()
    ckptkit.load(plain, folder / "net.safetensors", {"rules": rules})
    got = whole(model)
    return {
        "same": all(torch.equal(got[key], value) for key, value in plain.state_dict().items()),
        "sharded": sum(isinstance(p, DTensor) for p in model.parameters()),
        "meta": [key for key, value in model.state_dict().items() if value.is_meta],
    }


def refused(folder: Path) -> dict[str, Any]:
    """What does not fit changes nothing, on any rank."""
    model = sharded(Net())
    before = {key: value.clone() for key, value in whole(model).items()}
    try:
        ckptkit.load(model, folder / "net.safetensors")
        error = ""
    except ckptkit.IncompatibleKeysError as refusal:
        error = type(refusal).__name__
    after = whole(model)
    return {"error": error, "same": all(torch.equal(after[key], value) for key, value in before.items())}


def memory(folder: Path) -> dict[str, Any]:
    """Anonymous memory that a load takes beyond the shards it fills, in bytes."""
    with torch.device("meta"):
        model = sharded(Large())
    peak = _Peak()
    ckptkit.load(model, folder / "large.safetensors", {"assign": True})
    taken = peak.taken()
    first = model.layers[0].weight  # type: ignore[union-attr,index]
    assert isinstance(first, DTensor)
    return {
        "taken": taken,
        "shard": sum(p.to_local().numel() * 4 for p in model.parameters() if isinstance(p, DTensor)),
        "right": bool((first.to_local() == 1.0).all()),
    }


class _Peak:
    """The largest anonymous memory of this process while it is watched (Linux)."""

    def __init__(self) -> None:
        self.before = self.most = _anonymous()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.most = max(self.most, _anonymous())

    def taken(self) -> int:
        self._done.set()
        self._watcher.join()
        return max(self.most, _anonymous()) - self.before


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "equal": equal,
    "assigned": assigned,
    "refused": refused,
    "memory": memory,
}


def main() -> None:
    case, folder, rank = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    result = CASES[case](folder)
    (folder / f"result-{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
