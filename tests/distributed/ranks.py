"""What each rank of a test does: ``python -m distributed.ranks WORLD RANK FOLDER``; all cases in one process."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import ckptkit
from ckptkit.modules import filling
from modules.faults import Stop, interrupt

Case = Callable[[Path], dict[str, Any]]
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


def trains(folder: Path) -> dict[str, Any]:
    """A model filled by assignment takes a training step as the unsharded one does."""
    with torch.device("meta"):
        model = sharded(Net())
    rules = [{"op": "strip_prefix", "prefix": "m."}]
    plain = Net()
    for each, assign in ((model, True), (plain, False)):
        ckptkit.load(each, folder / "net.safetensors", {"rules": rules, "assign": assign})
        optimizer = torch.optim.SGD(each.parameters(), lr=0.5)
        each(torch.arange(8)).square().sum().backward()
        optimizer.step()
    trained = whole(model)
    moved = {k: torch.allclose(trained[k], v.detach(), atol=1e-5) for k, v in plain.state_dict().items()}
    ckptkit.load(
        model, folder / "net.safetensors", {"rules": rules}
    )  # and once more, in the middle of training
    ckptkit.load(plain, folder / "net.safetensors", {"rules": rules})
    again = whole(model)
    return {
        "differ": [key for key, same in moved.items() if not same],
        "again": all(torch.equal(again[key], value) for key, value in plain.state_dict().items()),
    }


def torch_file(folder: Path) -> dict[str, Any]:
    """Bfloat16 in a torch file, nested, one tensor of it put together from two."""
    rules = [{"op": "concat", "patterns": ["odd.a", "odd.b"], "into": "odd.weight"}]
    model, plain = sharded(Net()), Net()
    for each in (model, plain):
        ckptkit.load(each, folder / "half.pt", {"rules": rules})
    got = whole(model)
    return {"same": all(torch.equal(got[key], value) for key, value in plain.state_dict().items())}


def refused(folder: Path) -> dict[str, Any]:
    """What does not fit changes nothing, on any rank."""
    return attempt(sharded(Net()), folder / "net.safetensors", {})


def attempt(model: nn.Module, path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The error of a load, and whether the model is what it was, by every rank's own parts."""
    before = {key: own(value).clone() for key, value in model.state_dict().items()}
    try:
        ckptkit.load(model, path, config)
        error, words = "", ""
    except ckptkit.CkptkitError as refusal:
        error, words = type(refusal).__name__, str(refusal)
    same = all(torch.equal(own(value), before[key]) for key, value in model.state_dict().items())
    return {"error": error, "words": words, "same": same}


def own(value: torch.Tensor) -> torch.Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def one_lacks_a_key(folder: Path) -> dict[str, Any]:
    name = "short.safetensors" if last() else "net.safetensors"
    return attempt(sharded(Net()), folder / name, {"rules": [{"op": "strip_prefix", "prefix": "m."}]})


def one_has_no_file(folder: Path) -> dict[str, Any]:
    name = "absent.safetensors" if last() else "net.safetensors"
    return attempt(sharded(Net()), folder / name, {"rules": [{"op": "strip_prefix", "prefix": "m."}]})


class Picky(nn.Linear):
    """Looks at the data while it loads, and refuses on the last rank."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        if not state[prefix + "weight"].is_meta:
            super()._load_from_state_dict(state, prefix, *rest)
            if last():
                raise ValueError("these values are no good")


def one_refuses_the_data(folder: Path) -> dict[str, Any]:
    model = Net()
    model.odd = Picky(6, 5)
    return attempt(
        sharded(model), folder / "net.safetensors", {"rules": [{"op": "strip_prefix", "prefix": "m."}]}
    )


def interrupted(folder: Path) -> dict[str, Any]:
    """One rank is interrupted at lines of the loading code, from where on it can tell the other."""
    model, kept = sharded(Net()), filling.SMALL
    rules = [{"op": "strip_prefix", "prefix": "m."}]
    old = {key: own(value).clone() for key, value in model.state_dict().items()}

    def reset() -> None:
        for key, value in model.state_dict().items():
            own(value).copy_(old[key])

    def load(line: int) -> tuple[int, str]:
        error = ""
        with Stop(line, interrupt if last() else None, True, since="describe") as stop:
            try:
                ckptkit.load(model, folder / "net.safetensors", {"rules": rules})
            except (KeyboardInterrupt, ckptkit.CkptkitError) as stopped:
                error = type(stopped).__name__
        return stop.count, error

    count, _ = load(0)
    new = {key: own(value).clone() for key, value in model.state_dict().items()}
    outcomes = []
    for small in (kept, 0):
        filling.SMALL = small
        # The last lines come after the ranks have agreed, when all are filled.
        for line in (*random.Random(small).sample(range(1, count), 24), count - 1, count - 5):
            reset()
            _, error = load(line)
            state = {key: own(value) for key, value in model.state_dict().items()}
            whole = [name for name, values in (("old", old), ("new", new)) if same(state, values)]
            outcomes.append((small > 0, whole, error))
    filling.SMALL = kept
    return {"outcomes": outcomes}


def same(state: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, values[key]) for key, value in state.items())


def last() -> bool:
    return dist.get_rank() == dist.get_world_size() - 1


def grids(folder: Path) -> dict[str, Any]:
    """Placements on a grid of two by two, also such that leave a rank nothing."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))
    wrong = []
    for placements in product([Replicate(), Shard(0), Shard(1)], repeat=2):
        for assign in (False, True):
            model, plain = Net(), Net()
            for module in model.modules():
                for name, value in list(module._parameters.items()):
                    if value is None:
                        continue
                    fitting = [
                        p if p.is_replicate() or p.dim < value.dim() else Replicate() for p in placements
                    ]
                    spread = distribute_tensor(value.detach(), mesh, fitting)
                    module._parameters[name] = nn.Parameter(spread)
            load = {"rules": [{"op": "strip_prefix", "prefix": "m."}]}
            ckptkit.load(model, folder / "net.safetensors", {**load, "assign": assign})
            ckptkit.load(plain, folder / "net.safetensors", load)
            if not equals(model, plain):
                wrong.append([str(placements), assign])
    return {"wrong": wrong}


