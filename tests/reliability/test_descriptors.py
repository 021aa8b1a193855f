"""Every opened file closes itself when it is let go of: no function leaves a descriptor or a mapping behind."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

import ckptkit
from ckptkit import CkptkitError
from ckptkit.formats import shard_pool

pytestmark = [
    pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc"),
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
]

CALLS = 6  # one more descriptor after as many shows with the first
RULES = [{"op": "rename", "pattern": r"^0\.", "replacement": "first."}]
SINGLE = ("a.safetensors", "a.pt", "legacy.pt", "nested.pt", "deflated.pt")
KINDS = (
    *SINGLE,
    "shards",
    "bins",
    "dcp",
    "a.json",
    "cut.safetensors",
    "cut.pt",
    "cut.bins",
    "crc.pt",
    "cut.dcp",
    "no",
)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in every format that is read, and damaged."""
    top = tmp_path_factory.mktemp("files")
    state = dict(model().state_dict())
    ckptkit.save(state, top / "a.safetensors")
    ckptkit.save(state, top / "a.json")
    ckptkit.save(state, top / "shards", max_shard_size="1kB")
    torch.save(state, top / "a.pt")
    torch.save(
        {"model": state, "epoch": 3, "optimizer": torch.optim.Adam(model().parameters())}, top / "nested.pt"
    )
    torch.save(state, top / "legacy.pt", _use_new_zipfile_serialization=False)
    deflate(top / "a.pt", top / "deflated.pt")
    (top / "bins").mkdir()
    names = {key: f"pytorch_model-{n:05d}-of-{len(state):05d}.bin" for n, key in enumerate(state, 1)}
    for key, name in names.items():
        torch.save({key: state[key]}, top / "bins" / name)
    index = {"metadata": {}, "weight_map": names}
    (top / "bins" / "pytorch_model.bin.index.json").write_text(str(index).replace("'", '"'))
    dcp.save(state, storage_writer=dcp.FileSystemWriter(top / "dcp"), no_dist=True)
    for name in ("a.safetensors", "a.pt"):
        (top / f"cut.{name[2:]}").write_bytes((top / name).read_bytes()[:-700])
    damaged = bytearray((top / "a.pt").read_bytes())
    at = damaged.index(state["0.weight"].numpy().tobytes())
    damaged[at] ^= 1
    (top / "crc.pt").write_bytes(damaged)
    for name in ("bins", "dcp"):
        shutil.copytree(top / name, top / f"cut.{name}")
        largest = max((top / f"cut.{name}").iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(largest, 100)
    return top


def deflate(source: Path, target: Path) -> None:
    import zipfile

    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))


def use(checkpoint: ckptkit.Checkpoint) -> None:
    for key in checkpoint:
        checkpoint[key]
        checkpoint.get_slice(key)[0:1]


# What a user does with a path, by the name of the public function; none of them closes anything.
CALLED: dict[str, Callable[[Path, Path], Any]] = {
    "open": lambda path, _: use(ckptkit.open(path)),
    "signature": lambda path, _: ckptkit.signature(path),
    "plan": lambda path, _: ckptkit.plan(path, RULES),
    "remap": lambda path, _: use(ckptkit.remap(path, RULES)),
    "save": lambda path, out: ckptkit.save(ckptkit.remap(path, RULES), out / "out.pt", overwrite=True),
    "check": lambda path, _: ckptkit.check(model(), path),
    "load": lambda path, _: ckptkit.load(model(), path),
    "load_hook": lambda path, _: ckptkit.load_hook(RULES)(model(), dict(ckptkit.open(path)), ""),
    "diff": lambda path, _: ckptkit.diff(path, path, values=True),
    "verify": lambda path, _: ckptkit.verify(path),
    "infer": lambda path, _: ckptkit.infer(path, path),
    "explain": lambda path, _: ckptkit.explain(error_of(path)),
    "explaining": lambda path, _: explained(path),
    "freeze": lambda path, _: ckptkit.freeze(loaded(path), {"freeze": ["0.*"]}),
    "unfreeze": lambda path, _: ckptkit.unfreeze(loaded(path)),
    "param_groups": lambda path, _: ckptkit.param_groups(loaded(path), {"lr": 0.1}),
    "verify_roundtrip": lambda path, _: ckptkit.verify_roundtrip(path, RULES),
    "save_plan": lambda path, out: ckptkit.save_plan(ckptkit.plan(path, RULES), out / "p.json", overwrite=True),
    "load_plan": lambda path, _: ckptkit.load_plan(path),
}  # fmt: skip
# The same, refused: nothing of what an error holds outlives it.
REFUSED: dict[str, Callable[[Path, Path], Any]] = {
    "open": lambda path, _: ckptkit.open(path, root="nowhere"),
    "key": lambda path, _: ckptkit.open(path)["nowhere"],
    "plan": lambda path, _: ckptkit.plan(path, [{"op": "drop", "keys": ["nowhere"]}]),
    "remap": lambda path, _: ckptkit.remap(path, [{"op": "rename", "pattern": ".*", "replacement": "one"}]),
    "save": lambda path, out: ckptkit.save(path, out),
    "load": lambda path, _: ckptkit.load(nn.Linear(3, 5), path),
    "closed": lambda path, _: closed(path),
    "assign": lambda path, _: ckptkit.load(model(), path, {"assign": True}),
}


def error_of(path: Path) -> str:
    try:
        ckptkit.load(nn.Linear(3, 5), path)
    except CkptkitError as error:
        return str(error)
    raise AssertionError("it fits")


def explained(path: Path) -> None:
    with suppress(RuntimeError), ckptkit.explaining():
        nn.Linear(3, 5).load_state_dict(ckptkit.open(path))


