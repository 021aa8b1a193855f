"""Nothing that is short is shared out to torch's threads, and what the user set for them stays."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ckptkit.threads import LONG, one_thread

# The libraries below torch start their threads when the first operation is shared out, so their number tells.
PROGRAM = """
import json, os, sys, time
import torch
from torch import nn
import ckptkit
from ckptkit.execute import write
from ckptkit.stats import measure

def model():
    return nn.ModuleDict({name: nn.Linear(400, 400, bias=False) for name in "ab"})

def rules(dtype):
    return [{"op": "transpose", "keys": ["a.*"], "dims": [0, 1]}, {"op": "cast", "dtype": dtype, "keys": ["*"]},
            {"op": "concat", "patterns": ["a.weight", "b.weight"], "into": "ab", "dim": 1}]

torch.set_num_threads(1)
folder = sys.argv[1]
state = {"a.weight": torch.rand(400, 400), "b.weight": torch.rand(400, 400)}
other = {key: value + 1 for key, value in state.items()}
lower = {key: value.bfloat16() for key, value in other.items()}
turned = {"t": torch.rand(400, 400).t(), "c": torch.rand(400, 400, dtype=torch.complex64)}
same, half = model(), model().half()
checkpoints = []
for suffix in ("safetensors", "pt"):
    path = os.path.join(folder, "state." + suffix)
    ckptkit.save(state, path)
    ckptkit.save(turned, os.path.join(folder, "turned." + suffix))
    checkpoints += [path, os.path.join(folder, "turned." + suffix)]
torch.set_num_threads(4)

def stats():
    for path in checkpoints:
        source = ckptkit.open(path).source
        list(measure(source, source.signature))
    list(measure(ckptkit.open(turned).source, ckptkit.signature(turned)))

def verify():
    for path in checkpoints:
        assert ckptkit.verify(path, finite=True, hash=True).ok

def diff():
    for path in checkpoints[::2]:
        ckptkit.diff(path, other, values=True)
        ckptkit.diff(path, state, values=True)
        ckptkit.diff(path, lower, values=True)

def compute():
    for path in checkpoints[::2]:
        checkpoint = ckptkit.open(path)
        for dtype in ("bfloat16", "float64"):
            write(ckptkit.plan(checkpoint, rules(dtype)), checkpoint, path + dtype + ".safetensors")
            dict(ckptkit.remap(checkpoint, rules(dtype)))

def save():
    for suffix in ("safetensors", "pt"):
        ckptkit.save(turned, os.path.join(folder, "again." + suffix))

def load():
    for path in checkpoints[::2]:
        ckptkit.load(same, path)
        ckptkit.load(half, path)
        ckptkit.load(half, path, {"assign": True, "dtype": "bfloat16"})

def started(act):
    before = set(os.listdir("/proc/self/task"))
    act()
    for _ in range(100):  # our own threads have ended, and the system takes a moment to forget them
        new = set(os.listdir("/proc/self/task")) - before
        if not new:
            break
        time.sleep(0.02)
    assert torch.get_num_threads() == 4
    return len(new)

counts = {act.__name__: started(act) for act in (stats, verify, diff, compute, save, load)}
counts["control"] = started(lambda: torch.rand(400, 400) * 2)
print(json.dumps(counts))
"""


def test_no_command_shares_short_operations_out_to_torchs_threads(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    started = json.loads(ran.stdout)
    if not started.pop("control"):
        pytest.skip("torch starts no threads on this machine")
    assert started == dict.fromkeys(started, 0)


@pytest.fixture
def four() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four")
def test_what_the_user_set_returns_after_nesting_and_errors() -> None:
    with pytest.raises(ZeroDivisionError), one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("first_out", ["first", "second"])
def test_threads_that_overlap_leave_to_later_ones_what_the_user_set(first_out: str) -> None:
    entered, leave = (
        {name: threading.Event() for name in ("first", "second")},
        {name: threading.Event() for name in ("first", "second")},
    )
    after: dict[str, int] = {}

    def work(name: str) -> None:
        with one_thread():
            entered[name].set()
            leave[name].wait(60)
        after[name] = torch.get_num_threads()

    workers = {name: threading.Thread(target=work, args=(name,)) for name in ("first", "second")}
    for name, worker in workers.items():  # the second begins inside of the first, and learns its setting
        worker.start()
        entered[name].wait(60)
    for name in (first_out, *({"first", "second"} - {first_out})):
        leave[name].set()
        workers[name].join(60)
    late = threading.Thread(target=lambda: after.update(late=torch.get_num_threads()))
    late.start()
    late.join(60)
    assert after == {"first": 4, "second": 4, "late": 4}
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four")
def test_long_operations_keep_all_threads() -> None:
    long = torch.empty(1).expand(LONG)
    with one_thread(long):
        assert torch.get_num_threads() == 4
    with one_thread(long[1:]):
        assert torch.get_num_threads() == 1
    with one_thread(long[1:], long[1:2]):
        assert torch.get_num_threads() == 4