def hybrid(folder: Path) -> dict[str, Any]:
    """FSDP2 that replicates along one dimension of the mesh and shards along the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    return along(fully_shard(Net(), mesh=mesh), folder)


def tensor_parallel(folder: Path) -> dict[str, Any]:
    """FSDP2 over rows that tensor parallelism has shared out before: strided parts."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    model = Net()
    parallelize_module(model, mesh["tensor"], {"layers.0": ColwiseParallel(), "layers.1": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])
    return along(model, folder)


def along(model: nn.Module, folder: Path) -> dict[str, Any]:
    load = {"rules": [{"op": "strip_prefix", "prefix": "m."}]}
    plain = Net()
    failed = attempt(model, folder / ("short.safetensors" if last() else "net.safetensors"), load)
    ckptkit.load(model, folder / "net.safetensors", load)
    ckptkit.load(plain, folder / "net.safetensors", load)
    kinds = {type(p).__name__ for value in model.parameters() for p in value.placements}
    return {"same": equals(model, plain), "kinds": sorted(kinds), "failed": failed}


def saved(folder: Path) -> dict[str, Any]:
    """torch.distributed.checkpoint of tensors that are shared out in every way, and of an FSDP2 model in training."""
    import torch.distributed.checkpoint as dcp

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))
    values = numbered()
    state: dict[str, Any] = {"tensors": {}, "step": 7}
    for name, value in values.items():
        for number, placements in enumerate(product([Replicate(), Shard(0), Shard(1)], repeat=2)):
            fitting = [p if p.is_replicate() or p.dim < value.dim() else Replicate() for p in placements]
            state["tensors"][f"{name}.{number}"] = distribute_tensor(value, mesh, fitting)
    model = fully_shard(Net(), mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(8)).square().sum().backward()
    optimizer.step()
    state |= {"net": model.state_dict(), "optimizer": optimizer.state_dict()}
    dcp.save(state, checkpoint_id=folder / "saved")
    truth = whole(model)
    if dist.get_rank() == 0:
        torch.save(truth, folder / "truth.pt")
    return {}


def numbered() -> dict[str, torch.Tensor]:
    """Tensors of every rank, whose sizes four ranks do not share evenly."""
    return {
        "one": torch.arange(5.0),
        "two": torch.arange(7 * 6).reshape(7, 6),
        "three": torch.arange(2 * 3 * 5, dtype=torch.float16).reshape(2, 3, 5),
        "transposed": torch.arange(6.0 * 3).reshape(3, 6).t(),
        "none": torch.zeros(0, 3),
    }


def equals(model: nn.Module, plain: nn.Module) -> bool:
    got = whole(model)
    return all(torch.equal(got[key], value) for key, value in plain.state_dict().items())


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


TWO: tuple[Case, ...] = (
    memory,  # first, while the process is small
    equal,
    assigned,
    trains,
    torch_file,
    refused,
    one_lacks_a_key,
    one_has_no_file,
    one_refuses_the_data,
    interrupted,
)
FOUR: tuple[Case, ...] = (grids, hybrid, tensor_parallel, saved)


def main() -> None:
    world, rank, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    results = {}
    for case in TWO if world == 2 else FOUR:
        torch.manual_seed(1)  # the same on each rank, and not the files' values
        results[case.__name__] = case(folder)
        dist.barrier()
    (folder / f"result-{rank}.json").write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