def loaded(path: Path) -> nn.Module:
    made = model()
    ckptkit.load(made, path)
    return made


def closed(path: Path) -> None:
    with ckptkit.open(path) as checkpoint:
        pass
    use(checkpoint)


def counts(folder: Path) -> tuple[int, int]:
    """Open descriptors, and mappings of files in a folder."""
    mapped = sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())
    return len(os.listdir("/proc/self/fd")), mapped


def growth(call: Callable[[Path, Path], Any], path: Path, out: Path) -> tuple[int, int]:
    """How many more there are after many calls, none of which the garbage collector cleaned up after."""
    for _ in range(2):  # imports, caches, thread pools
        with suppress(CkptkitError):
            call(path, out)
    gc.collect()
    before = counts(path.parent)
    gc.disable()
    try:
        for _ in range(CALLS):
            with suppress(CkptkitError):
                call(path, out)
        after = counts(path.parent)
    finally:
        gc.enable()
    return after[0] - before[0], after[1] - before[1]


@pytest.fixture(autouse=True)
def cheap_collections() -> Iterator[None]:
    """What the libraries keep for good is not walked again for each function: half a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_every_public_function_is_called() -> None:
    functions = {name for name in ckptkit.__all__ if name[0].islower() and callable(getattr(ckptkit, name))}
    assert functions == set(CALLED)


@pytest.mark.parametrize("kind", KINDS)
def test_no_public_function_leaves_a_descriptor_or_a_mapping(kind: str, folder: Path, tmp_path: Path) -> None:
    grown = {name: growth(call, folder / kind, tmp_path) for name, call in CALLED.items()}
    grown |= {f"refused {name}": growth(call, folder / kind, tmp_path) for name, call in REFUSED.items()}
    assert {name: more for name, more in grown.items() if more != (0, 0)} == {}


@pytest.mark.parametrize("kind", ["shards", "bins"])
def test_shards_that_are_opened_in_turn_are_let_go_of(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_pool, "most_open", lambda: 2)
    names = ("open", "save", "load", "check", "verify")
    grown = {name: growth(CALLED[name], folder / kind, tmp_path) for name in names}
    assert {name: more for name, more in grown.items() if more != (0, 0)} == {}


@pytest.mark.parametrize("most", [1, 256])
def test_a_shard_whose_tensors_have_no_bytes_is_let_go_of(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why a tensor has none is kept as an error, and errors hold what they passed through."""
    monkeypatch.setattr(shard_pool, "most_open", lambda: most)
    names = {"a": "x-00001-of-00002.bin", "b": "x-00002-of-00002.bin"}
    for key, name in names.items():
        torch.save({key: torch.ones(2, device="meta")}, tmp_path / name)
    (tmp_path / "x.bin.index.json").write_text(str({"weight_map": names}).replace("'", '"'))

    def call(path: Path, _: Path) -> None:
        source = ckptkit.open(path).source
        for key in names:
            for _ in range(3):
                with pytest.raises(CkptkitError, match="has a shape but no data"):
                    source.view(key)

    assert growth(call, tmp_path, tmp_path) == (0, 0)


@pytest.mark.parametrize("kind", SINGLE)
def test_a_tensor_keeps_the_bytes_it_looks_at_and_nothing_else(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    """Deleted, a file stays on the disk as long as somebody has a tensor of it, and no longer."""
    path = tmp_path / "copy"
    shutil.copy(folder / kind, path)
    before = counts(tmp_path)
    with ckptkit.open(folder / kind) as checkpoint:
        expected = checkpoint["0.weight"].clone()
    tensor = ckptkit.open(path)["0.weight"]
    opened = counts(tmp_path)
    assert opened[0] - before[0] <= 1 and opened[1] - before[1] <= 1  # the mapping, and its own descriptor
    path.unlink()
    part = tensor[3:5]
    del tensor
    assert part.equal(expected[3:5])
    del part
    assert counts(tmp_path) == before


@pytest.mark.parametrize("kind", [*SINGLE, "shards", "bins", "dcp"])
def test_what_was_closed_says_so_and_what_it_gave_stays(kind: str, folder: Path) -> None:
    with ckptkit.open(folder / kind) as checkpoint:
        tensors = dict(checkpoint)
        expected = {key: tensor.clone() for key, tensor in tensors.items()}
    checkpoint.close()  # twice is as once
    assert all(tensor.equal(expected[key]) for key, tensor in tensors.items())
    for key in checkpoint:
        with pytest.raises(CkptkitError, match="it was closed; open it again"):
            checkpoint[key]
    again = pickle.loads(pickle.dumps(checkpoint))
    assert all(again[key].equal(tensor) for key, tensor in expected.items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are spawned here")
@pytest.mark.parametrize("kind", [*SINGLE, "shards", "dcp"])
def test_a_forked_process_reads_and_lets_go_by_itself(kind: str, folder: Path) -> None:
    checkpoint = ckptkit.open(folder / kind)
    expected = {key: float(tensor.sum()) for key, tensor in checkpoint.items()}
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(any(float(tensor.sum()) != expected[key] for key, tensor in checkpoint.items()))
            checkpoint.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert {key: float(tensor.sum()) for key, tensor in checkpoint.items()} == expected


def test_more_calls_than_descriptors_are_no_matter(folder: Path) -> None:
    script = """
import sys, ckptkit
for _ in range(60):
    ckptkit.plan(sys.argv[1], []), ckptkit.open(sys.argv[1]), ckptkit.remap(sys.argv[2], [])
kept = ckptkit.open(sys.argv[1])
"""
    command = f'ulimit -n 40; exec "{sys.executable}" -W error -c "$0" "$1" "$2"'
    done = subprocess.run(
        ["sh", "-c", command, script, str(folder / "a.safetensors"), str(folder / "a.pt")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
